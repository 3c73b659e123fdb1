"""
Old output on the disk instead of in memory. An edge: one unlinked temporary file a stream.

Segments beyond a budget are written by one thread for the whole program, which exists
only while something is to be written. A file without a name vanishes with us, however we end.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from array import array
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from .output import SEGMENT

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_AT_ONCE = 64
"""Segments of one write; the system takes 1,024 (IOV_MAX)."""

BUDGET = 4 * 1024 * 1024
"""Bytes of one stream that stay in memory."""

BATCH = 1024 * 1024
"""Bytes that are worth one write."""

BACKLOG = 4 * 1024 * 1024
"""
Bytes beyond the budget that may wait for the disk. A child that is faster than the disk
has to wait then: that bounds our memory without losing a byte.
"""

SPARE = 8
"""Segments that are kept for use again: fresh memory is dearer than the copy into it."""


class SpillStore:
    """
    Keep segments: the newest in memory, older ones in a file.

    Not thread-safe but for its own writing: use it from one thread.

    Args:
        budget: Bytes that may stay in memory.
        on_trouble: Called from the writing thread with the first error, such as a full
            disk. Everything then stays in memory, so nothing is lost.
        on_room: Called from the writing thread when `is_full` has ended.
    """

    def __init__(
        self,
        *,
        budget: int = BUDGET,
        on_trouble: Callable[[OSError], None] | None = None,
        on_room: Callable[[], None] | None = None,
    ) -> None:
        self._budget = budget
        self._on_trouble = on_trouble
        self._on_room = on_room
        self._starts = array("Q", [0])
        self._memory: list[memoryview] = []
        self._first = 0  # index of the oldest segment in memory
        self.held = 0
        """Bytes in memory, those being written included."""
        self._writing = 0  # segments at the front that are being written
        self._spare: list[bytearray] = []
        self._file = -1
        self._broken = False
        self._closed = False
        self._lock = threading.Lock()
        self._finalizer: weakref.finalize[[int], SpillStore] | None = None

    @property
    def is_writing(self) -> bool:
        """Whether the thread is at work for this store."""
        with self._lock:
            return self._writing > 0

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the disk that the child should wait, too."""
        return self.held > self._budget + BACKLOG and not self._broken

    def add(self, segment: bytearray | bytes, used: int) -> None:
        """Keep the first *used* bytes of one more segment, which is not changed again."""
        self._starts.append(self._starts[-1] + used)
        with self._lock:
            self._memory.append(memoryview(segment)[:used])
            self.held += used
            if self.held > self._budget + BATCH and not self._writing:
                self._begin_write()

    def get(self, index: int) -> bytes:
        """Return the segment of that index."""
        start, end = self._starts[index], self._starts[index + 1]
        with self._lock:
            if index >= self._first:
                return bytes(self._memory[index - self._first])
        return os.pread(self._file, end - start, start)

    def spare(self) -> bytearray | None:
        """Return a segment of `output.SEGMENT` bytes that is not needed any more."""
        return self._spare.pop() if self._spare else None

    def close(self) -> None:
        """Let go of everything, the file too."""
        with self._lock:
            self._broken = self._closed = True
            if not self._writing:
                self._release()

    def _release(self) -> None:
        # Never while the thread writes: the number could be another file's by then.
        self._memory.clear()
        self._spare.clear()
        if self._finalizer is not None:
            self._finalizer()
        self._file = -1

    def _begin_write(self) -> None:
        """Hand the oldest segments over the budget to the writing thread."""
        if self._broken:
            return
        if self._file < 0 and not self._open():
            return
        batch: list[memoryview] = []
        size = 0
        for segment in self._memory[:MOST_AT_ONCE]:
            if self.held - size <= self._budget:
                break
            batch.append(segment)
            size += len(segment)
        self._writing = len(batch)
        _in_thread(self._write, batch, self._starts[self._first])

    def _open(self) -> bool:
        try:
            with tempfile.TemporaryFile(prefix="realtalk-") as file:
                self._file = os.dup(file.fileno())
        except OSError as exc:
            self._give_up(exc)
            return False
        self._finalizer = weakref.finalize(self, os.close, self._file)
        return True

    def _write(self, batch: list[memoryview], offset: int) -> None:
        """Write a batch, in the thread, and let go of its memory when it is written."""
        try:
            _write_all(self._file, batch, offset)
        except OSError as exc:
            with self._lock:
                self._writing = 0
                self._give_up(exc)
            self._tell_of_room()
            return
        with self._lock:
            was_full = self.is_full
            self._forget(batch)
            if self._closed:
                self._release()
            elif self.held > self._budget + BATCH:
                self._begin_write()
        if was_full and not self.is_full:
            self._tell_of_room()

    def _forget(self, batch: list[memoryview]) -> None:
        """Let go of the memory of what was written, and keep some of it for use again."""
        for segment in batch:
            self.held -= len(segment)
            whole = segment.obj
            has_room = len(self._spare) < SPARE
            if has_room and isinstance(whole, bytearray) and len(whole) == SEGMENT:
                self._spare.append(whole)
        del self._memory[: len(batch)]
        self._first += len(batch)
        self._writing = 0

    def _give_up(self, exc: OSError) -> None:
        self._broken = True
        if self._on_trouble is not None:
            self._on_trouble(exc)

    def _tell_of_room(self) -> None:
        if self._on_room is not None:
            self._on_room()


def _write_all(file: int, batch: list[memoryview], offset: int) -> None:
    """Write all of *batch* at *offset*."""
    written = os.pwritev(file, batch, offset)
    for segment in batch:
        done = min(written, len(segment))
        written -= done
        offset += done
        while done < len(segment):  # the system took less than it was given
            more = os.pwrite(file, segment[done:], offset)
            offset += more
            done += more


class _Threads:
    """The one writing thread, alive only while there is work."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.executor: ThreadPoolExecutor | None = None
        self.jobs = 0


_threads = _Threads()


def _in_thread(
    write: Callable[[list[memoryview], int], None],
    batch: list[memoryview],
    offset: int,
) -> None:
    with _threads.lock:
        if _threads.executor is None:
            _threads.executor = ThreadPoolExecutor(1, "realtalk-spill")
        _threads.jobs += 1
        job = _threads.executor.submit(write, batch, offset)
    job.add_done_callback(_let_go)


def _let_go(_job: object) -> None:
    with _threads.lock:
        _threads.jobs -= 1
        if _threads.jobs == 0 and _threads.executor is not None:
            _threads.executor.shutdown(wait=False)
            _threads.executor = None
