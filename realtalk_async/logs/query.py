"""
Answer questions about the log: newest entries first found, by reading backwards.

A file is read in blocks, never mapped (a truncation would kill the reader). Where a
question names a level or a component, only the lines that hold its text are parsed;
what decides is the parsed entry, so a message cannot pose as another level or component.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from realtalk_async.exceptions import InvalidConfiguration

from .context import show_json
from .line import Level, LogEntry, parse_line

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

SMALLEST_BLOCK = 64 * 1024
"""Bytes of the first read, from the end; each next one is twice as large."""

LARGEST_BLOCK = 256 * 1024
"""Bytes of a read at most, but for a line that is longer; it stays in the cache."""

SLACK = timedelta(hours=2)
"""
How far out of order times may be: a clock that was set back, the end of summer time.

A search for entries since a given time goes on for so much longer.
"""

LAST_LINE_PATIENCE = 0.25
"""Seconds that a reader waits for the writer of an unfinished last line."""


# What stands in a line as it is, in every format, and means itself in a pattern; and
# is long enough to be rare.
_LITERAL = re.compile(r"[A-Za-z0-9 _;@%=-]{4,}")
_WORD = re.compile(r"[A-Za-z0-9 _.:,;@%/=-]{4,}")
_OPENING = (b"[", b'"')
_CLOSING = (b"]", b'"')


@dataclass(frozen=True, slots=True)
class Query:
    """Which entries are wanted; see `Logger.get_logs`."""

    level: Level | None = None
    component: str | None = None
    pattern: re.Pattern[str] | None = None
    n: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, entry: LogEntry) -> bool:
        """Whether *entry* is wanted."""
        return (
            (self.level is None or entry.level is self.level)
            and (self.component is None or entry.component == self.component)
            and (self.since is None or entry.timestamp >= self.since)
            and (self.until is None or entry.timestamp < self.until)
            and (self.pattern is None or _contains(entry, self.pattern))
        )

    def is_over(self, entry: LogEntry | None) -> bool:
        """Whether all that was written before *entry* is too old to be wanted."""
        if self.since is None or entry is None:
            return False
        return entry.timestamp < self.since - SLACK

    def needles(self) -> list[Needle]:
        """Return texts that every wanted line has, each of them."""
        needles: list[Needle] = []
        pattern, component, level = self.pattern, self.component, self.level
        if pattern is not None and pattern.flags == re.UNICODE:
            literal = _LITERAL.fullmatch(pattern.pattern)
            needles += (
                [Needle(pattern.pattern.encode(), whole=False)] if literal else []
            )
        if component is not None and _WORD.fullmatch(component):
            needles.append(Needle(component.encode(), whole=True))
        if level is not None:
            needles.append(Needle(level.encode(), whole=True))
        return needles


class Needle(NamedTuple):
    """A text to look for before lines are parsed."""

    text: bytes
    whole: bool
    """Whether it stands in brackets or quotes, as a component and a level do."""

    def starts(self, block: bytes) -> Iterator[int]:
        """Yield where the lines of *block* begin that hold it."""
        text, length = self.text, len(self.text)
        position = block.find(text)
        while position >= 0:
            after = position + length
            if self.whole and not (
                block[position - 1 : position] in _OPENING
                and block[after : after + 1] in _CLOSING
            ):
                position = block.find(text, after)
                continue
            yield block.rfind(b"\n", 0, position) + 1
            position = block.find(text, _line_end(block, after))


def make_query(
    level: str | None,
    component: str | None,
    pattern: str | re.Pattern[str] | None,
    n: int | None,
    since: datetime | None,
    until: datetime | None,
) -> Query:
    """
    Check what a caller asks for.

    Raises:
        InvalidConfiguration: If there is no such level, *pattern* is no regular
            expression, *n* is negative, or a time lacks its zone.
    """
    if n is not None and n < 0:
        msg = f"n is {n}; it is a number of entries, at least 0"
        raise InvalidConfiguration(msg)
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            msg = f"{name} lacks a time zone; give {name}.astimezone() for local time"
            raise InvalidConfiguration(msg)
    try:
        compiled = None if pattern is None else re.compile(pattern)
    except re.error as error:
        msg = f"pattern {pattern!r} is no regular expression: {error}"
        raise InvalidConfiguration(msg) from error
    named = None if level is None else Level.of(level)
    return Query(named, component, compiled, n, since, until)


def search(path: Path, query: Query, stop: threading.Event) -> list[LogEntry]:
    """
    Return the entries that *query* wants, oldest first, also from rotated files.

    It reads what was there when it began; others may write, rotate and remove
    meanwhile. What is no entry is passed over.

    Args:
        path: The present file; ``path.1`` and so on are the older ones.
        query: What is wanted.
        stop: Set by who no longer wants the answer; it is looked at for every block.

    Raises:
        OSError: If a file that is there cannot be read.
    """
    found: list[LogEntry] = []
    if query.n == 0:
        return found
    with ExitStack() as stack:
        needle = None
        for descriptor in _opened(path, stack):
            for block in _blocks_backwards(descriptor, stop):
                needle = needle or _rarest(query.needles(), block)
                if _collect(block, query, needle, found):
                    return found[::-1]
    return found[::-1]


def _rarest(needles: list[Needle], block: bytes) -> Needle | None:
    """Return the one that *block* has least often, as a guess for all the others."""
    return min(needles, key=lambda needle: block.count(needle.text), default=None)


class Tail:
    """
    The end of a log, as it grows; through rotation, removal and truncation.

    It holds nothing open between two reads.
    """

    def __init__(self, path: Path, query: Query) -> None:
        """Begin at the present end of *path*; of the rest only *query* is wanted."""
        self._path = path
        self._query = query
        self._file: tuple[int, int] | None = None
        self._position = 0
        with ExitStack() as stack:
            for descriptor in _opened(path, stack):
                status = os.fstat(descriptor)
                self._file = (status.st_dev, status.st_ino)
                self._position = status.st_size
                break

    def read(self) -> list[LogEntry]:
        """
        Return the wanted entries that were written since the last time.

        Raises:
            OSError: If the file is there but cannot be read.
        """
        lines: list[bytes] = []
        with ExitStack() as stack:
            for descriptor in reversed(self._unread(_opened(self._path, stack))):
                lines += self._lines(descriptor)
        entries = filter(None, map(parse_line, lines))
        return [entry for entry in entries if self._query.matches(entry)]

    def _unread(self, descriptors: Iterator[int]) -> list[int]:
        """Return those that may have something new, newest first."""
        unread: list[int] = []
        for descriptor in descriptors:
            unread.append(descriptor)
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) == self._file:
                return unread
        return unread[:1]  # the one that was read is gone

    def _lines(self, descriptor: int) -> list[bytes]:
        status = os.fstat(descriptor)
        file = (status.st_dev, status.st_ino)
        if file != self._file or status.st_size < self._position:
            self._file, self._position = file, 0
        data = bytearray()
        while chunk := os.pread(descriptor, LARGEST_BLOCK, self._position + len(data)):
            data += chunk
        # A line is taken once it has ended.
        whole = data.rfind(b"\n") + 1
        self._position += whole
        return bytes(data[:whole]).splitlines()


def _collect(
    block: bytes, query: Query, needle: Needle | None, found: list[LogEntry]
) -> bool:
    """Add what is wanted in *block* to *found*; return whether that is all."""
    for line in reversed(_candidates(block, needle)):
        entry = parse_line(line)
        if entry is not None and query.matches(entry):
            found.append(entry)
            if len(found) == query.n:
                return True
    if query.since is None:
        return False
    return query.is_over(parse_line(block[: block.find(b"\n")]))


def _candidates(block: bytes, needle: Needle | None) -> list[bytes]:
    """Return the lines of *block* that hold *needle*; all if there is none."""
    if needle is None:
        return block.split(b"\n")
    return [block[start : _line_end(block, start)] for start in needle.starts(block)]


def _line_end(block: bytes, position: int) -> int:
    end = block.find(b"\n", position)
    return len(block) if end < 0 else end


def _opened(path: Path, stack: ExitStack) -> Iterator[int]:
    """Open the present file and all older ones, newest first, each but once."""
    seen: set[tuple[int, int]] = set()
    descriptors: list[int] = []
    # All of them before the first is read: rotation renames them, but cannot take
    # away what is open. A rotation between two of these steps shows a file twice.
    number = 0
    while (descriptor := _open(path, number)) is not None:
        stack.callback(os.close, descriptor)
        status = os.fstat(descriptor)
        identity = (status.st_dev, status.st_ino)
        if stat.S_ISREG(status.st_mode) and identity not in seen:
            seen.add(identity)
            descriptors.append(descriptor)
        number += 1
    return iter(descriptors)


def _open(path: Path, number: int) -> int | None:
    name = path.with_name(f"{path.name}.{number}") if number else path
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        return os.open(name, flags)
    except FileNotFoundError:
        # The present file may be missing for the moment of a rotation.
        return _open(path, 1) if number == 0 else None


def _blocks_backwards(descriptor: int, stop: threading.Event) -> Iterator[bytes]:
    """Yield blocks of whole lines, the last block first."""
    end = _settled_size(descriptor)
    size = SMALLEST_BLOCK
    rest = b""
    while end > 0 and not stop.is_set():
        start = max(end - size, 0)
        data = os.pread(descriptor, end - start, start)
        # The line that begins before this block belongs to the one before it.
        cut = data.find(b"\n") + 1 if start else 0
        if start and not cut:
            rest = data + rest
        else:
            yield b"".join((memoryview(data)[cut:], rest))
            rest = data[:cut]
        end = start
        size = min(size * 2, max(LARGEST_BLOCK, len(rest)))


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


def _contains(entry: LogEntry, pattern: re.Pattern[str]) -> bool:
    if pattern.search(entry.message):
        return True
    return bool(entry.context) and bool(pattern.search(show_json(entry.context)))
