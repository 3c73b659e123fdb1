"""One line of output, the clock that dates it, and the cut of bytes into lines."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.supervision.kernel.pipes import StreamName


@dataclass(frozen=True, slots=True)
class OutputLine:
    """One line of a child's output; ``str()`` is ``[2025-05-13 14:30:22] text``."""

    raw: bytes
    """The bytes as received, with the line feed; all lines joined are the stream."""
    at: datetime
    """
    The arrival of the chunk that completed the line, in local time.

    It follows the wall clock, also after a suspend of the machine. If the clock was set
    back, it does not change until the clock has caught up: it never goes back.
    """
    monotonic: float
    """The same moment on the monotonic clock, in seconds."""
    stream: StreamName
    incarnation: int
    """The incarnation that wrote the line, counted from 1."""
    sequence: int
    """Order of arrival over both streams of the process; equal within one chunk."""
    partial: bool = False
    """
    The line has no line feed: it is not complete yet, it ends with a carriage return, its
    incarnation ended without one, or it is a slice of a line that is longer than a segment.
    """
    gap: int = 0
    """The number of bytes missing at this place; a gap line has no bytes of its own."""
    gap_reason: str = "max_size was reached"

    @property
    def text(self) -> str:
        """The line without its end; bytes that are not UTF-8 appear as U+FFFD."""
        if self.gap:
            return f"[gap: {self.gap} bytes not kept: {self.gap_reason}]"
        return _text_of(self.raw)

    @property
    def last_state(self) -> str:
        """The text after the last carriage return: what a terminal shows of the line."""
        return self.text if self.gap else _text_of(last_record(self.raw))

    def __str__(self) -> str:
        return f"[{self.at:%Y-%m-%d %H:%M:%S}] {self.text}"

    def to_dict(self) -> dict[str, object]:
        """Return the line ready for JSON, with ``text`` instead of ``raw``."""
        return {
            "at": self.at.isoformat(),
            "stream": self.stream,
            "incarnation": self.incarnation,
            "sequence": self.sequence,
            "text": self.text,
            "partial": self.partial,
            "gap": self.gap,
        }


def wall_difference() -> float:
    """Return the wall clock minus the monotonic clock, now, in seconds."""
    return time.time() - time.monotonic()


class Clock:
    """
    Tells the wall time of moments on the monotonic clock that have just passed.

    The difference of the clocks is read for each moment: the monotonic clock stands still
    while the machine sleeps, and the wall clock may be set.

    Args:
        difference: Returns the wall clock minus the monotonic clock.
    """

    __slots__ = ("_difference",)

    def __init__(self, difference: Callable[[], float] = wall_difference) -> None:
        self._difference = difference

    def wall(self, monotonic: float) -> float:
        """Return the wall time of a moment that has just passed, in seconds since 1970."""
        return monotonic + self._difference()


def local_time(stamp: float) -> datetime:
    """Return the local time of *stamp*, given in seconds since 1970."""
    return datetime.fromtimestamp(stamp, UTC).astimezone()


def split_lines(data: bytes, most: int = -1) -> list[bytes]:
    """
    Split at line feeds only: other separators belong to the text.

    Args:
        data: Bytes that begin a line.
        most: The largest number of lines to return; all if negative. With a limit, an
            unfinished line is returned only if it is within the limit.
    """
    *lines, rest = data.split(b"\n", most)
    whole = [line + b"\n" for line in lines]
    return [*whole, rest] if rest and (most < 0 or len(lines) < most) else whole


_RECORD = re.compile(rb"[^\r\n]*(?:\r*\n|\r+)")
"""A line, or a state of a line that the next one overwrites."""


def split_records(data: bytes, most: int, *, may_grow: bool) -> list[bytes]:
    """
    Split after line feeds and carriage returns; ``\\r\\n`` is one end.

    Args:
        data: Bytes that begin a line.
        most: The largest number of records to return.
        may_grow: Whether more bytes may follow: then an unfinished record is left out,
            and one whose carriage return comes last, which a line feed may follow.
    """
    if b"\r" not in data:
        return split_lines(data[: data.rfind(b"\n") + 1] if may_grow else data, most)
    # Without the unfinished rest: each search in it would read it to its end.
    end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    records = [found[0] for found in islice(_RECORD.finditer(data, 0, end), most)]
    is_all = sum(map(len, records)) == end
    if may_grow:
        if is_all and end == len(data) and data.endswith(b"\r"):
            records.pop()
    elif is_all and end < len(data) and len(records) < most:
        records.append(data[end:])
    return records


def last_record(line: bytes) -> bytes:
    """Return the last record of a line that is not blank; all of it if all are blank."""
    if b"\r" not in line:
        return line
    end = len(line.rstrip())
    start = line.rfind(b"\r", 0, end) + 1 if end else 0
    found = _RECORD.match(line, start)
    return found[0] if found and end else line[start:]


def _text_of(raw: bytes) -> str:
    return raw.removesuffix(b"\n").removesuffix(b"\r").decode(errors="replace")


def count_lines(data: bytes) -> int:
    """Return the number of lines that begin in *data*, an unfinished line included."""
    return data.count(b"\n") + (not data.endswith(b"\n")) if data else 0
