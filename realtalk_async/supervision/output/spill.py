"""
A store for full segments of output: the newest in memory, older ones in a file.

One thread for the whole program writes the segments beyond the budget; it runs only while
there is something to write. The file has no name: the kernel removes it with the app,
whatever ends the app.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import tempfile
import threading
from collections import deque
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable

Segment = bytes | bytearray | mmap.mmap
Memory = bytearray | mmap.mmap
"""A segment that can be written."""

LARGEST_SEGMENT = 1024 * 1024
"""
Bytes of the largest segment. A line that fills one without an end is cut into slices,
flagged ``partial``.
"""

BUDGET = 2 * 1024 * 1024
"""
Bytes of one stream that stay in memory. The disk's cache returns older ones as fast, and
memory that is used again costs a fifth of fresh memory.
"""

BACKLOG = 4 * 1024 * 1024
"""
Bytes beyond the budget that may wait for the disk. A child that is faster than the disk
waits then: that bounds the app's memory without losing a byte.
"""

RESERVE = 1 << 30
"""
Bytes of the disk that spilled output leaves free, or a twentieth of the disk if that is
less: the log and the app still have to write.
"""

LEAST_FREED = 64 * 1024
"""Bytes of a file that are no longer needed before their space is freed."""

SPARE = 8
"""Segments that the thread keeps for use again."""

LINGER = 0.2
"""Seconds that the thread waits for a further segment before it ends."""

FILES: set[int] = set()
"""Descriptors of the files; each stays open as long as its output can be read."""


class SpillStore:
    """
    Keeps segments: the newest in memory, older ones in a file.

    The writing thread is the only other thread that may use a store.

    Args:
        budget: Bytes that may stay in memory.
        on_error: Called from the writing thread with the first error, such as a full
            disk. No byte is lost then, but no further segment is written: when `BACKLOG`
            is used up as well, `accepts_more` becomes false.
        on_space: Called from the writing thread when `is_full` has become false.
    """

    __slots__ = (
        "_broken", "_budget", "_file", "_forgotten", "_freed", "_is_due", "_lock",
        "_on_error", "_on_space", "_segments", "_size", "bytes_in_memory",
    )  # fmt: skip

    def __init__(
        self,
        *,
        budget: int = BUDGET,
        on_error: Callable[[OSError], None] | None = None,
        on_space: Callable[[], None] | None = None,
    ) -> None:
        self._budget = budget
        self._on_error = on_error
        self._on_space = on_space
        self._size = 0
        self._forgotten = 0  # the bytes before this offset are never read again
        self._freed = 0  # their space in the file is free up to this offset
        # The segments in memory, by offset.
        self._segments: list[tuple[int, memoryview]] = []
        self.bytes_in_memory = 0
        """The bytes that the thread is writing are included."""
        self._file = -1
        self._broken = False
        self._is_due = False  # the store waits for the thread, or the thread writes it
        self._lock = threading.Lock()

    def __del__(self) -> None:
        """Free the disk space: no reader of the output is left."""
        file = getattr(self, "_file", -1)  # the constructor may have failed
        if file >= 0:
            FILES.discard(file)
            os.close(file)

    @property
    def is_writing(self) -> bool:
        """Whether the thread writes a segment of this store, or is about to."""
        with self._lock:
            return self._is_due

    @property
    def is_full(self) -> bool:
        """Whether so many bytes wait for the disk that the child should wait too."""
        return self.bytes_in_memory > self._budget + BACKLOG and not self._broken

    @property
    def accepts_more(self) -> bool:
        """Whether there is, or will be, space for more bytes; once false, always false."""
        return not self._broken or self.bytes_in_memory <= self._budget + BACKLOG

    def new_segment(self, size: int) -> Memory:
        """Return memory for *size* bytes with any content, a used segment if possible."""
        if size < LARGEST_SEGMENT:
            return bytearray(size)
        return _writer.spare_segment() or _map_memory(size)

    def add(self, segment: Segment, used: int) -> None:
        """Keep its first *used* bytes, which do not change, behind those kept so far."""
        with self._lock:
            self._segments.append((self._size, memoryview(segment)[:used]))
            self._size += used
            self.bytes_in_memory += used
            begins = self._has_work() and not self._is_due
            self._is_due = self._is_due or begins
        if begins:
            _writer.submit(self)

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes between two offsets, which lie in one segment."""
        with self._lock:
            for first, data in reversed(self._segments):
                if first <= start:
                    return bytes(data[start - first : end - first])
        return os.pread(self._file, end - start, start)

    def forget(self, before: int) -> None:
        """
        Forget the bytes before the offset *before*: they are never read again.

        Their space on the disk is free when the next segment is written; those that still
        wait for the disk are not written.
        """
        with self._lock:
            self._forgotten = max(self._forgotten, before)

    def _has_work(self) -> bool:
        return self.bytes_in_memory > self._budget and not self._broken

    def write_oldest(self) -> bool:
        """Write the oldest segment, in the thread; return whether another one is due."""
        offset, data = self._segments[0]
        try:
            if offset + len(data) > self._forgotten:
                self._write(data, offset)
        except OSError as exc:
            self._give_up(exc)
            return False
        with self._lock:
            was_full = self.is_full
            del self._segments[0]
            self.bytes_in_memory -= len(data)
            self._is_due = goes_on = self._has_work()
            has_space = was_full and not self.is_full
        _writer.take_back(data.obj)
        if has_space:
            self._report_space()
        return goes_on

    def _write(self, data: memoryview, offset: int) -> None:
        if self._file < 0:
            with tempfile.TemporaryFile(prefix="realtalk-") as file:
                self._file = os.dup(file.fileno())
            FILES.add(self._file)
        self._free_forgotten()
        _check_free_space(self._file)
        while data:  # the system may take fewer bytes than it is given
            written = os.pwrite(self._file, data, offset)
            data, offset = data[written:], offset + written

    def _free_forgotten(self) -> None:
        start, end = self._freed, self._forgotten
        if end - start >= LEAST_FREED:
            self._freed = end
            _free_space(self._file, start, end)

    def _give_up(self, exc: OSError) -> None:
        with self._lock:
            self._broken, self._is_due = True, False
        if self._on_error is not None:
            self._on_error(exc)
        self._report_space()

    def _report_space(self) -> None:
        if self._on_space is not None:
            self._on_space()


