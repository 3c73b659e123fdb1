"""
Old output on the disk instead of in memory. An edge: one unlinked temporary file a stream.

Slabs beyond a budget are written by one thread for the whole program, which exists only
while something is to be written. A file without a name vanishes with us, however we end.
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
import threading
from collections import deque
from typing import TYPE_CHECKING

from realtalk_async.supervision.output import buffer

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.supervision.output.buffer import Slab

BUDGET = 2 * 1024 * 1024
"""
Bytes of one stream that stay in memory: what was written is read as fast from the disk's
cache, and memory that is used again costs a fifth of fresh memory.
"""

BACKLOG = 4 * 1024 * 1024
"""
Bytes beyond the budget that may wait for the disk. A child that is faster than the disk
has to wait then: that bounds our memory without losing a byte.
"""

RESERVE = 1 << 30
"""
Bytes of the disk that are left to others, or a twentieth of it if that is less: output
must not be what fills it, while the log and the app have something to write.
"""

SPARE = 8
"""Slabs that are kept for use again while the thread lives."""

LINGER = 0.2
"""Seconds that the thread waits for something to write before it ends."""


FILES: set[int] = set()
"""Descriptors of output that is kept for as long as somebody can ask for it."""


class SpillStore:
    """
    Keep slabs: the newest in memory, older ones in a file.

    Not thread-safe but for its own writing: use it from one thread.

    Args:
        budget: Bytes that may stay in memory.
        on_trouble: Called from the writing thread with the first error, such as a full
            disk. Nothing is lost by that, but then nothing more is written either:
            when `BACKLOG` is used up as well, `takes_more` ends.
        on_room: Called from the writing thread when `is_full` has ended.
    """

    __slots__ = (
        "_broken", "_budget", "_file", "_is_due", "_lock", "_on_room",
        "_on_trouble", "_size", "_slabs", "held",
    )  # fmt: skip

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
        self._size = 0
        self._slabs: list[tuple[int, memoryview]] = []  # those in memory, by offset
        self.held = 0
        """Bytes in memory, those being written included."""
        self._file = -1
        self._broken = False
        self._is_due = False  # the thread is at work for it, or will be
        self._lock = threading.Lock()

    def __del__(self) -> None:
        """Give the space back: nobody can ask for the output any more."""
        if self._file >= 0:
            FILES.discard(self._file)
            os.close(self._file)

    @property
    def is_writing(self) -> bool:
        """Whether the thread is at work for this store, or about to be."""
        with self._lock:
            return self._is_due

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the disk that the child should wait, too."""
        return self.held > self._budget + BACKLOG and not self._broken

    @property
    def takes_more(self) -> bool:
        """Whether there is, or will be, room for more; it ends with the disk's."""
        return not self._broken or self.held <= self._budget + BACKLOG

    def fresh(self, size: int) -> Slab:
        """Return memory for *size* bytes, used before if there is some."""
        if size < buffer.SLAB:
            return bytearray(size)
        return _writer.spare() or _map(size)

    def add(self, slab: Slab, used: int) -> None:
        """Keep its first *used* bytes behind those kept so far; they do not change."""
        with self._lock:
            self._slabs.append((self._size, memoryview(slab)[:used]))
            self._size += used
            self.held += used
            begins = self._has_work() and not self._is_due
            self._is_due = self._is_due or begins
        if begins:
            _writer.ask(self)

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes between two offsets, which lie in one slab."""
        with self._lock:
            for first, data in reversed(self._slabs):
                if first <= start:
                    return bytes(data[start - first : end - first])
        return os.pread(self._file, end - start, start)

    def _has_work(self) -> bool:
        return self.held > self._budget and not self._broken

    def write_one(self) -> bool:
        """Write the oldest slab, in the thread; return whether another one is due."""
        offset, data = self._slabs[0]
        try:
            self._write(data, offset)
        except OSError as exc:
            self._give_up(exc)
            return False
        with self._lock:
            was_full = self.is_full
            del self._slabs[0]
            self.held -= len(data)
            self._is_due = goes_on = self._has_work()
            has_room = was_full and not self.is_full
        _writer.take_back(data.obj)
        if has_room:
            self._tell_of_room()
        return goes_on

    def _write(self, data: memoryview, offset: int) -> None:
        if self._file < 0:
            with tempfile.TemporaryFile(prefix="realtalk-") as file:
                self._file = os.dup(file.fileno())
            FILES.add(self._file)
        _leave_some(self._file)
        while data:  # the system may take less than it is given
            written = os.pwrite(self._file, data, offset)
            data, offset = data[written:], offset + written

    def _give_up(self, exc: OSError) -> None:
        with self._lock:
            self._broken, self._is_due = True, False
        if self._on_trouble is not None:
            self._on_trouble(exc)
        self._tell_of_room()

    def _tell_of_room(self) -> None:
        if self._on_room is not None:
            self._on_room()


def _leave_some(file: int) -> None:
    """Raise OSError if the disk of *file* has hardly anything left."""
    disk = os.fstatvfs(file)
    left = disk.f_bavail * disk.f_frsize
    if left < min(RESERVE, disk.f_blocks * disk.f_frsize // 20):
        reason = f"only {left >> 20} MiB are left on the disk"
        raise OSError(errno.ENOSPC, reason, tempfile.gettempdir())


def _map(size: int) -> mmap.mmap:
    """Return fresh memory, all of it at once: less than a fault for every page."""
    populate = getattr(mmap, "MAP_POPULATE", 0)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | populate)


class _Writer:
    """The one writing thread, alive only while there is work, and a moment longer."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._stores: deque[SpillStore] = deque()
        self._spare: list[Slab] = []
        self._lives = False

    def ask(self, store: SpillStore) -> None:
        """Have the thread write what is due of *store*, in turn with others."""
        with self._news:
            self._stores.append(store)
            if self._lives:
                self._news.notify()
            else:
                self._lives = True
                threading.Thread(
                    target=self._work, name="realtalk-spill", daemon=True
                ).start()

    def spare(self) -> Slab | None:
        """Return a slab that nobody needs any more, if there is one."""
        with self._news:
            return self._spare.pop() if self._spare else None

    def take_back(self, slab: object) -> None:
        """Keep a slab that was written for use again, if it is a large one."""
        with self._news:
            if isinstance(slab, mmap.mmap) and len(self._spare) < SPARE:
                self._spare.append(slab)

    def _work(self) -> None:
        while store := self._next():
            if store.write_one():
                with self._news:
                    self._stores.append(store)
            del store  # nobody may keep it alive but those who use it

    def _next(self) -> SpillStore | None:
        with self._news:
            if not self._stores:
                self._news.wait(LINGER)
            if self._stores:
                return self._stores.popleft()
            self._lives = False
            self._spare.clear()
            return None


_writer = _Writer()
