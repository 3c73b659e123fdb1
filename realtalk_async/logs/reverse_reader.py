"""
The files of a log read backwards, in blocks of whole lines.

A file is read, never mapped: a truncation would kill a process that maps it.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from realtalk_async.exceptions import LogUnreadable
from realtalk_async.logs.output.target import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack
    from pathlib import Path

    from realtalk_async.logs.prefilter import LiteralPrefilter

MIN_BLOCK = 64 * 1024
"""Bytes of the first block, at the end of a file; each next block is twice as large."""

MAX_BLOCK = 256 * 1024
"""Bytes of a block without a longer line, so that it stays in the processor's cache."""

LAST_LINE_TIMEOUT = 0.25
"""Seconds to wait for the writer of an unfinished last line."""

FINGERPRINT = 256
"""Bytes at the end of a block that identify it later."""

MAX_PREFILTERS = 32
"""Prefilters in the negative index of one file."""

MAX_MISSING = 3
"""
Missing numbers in a row that end the search for rotated files. During a rotation one
number is free, that of the current file or of an older file, and another rotation may
begin before the next number is looked at.
"""

Identity: TypeAlias = tuple[int, int]
"""A file's device and inode."""


class Block(NamedTuple):
    """The whole lines from *begin* to *end*, with or without the last newline."""

    data: bytearray
    """A buffer that the next block overwrites."""
    begin: int
    end: int
    number: int | None
    """Number of its part of the file, if it is a full part; `None` for the last part."""
    offset: int
    """The offset of *data* in the file."""

    def line_at(self, start: int) -> bytes:
        """Return the line that begins at *start*, without its newline."""
        end = self.data.find(b"\n", start, self.end)
        return bytes(self.data[start : self.end if end < 0 else end])


@dataclass(slots=True)
class NegativeIndex:
    """
    The parts of a file without any line that passes a prefilter, and their newest times.

    Earlier searches fill it. A log only grows, so that a part need not be read again for
    the same prefilter. A fingerprint, the last bytes of a part, detects that the file was
    truncated and written again.
    """

    _fingerprints: dict[int, int] = field(default_factory=dict[int, int])
    _newest: dict[int, float] = field(default_factory=dict[int, float])
    _parts: dict[LiteralPrefilter, set[int]] = field(
        default_factory=dict["LiteralPrefilter", set[int]]
    )

    def add(self, descriptor: int, number: int, prefilter: LiteralPrefilter) -> None:
        """Record that no line of part *number* passes *prefilter*."""
        self._identify(descriptor, number)
        if prefilter not in self._parts and len(self._parts) >= MAX_PREFILTERS:
            self._parts.pop(next(iter(self._parts)), None)
        self._parts.setdefault(prefilter, set()).add(number)

    def add_newest(self, descriptor: int, number: int, newest: float) -> None:
        """Record the newest time of the entries of part *number*."""
        self._identify(descriptor, number)
        self._newest[number] = newest

    def _identify(self, descriptor: int, number: int) -> None:
        fingerprint = self._fingerprint(descriptor, number)
        if self._fingerprints.setdefault(number, fingerprint) != fingerprint:
            self.clear()
            self._fingerprints[number] = fingerprint

    def excludes(
        self,
        descriptor: int,
        number: int,
        prefilters: list[LiteralPrefilter],
        since: float,
    ) -> bool:
        """Whether all lines of part *number* are excluded by a filter or are too old."""
        if self._newest.get(number, since) >= since and not any(
            number in self._parts.get(each, ()) for each in prefilters
        ):
            return False
        if self._fingerprints.get(number) == self._fingerprint(descriptor, number):
            return True
        self.clear()
        return False

    def clear(self) -> None:
        """Remove everything: the file has another content."""
        self._fingerprints.clear()
        self._newest.clear()
        self._parts.clear()

    def _fingerprint(self, descriptor: int, number: int) -> int:
        size = min(FINGERPRINT, MAX_BLOCK)
        return hash(os.pread(descriptor, size, (number + 1) * MAX_BLOCK - size))


Index: TypeAlias = dict[Identity, NegativeIndex]
"""The negative index of each file of a log."""


def identity_of(descriptor: int) -> Identity:
    """Return the identity of an open file."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def open_files(path: Path, stack: ExitStack) -> list[int]:
    """
    Open the current file and all rotated files, newest first, each once.

    Raises:
        LogUnreadable: If one of them cannot be read.
    """
    seen: set[Identity] = set()
    descriptors: list[int] = []
    # All files are opened before the first is read, because rotation cannot delete an
    # open file. A rotation between two of these steps shows a file twice.
    number = missing = 0
    while missing < MAX_MISSING:
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
    descriptor: int,
    index: NegativeIndex,
    prefilters: list[LiteralPrefilter],
    since: float = -inf,
) -> Iterator[Block]:
    """
    Yield the blocks of a file, the last block first.

    Parts that *index* excludes for one of *prefilters*, or because all of their entries
    are older than *since*, in seconds since 1970, are skipped.
    """
    end = _settled_size(descriptor)
    size = min(MIN_BLOCK, MAX_BLOCK)
    buffer = bytearray(MAX_BLOCK + 4096)
    # The beginning of the next part, up to its first newline: the end of a line that
    # begins in this part or before. `None` if the next part was skipped.
    rest: bytes | None = b""
    last = True
    while end > 0:
        start = (end - 1) // size * size
        number = start // MAX_BLOCK if end - start == MAX_BLOCK and not last else None
        if number is not None and index.excludes(descriptor, number, prefilters, since):
            rest, end = None, start
            continue
        if rest is None:
            rest = _read_to_newline(descriptor, end)
        if len(buffer) < end - start + len(rest):
            buffer = bytearray(end - start + len(rest))
        view = memoryview(buffer)
        filled = os.preadv(descriptor, [view[: end - start]], start)
        view[filled : filled + len(rest)] = rest
        # A line that begins before this part belongs to the block before it.
        begin = buffer.find(b"\n", 0, filled) + 1 if start else 0
        if start and not begin:
            rest = bytes(view[: filled + len(rest)])
        else:
            yield Block(buffer, begin, filled + len(rest), number, start)
            rest = bytes(view[:begin])
            last = False
        end = start
        size = min(size * 2, MAX_BLOCK)


def _read_to_newline(descriptor: int, start: int) -> bytes:
    data = b""
    while b"\n" not in data:
        more = os.pread(descriptor, 4096, start + len(data))
        if not more:
            return data
        data += more
    return data[: data.find(b"\n") + 1]


def _open(path: Path, number: int) -> int | None:
    """
    Open a file of the log; `None` if it does not exist.

    A pipe is never opened, because its writer would take this process for its reader.

    Raises:
        LogUnreadable: If it is no regular file or may not be read.
    """
    name = path.with_name(f"{path.name}.{number}") if number else path
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        mode = os.stat(name).st_mode
        if stat.S_ISREG(mode):
            return os.open(name, flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LogUnreadable(str(name), error.strerror or str(error)) from error
    if number:
        return None
    raise LogUnreadable(str(name), f"{kind_of(mode)} keeps no lines")


def _settled_size(descriptor: int) -> int:
    """Return the size after the writer of an unfinished last line has finished it."""
    size = os.fstat(descriptor).st_size
    deadline = time.monotonic() + LAST_LINE_TIMEOUT
    while size and os.pread(descriptor, 1, size - 1) != b"\n":
        locked = False
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            locked = True
        size = os.fstat(descriptor).st_size
        if locked:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        # No process writes, or it takes too long: the last line ends here.
        if locked or time.monotonic() >= deadline:
            break
        time.sleep(0.001)
    return size
