"""Format the lines of several processes for one terminal: time, name, colour."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from realtalk_async.supervision import OutputLine

Stamp = Literal["time", "iso", "none"]

SYSTEM = "system"
"""The name before the notices of the supervisor."""

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
"""The terminal colours of the processes, in turn; red is for failures."""

_RESET = b"\x1b[0m"

_CONTROL = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, erasing, modes, questions
    rb"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # titles and other strings
    rb"|[ -/]*[0-~]?)"  # all others, such as a reset of the terminal
)
"""Control sequences of ECMA-48."""

_COLOUR = re.compile(rb"\x1b\[[0-9;:]*m")


def _keep_colour(sequence: re.Match[bytes]) -> bytes:
    return sequence[0] if _COLOUR.fullmatch(sequence[0]) else b""


def wants_colour(environment: Mapping[str, str], *, is_terminal: bool) -> bool:
    """
    Return whether to use colours: on a terminal that is not ``dumb``.

    ``NO_COLOR`` forbids colours, ``FORCE_COLOR`` demands them everywhere (no-color.org,
    force-color.org).
    """
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR"):
        return True
    return is_terminal and environment.get("TERM") != "dumb"


class LineFormatter:
    """
    Formats lines of processes and notices of the supervisor.

    Args:
        names: The processes, in the order of the file: it determines their colours.
        colour: Whether to use colours.
        stamp: The format of the time of arrival.
    """

    def __init__(
        self, names: Iterable[str], *, colour: bool = False, stamp: Stamp = "time"
    ) -> None:
        self._colour = colour
        self._stamp: Stamp = stamp
        self._width = len(SYSTEM)
        self._colours: dict[str, int] = {}
        self.add(names)

    def add(self, names: Iterable[str]) -> None:
        """Give further names the next colours; those that are known keep theirs."""
        for name in names:
            self._width = max(self._width, len(name))
            place = len(self._colours) % len(COLOURS)
            self._colours.setdefault(name, COLOURS[place])

    def line(self, name: str, line: OutputLine) -> bytes:
        """Return a line of a process, without its end."""
        return self._head(name, line.at, self._colours.get(name, 0)) + self.rest(line)

    def rest(self, line: OutputLine) -> bytes:
        """Return the same without time and name, and without what changes other lines."""
        text = line.text.encode() if line.gap else line.raw.strip(b"\r\n")
        if b"\x1b" in text:
            text = _CONTROL.sub(_keep_colour, text)
        if self._colour and b"\x1b[" in text:
            text += _RESET  # the colours of a process end with its line
        return text

    def notice(self, at: datetime, text: str, *, bad: bool = False) -> bytes:
        """Return a notice of the supervisor as a line."""
        head = self._head(SYSTEM, at, 31 if bad else 0)
        return head + " ".join(text.split()).encode(errors="replace") + b"\n"

    def _head(self, name: str, at: datetime, colour: int) -> bytes:
        stamp = _stamped(at, self._stamp)
        head = f"{stamp}{name:<{self._width}} | ".encode(errors="replace")
        if not self._colour:
            return head
        return b"\x1b[%dm" % colour + head + _RESET


def _stamped(at: datetime, stamp: Stamp) -> str:
    if stamp == "none":
        return ""
    if stamp == "iso":
        return at.isoformat(timespec="milliseconds") + " "
    return f"{at:%H:%M:%S} "


class Continuation:
    """
    Joins a prompt with the rest of its line, unless another line comes between.

    A screen has one open line at most, which the next line of another source ends.
    """

    def __init__(self) -> None:
        self._open: object = None
        self._overwritten: set[object] = set()

    def join(self, source: object, raw: bytes, whole: bytes, rest: bytes) -> bytes:
        """
        Return what is written for a line.

        Args:
            source: Identifies the stream of one incarnation.
            raw: The line as received; without an end it stays open.
            whole: The line as it is shown, without its end.
            rest: The same if it continues the open line.
        """
        is_rest = self._open == source
        is_state, is_end = raw.endswith(b"\r"), not raw.strip(b"\r\n")
        ends_state = source in self._overwritten
        self._overwritten.discard(source)
        if is_state:
            self._overwritten.add(source)
        if is_end and not is_rest and (is_state or ends_state):
            return b""  # the return before a state, or the line feed after one
        text = rest if is_rest else self.close() + whole
        if raw.endswith((b"\r", b"\n")):
            self._open = None
            return text + b"\n"
        self._open = source
        return text

    def close(self) -> bytes:
        """Return what ends the open line; nothing if there is none."""
        was_open, self._open = self._open is not None, None
        return b"\n" if was_open else b""
