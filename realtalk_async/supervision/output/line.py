"""One line of output, the clock that dates it, and the cut of bytes into lines."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from realtalk_async.supervision.kernel.pipes import StreamName


@dataclass(frozen=True, slots=True)
class OutputLine:
    """One line of a child's output; ``str()`` is ``[2025-05-13 14:30:22] text``."""

    raw: bytes
    """The bytes as received, with the line feed; all lines joined are the stream."""
    at: datetime
    """The arrival of the chunk that completed the line, in local time."""
    monotonic: float
    """The same moment on the monotonic clock, in seconds."""
    stream: StreamName
    incarnation: int
    """The incarnation that wrote the line, counted from 1."""
    sequence: int
    """Order of arrival over both streams of the process; equal within one chunk."""
    partial: bool = False
    """
    The line has no line feed: it is not complete yet, its incarnation ended without one,
    or it is a slice of a line that is longer than a segment.
    """
    gap: int = 0
    """The number of bytes missing at this place; a gap line has no bytes of its own."""

    @property
    def text(self) -> str:
        """The line without its end; bytes that are not UTF-8 appear as U+FFFD."""
        if self.gap:
            return f"[gap: {self.gap} bytes not kept: max_size was reached]"
        return self.raw.removesuffix(b"\n").removesuffix(b"\r").decode(errors="replace")

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


@dataclass(frozen=True, slots=True)
class Clock:
    """One reading of both clocks, which converts monotonic seconds to wall time."""

    wall: float
    monotonic: float

    @classmethod
    def now(cls) -> Clock:
        """Read both clocks."""
        return cls(time.time(), time.monotonic())

    def at(self, monotonic: float) -> datetime:
        """Return the local wall time of a moment on the monotonic clock."""
        wall = self.wall + (monotonic - self.monotonic)
        return datetime.fromtimestamp(wall, UTC).astimezone()


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


def count_lines(data: bytes) -> int:
    """Return the number of lines that begin in *data*, an unfinished line included."""
    return data.count(b"\n") + (not data.endswith(b"\n")) if data else 0
