"""New entries of a log as they are written, read from its file ten times a second."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from contextlib import ExitStack
from dataclasses import replace
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from realtalk_async.concurrency.daemon_thread import call_in_thread
from realtalk_async.logs.entry import LogEntry, has_local_time, parse_line
from realtalk_async.logs.reverse_reader import (
    MAX_BLOCK,
    Identity,
    identity_of,
    open_files,
)
from realtalk_async.logs.times.repeated_hour import may_come_twice, nearest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

    from realtalk_async.logs.query import Query

POLL_INTERVAL: Final = 0.1
"""Seconds between two reads of a file that is followed."""


class LogFollower:
    """The entries of a log as they are written; see `Logger.follow_logs`."""

    def __init__(
        self, path: Path, query: Query, try_flush: Callable[[float], object]
    ) -> None:
        """
        Begin at the present end of *path*.

        Args:
            path: The file.
            query: Which entries to return.
            try_flush: Writes the lines that wait, within so many seconds.
        """
        self._growth = _FileGrowth(path, query)
        self._try_flush = try_flush
        self._ready: deque[LogEntry] = deque()
        self._reading: asyncio.Future[list[LogEntry]] | None = None
        self._next_read = 0.0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LogEntry:
        while not self._ready:
            await asyncio.sleep(self._next_read - monotonic())
            if self._reading is None:
                work = call_in_thread(self._read, "realtalk-log-follower")
                self._reading = asyncio.ensure_future(work)
            try:
                # After a cancellation the next call waits for the same read.
                self._ready.extend(await asyncio.shield(self._reading))
            finally:
                if self._reading.done():
                    self._reading = None
            self._next_read = monotonic() + POLL_INTERVAL
        return self._ready.popleft()

    def _read(self) -> list[LogEntry]:
        self._try_flush(0)  # this also recovers the lines of killed processes
        return self._growth.read()


class _FileGrowth:
    """
    The lines appended to a log file, through rotation, removal and truncation.

    No file stays open between two reads.
    """

    def __init__(self, path: Path, query: Query) -> None:
        self._path = path
        self._query = query
        self._file: Identity | None = None
        self._position = 0
        with ExitStack() as stack:
            for descriptor in open_files(path, stack)[:1]:
                self._file = identity_of(descriptor)
                self._position = os.fstat(descriptor).st_size

    def read(self) -> list[LogEntry]:
        """
        Return the entries that match the query and were written since the last read.

        Raises:
            LogUnreadable: If the file exists but cannot be read.
        """
        lines: list[bytes] = []
        with ExitStack() as stack:
            for descriptor in reversed(self._unread(open_files(self._path, stack))):
                lines += self._lines(descriptor)
        entries = [entry for line in lines if (entry := _parse(line)) is not None]
        return [entry for entry in entries if self._query.matches(entry)]

    def _unread(self, descriptors: list[int]) -> list[int]:
        """Return the files that may hold new lines, newest first."""
        unread: list[int] = []
        for descriptor in descriptors:
            unread.append(descriptor)
            if identity_of(descriptor) == self._file:
                return unread
        return unread[:1]  # the file of the last read no longer exists

    def _lines(self, descriptor: int) -> list[bytes]:
        file, size = identity_of(descriptor), os.fstat(descriptor).st_size
        if file != self._file or size < self._position:
            self._file, self._position = file, 0
        data = bytearray()
        while chunk := os.pread(descriptor, MAX_BLOCK, self._position + len(data)):
            data += chunk
        # An unfinished last line is left for the next read.
        end = data.rfind(b"\n") + 1
        self._position += end
        return bytes(data[:end]).splitlines()


def _parse(line: bytes) -> LogEntry | None:
    """Return the entry of a line that was written just now."""
    entry = parse_line(line)
    if entry is None or not may_come_twice(entry.timestamp):
        return entry
    if not has_local_time(line):
        return entry
    return replace(entry, timestamp=nearest(entry.timestamp, time()))
