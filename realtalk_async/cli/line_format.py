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
        known = list(names)
        self._width = max(map(len, [*known, SYSTEM]))
        self._colour = colour
        self._stamp: Stamp = stamp
        self._colours = {
            name: COLOURS[place % len(COLOURS)] for place, name in enumerate(known)
        }

    def line(self, name: str, line: OutputLine) -> bytes:
        """Return a line of a process, without what would change other lines."""
        text = line.text.encode() if line.gap else line.raw.rstrip(b"\r\n")
        if b"\x1b" in text:
            text = _CONTROL.sub(_keep_colour, text)
        if self._colour and b"\x1b[" in text:
            text += _RESET  # the colours of a process end with its line
        return self._head(name, line.at, self._colours.get(name, 0)) + text + b"\n"

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
