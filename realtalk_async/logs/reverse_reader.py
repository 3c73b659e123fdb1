"""
Read the files of a log backwards, in blocks of whole lines.

An edge: it knows files and newlines, but not what stands in a line. A file is read,
never mapped: a truncation would kill the reader.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack
    from pathlib import Path

    from realtalk_async.logs.prefilter import Needle

SMALLEST = 64 * 1024
"""Bytes of the first block, at the end of a file; each next one is twice as large."""

LARGEST = 256 * 1024
"""Bytes of a block, but for a line that is longer; so it stays in the cache."""

LAST_LINE_PATIENCE = 0.25
"""Seconds that a reader waits for the writer of an unfinished last line."""

MARK = 256
"""Bytes at the end of a block by which it is known again."""

MOST_NEEDLES = 32
"""Texts whose absence is remembered, of one file."""

MOST_MISSING = 3
"""
Numbers in a row that no file has, behind the last one. In the middle of a rotation one
of them is free, that of the present file or an older one; and another rotation may have
begun when the next number is looked at.
"""

Identity: TypeAlias = tuple[int, int]
"""A file's device and number."""


class Block(NamedTuple):
    """Whole lines, with or without the last newline: those from *begin* to *end*."""

    data: bytearray
    """Used again for the next block."""
    begin: int
    end: int
    number: int | None
    """Which part of its file it is, if all of one; the last part is none."""

    def line_at(self, start: int) -> bytes:
        """Return the line that begins at *start*, without its newline."""
        end = self.data.find(b"\n", start, self.end)
        return bytes(self.data[start : self.end if end < 0 else end])


@dataclass(slots=True)
class Absences:
    """
    Which parts of a file lack which needles: what earlier searches have learned.

    A log only grows; a part that was looked through once need not be read again, for
    the same needle. Each part is known again by its last bytes, lest somebody should
    have begun the file anew.
    """

    _marks: dict[int, int] = field(default_factory=dict[int, int])
    _without: dict[Needle, set[int]] = field(default_factory=dict["Needle", set[int]])

    def learn(self, descriptor: int, number: int, needle: Needle) -> None:
        """Remember that part *number* lacks *needle*."""
        mark = self._mark(descriptor, number)
        if self._marks.setdefault(number, mark) != mark:
            self.forget()
            self._marks[number] = mark
        if needle not in self._without and len(self._without) >= MOST_NEEDLES:
            self._without.pop(next(iter(self._without)), None)
        self._without.setdefault(needle, set()).add(number)

    def knows(self, descriptor: int, number: int, needles: list[Needle]) -> bool:
        """Whether part *number* is known to lack one of *needles*."""
        if not any(number in self._without.get(one, ()) for one in needles):
            return False
        if self._marks.get(number) == self._mark(descriptor, number):
            return True
        self.forget()
        return False

    def forget(self) -> None:
        """Forget everything: it is another file."""
        self._marks.clear()
        self._without.clear()

    def _mark(self, descriptor: int, number: int) -> int:
        size = min(MARK, LARGEST)
        return hash(os.pread(descriptor, size, (number + 1) * LARGEST - size))


Index: TypeAlias = dict[Identity, Absences]
"""What is known about each file of a log."""


def identity_of(descriptor: int) -> Identity:
    """Return which file it is."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def opened(path: Path, stack: ExitStack) -> list[int]:
    """Open the present file and all older ones, newest first, each but once."""
    seen: set[Identity] = set()
    descriptors: list[int] = []
    # All of them before the first is read: rotation renames them, but cannot take
    # away what is open. A rotation between two of these steps shows a file twice.
    number = missing = 0
    while missing < MOST_MISSING:
        descriptor = _open(path, number)
        number += 1
        if descriptor is None:
            missing += 1
            continue
        missing = 0
        stack.callback(os.close, descriptor)
        identity = identity_of(descriptor)
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and identity not in seen:
            seen.add(identity)
            descriptors.append(descriptor)
    return descriptors


def blocks_backwards(
    descriptor: int, absences: Absences, needles: list[Needle]
) -> Iterator[Block]:
    """
    Yield the blocks of a file, the last one first.

    Parts that are known to lack one of *needles* are passed over.
    """
    end = _settled_size(descriptor)
    size = min(SMALLEST, LARGEST)
    buffer = bytearray(LARGEST + 4096)
    # What the part after this one has of a line that begins in this one or before;
    # nothing is known of it if that part was passed over.
    rest: bytes | None = b""
    last = True
    while end > 0:
        start = (end - 1) // size * size
        number = start // LARGEST if end - start == LARGEST and not last else None
        if number is not None and absences.knows(descriptor, number, needles):
            rest, end = None, start
            continue
        if rest is None:
            rest = _up_to_newline(descriptor, end)
        if len(buffer) < end - start + len(rest):
            buffer = bytearray(end - start + len(rest))
        view = memoryview(buffer)
        filled = os.preadv(descriptor, [view[: end - start]], start)
        view[filled : filled + len(rest)] = rest
        # The line that begins before this part belongs to the one before it.
        begin = buffer.find(b"\n", 0, filled) + 1 if start else 0
        if start and not begin:
            rest = bytes(view[: filled + len(rest)])
        else:
            yield Block(buffer, begin, filled + len(rest), number)
            rest = bytes(view[:begin])
            last = False
        end = start
        size = min(size * 2, LARGEST)


def _up_to_newline(descriptor: int, start: int) -> bytes:
    data = b""
    while b"\n" not in data:
        more = os.pread(descriptor, 4096, start + len(data))
        if not more:
            return data
        data += more
    return data[: data.find(b"\n") + 1]


def _open(path: Path, number: int) -> int | None:
    name = path.with_name(f"{path.name}.{number}") if number else path
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        return os.open(name, flags)
    except FileNotFoundError:
        return None


def _settled_size(descriptor: int) -> int:
    """Return the size, once a writer in the middle of its line has finished it."""
    size = os.fstat(descriptor).st_size
    give_up = time.monotonic() + LAST_LINE_PATIENCE
    while size and os.pread(descriptor, 1, size - 1) != b"\n":
        locked = False
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            locked = True
        size = os.fstat(descriptor).st_size
        if locked:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        # Nobody writes: the line ends there, whoever wrote it.
        if locked or time.monotonic() >= give_up:
            break
        time.sleep(0.001)
    return size