def _check_free_space(file: int) -> None:
    """Raise OSError if the disk of *file* has no more than its reserve left."""
    disk = os.fstatvfs(file)
    left = disk.f_bavail * disk.f_frsize
    if left < min(RESERVE, disk.f_blocks * disk.f_frsize // 20):
        reason = f"only {left >> 20} MiB are left on the disk"
        raise OSError(errno.ENOSPC, reason, tempfile.gettempdir())


def _free_space(file: int, start: int, end: int) -> None:
    """Free the disk space of a part of *file*, where the system and its disk can."""
    if _fallocate is not None:
        punch_hole, keep_size = 2, 1
        _fallocate(file, punch_hole | keep_size, start, end - start)


def _find_fallocate() -> Callable[[int, int, int, int], int] | None:
    try:
        found = ctypes.CDLL(None).fallocate64
    except (AttributeError, OSError):
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return cast("Callable[[int, int, int, int], int]", found)


_fallocate = _find_fallocate()


def _map_memory(size: int) -> mmap.mmap:
    """Return fresh memory, mapped at once: cheaper than a fault for every page."""
    populate = getattr(mmap, "MAP_POPULATE", 0)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | populate)


class _Writer:
    """The writing thread of all stores, which ends shortly after its work."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stores: deque[SpillStore] = deque()
        self._spare: list[Memory] = []
        self._is_running = False

    def submit(self, store: SpillStore) -> None:
        """Have the thread write the due segments of *store*, in turn with others."""
        with self._changed:
            self._stores.append(store)
            if self._is_running:
                self._changed.notify()
            else:
                self._is_running = True
                threading.Thread(
                    target=self._run, name="realtalk-spill", daemon=True
                ).start()

    def spare_segment(self) -> Memory | None:
        """Return a segment that no store needs any more, if there is one."""
        with self._changed:
            return self._spare.pop() if self._spare else None

    def take_back(self, segment: object) -> None:
        """Keep a segment that was written for use again, if it is a large one."""
        with self._changed:
            if isinstance(segment, mmap.mmap) and len(self._spare) < SPARE:
                self._spare.append(segment)

    def _run(self) -> None:
        while store := self._next_store():
            if store.write_oldest():
                with self._changed:
                    self._stores.append(store)
            del store  # a reference here would keep a store alive that has no user

    def _next_store(self) -> SpillStore | None:
        with self._changed:
            if not self._stores:
                self._changed.wait(LINGER)
            if self._stores:
                return self._stores.popleft()
            self._is_running = False
            self._spare.clear()
            return None


_writer = _Writer()
