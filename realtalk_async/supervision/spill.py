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

if TYPE_CHECKING:
    from collections.abc import Callable

BUDGET = 4 * 1024 * 1024
"""Bytes of one stream that stay in memory."""

BATCH = 1024 * 1024
"""Bytes that are worth one write."""


class SpillStore:
    """
    Keep segments: the newest in memory, older ones in a file.

    Not thread-safe but for its own writing: use it from one thread.

    Args:
        budget: Bytes that may stay in memory.
        on_trouble: Called from the writing thread with the first error, such as a full
            disk. Everything then stays in memory, so nothing is lost.
    """

    def __init__(
        self,
        *,
        budget: int = BUDGET,
        on_trouble: Callable[[OSError], None] | None = None,
    ) -> None:
        self._budget = budget
        self._on_trouble = on_trouble
        self._starts = array("Q", [0])
        self._memory: list[bytes] = []
        self._first = 0  # index of the oldest segment in memory
        self.held = 0
        """Bytes in memory, those being written included."""
        self._writing = 0  # segments at the front that are being written
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

    def add(self, data: bytes) -> None:
        """Keep one more segment."""
        self._starts.append(self._starts[-1] + len(data))
        with self._lock:
            self._memory.append(data)
            self.held += len(data)
            if self.held > self._budget + BATCH and not self._writing:
                self._begin_write()

    def get(self, index: int) -> bytes:
        """Return the segment of that index."""
        start, end = self._starts[index], self._starts[index + 1]
        with self._lock:
            if index >= self._first:
                return self._memory[index - self._first]
        return os.pread(self._file, end - start, start)

    def close(self) -> None:
        """Let go of everything, the file too."""
        with self._lock:
            self._broken = self._closed = True
            if not self._writing:
                self._release()

    def _release(self) -> None:
        # Never while the thread writes: the number could be another file's by then.
        self._memory.clear()
        if self._finalizer is not None:
            self._finalizer()
        self._file = -1

    def _begin_write(self) -> None:
        """Hand the oldest segments over the budget to the writing thread."""
        if self._broken:
            return
        if self._file < 0 and not self._open():
            return
        batch: list[bytes] = []
        size = 0
        for segment in self._memory:
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

    def _write(self, batch: list[bytes], offset: int) -> None:
        """Write a batch, in the thread, and let go of its memory when it is written."""
        data = memoryview(b"".join(batch))
        try:
            while data:
                written = os.pwrite(self._file, data, offset)
                offset += written
                data = data[written:]
        except OSError as exc:
            with self._lock:
                self._writing = 0
                self._give_up(exc)
            return
        with self._lock:
            done = self._writing
            self.held -= sum(map(len, self._memory[:done]))
            del self._memory[:done]
            self._first += done
            self._writing = 0
            if self._closed:
                self._release()
            elif self.held > self._budget + BATCH:
                self._begin_write()

    def _give_up(self, exc: OSError) -> None:
        self._broken = True
        if self._on_trouble is not None:
            self._on_trouble(exc)


class _Threads:
    """The one writing thread, alive only while there is work."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.executor: ThreadPoolExecutor | None = None
        self.jobs = 0


_threads = _Threads()


def _in_thread(
    write: Callable[[list[bytes], int], None], batch: list[bytes], offset: int
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
