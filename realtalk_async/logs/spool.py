"""
`Spool`: lines in shared memory, which survive the SIGKILL of their process.

A spool is a file in memory with a header and two segments: one segment takes lines while
the other is written to the log and then cleared with zeros. No line contains a zero byte;
so the bytes before the first zero, up to the last newline, are whole lines, at whatever
instruction the process was killed.

The owner holds the lock of its spool as long as it lives, and the kernel releases the
locks of dead processes. The process that gets the lock appends the lines to the log.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import stat
import struct
import tempfile
import threading
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from realtalk_async.logs.append_file import Piece
from realtalk_async.operating_system import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

FOLDER = SYSTEM.shared_memory or Path(tempfile.gettempdir())
"""
The folder of all spools: named memory. A file elsewhere survives the end of a process as
well, but the kernel writes it to the disk from time to time.
"""

SEGMENT = 2 * 1024 * 1024
"""Bytes of each of the two segments: one second of 20,000 lines per second."""

_HEADER = mmap.PAGESIZE
_SIZE = _HEADER + 2 * SEGMENT
_OWNER = struct.Struct("<16sQ")
_MAGIC = b"realtalk spool 1"
_RECORD = struct.Struct("<7Q")
"""
Number of the record, front segment, its bytes that are in the log, and the `Piece` that
is being written. A checksum follows.
"""
_RECORD_OFFSETS = (256, 512)
"""Written alternately, so that one of the two is always whole."""
_ZEROS = bytes(64 * 1024)
_NO_PIECE = Piece(0, 0, 0, 0)


class Spool:
    """
    A queue of lines in shared memory, in front of the queue in the process's own memory.

    Any thread and any signal handler may call `append`. All other methods belong to the
    one thread that writes, and the spool is the journal of its writes.
    """

    def __init__(
        self,
        path: Path,
        descriptor: int,
        overflow: list[bytes],
        on_full: Callable[[], object],
    ) -> None:
        """
        Map a spool of its full size.

        Args:
            path: Its file.
            descriptor: Its open and locked descriptor; the spool closes it.
            overflow: Takes the lines for which there is no room, and the lines after
                them.
            on_full: Called by `append` after each of these lines.
        """
        self.path = path
        self.piece = _NO_PIECE
        """The interrupted write of the dead owner; of length 0 if there was none."""
        self._overflow = overflow
        self._on_full = on_full
        self.full = bool(overflow)
        """Whether lines go to the overflow now."""
        self._descriptor = descriptor
        # Reentrant: a signal handler may log during a log call of its own thread.
        self._lock = threading.RLock()
        self._header, *self._segments = _map(descriptor, path)
        self._front = 0
        """Index of the segment with the older lines; only this segment is written."""
        self._active = self._segments[0]
        """The segment that takes lines."""
        self._done = 0
        """Bytes of the front segment that are in the log."""
        self._records = 0

    @property
    def owner(self) -> int:
        """The process id of the process that created it."""
        return int(_OWNER.unpack_from(self._header)[1])

    # For the log calls

    def append(self, line: bytes) -> None:
        """Take a whole line, newline included; it survives SIGKILL unless it overflows."""
        with self._lock:
            if not self.full:
                try:
                    self._active.write(line)
                except ValueError:  # no room
                    self.full = True
                else:
                    return
            self._overflow.append(line)
        self._on_full()

    # For the thread that writes

    def take(self) -> bytes:
        """Return the lines that wait, or the older part; they stay until `ended`."""
        self._clear_front()
        front = self._segments[self._front]
        with self._lock:
            if self._active is front and front.tell():
                self._active = self._segments[1 - self._front]
        return b"" if self._active is front else front[self._done : front.tell()]

    def begins(self, piece: Piece) -> None:
        """Record that *piece* is about to be written."""
        self._record(piece)

    def ended(self, length: int) -> None:
        """Record that *length* more bytes are in the log."""
        self._done += length
        self._record(_NO_PIECE)
        self._clear_front()

    def _clear_front(self) -> None:
        """If the whole front segment is in the log, clear it and swap the segments."""
        front = self._segments[self._front]
        if front is self._active or self._done < front.tell():
            return
        # In this order: `resume` finds zeros in the front segment and continues with the
        # other segment.
        for start in range(0, self._done, len(_ZEROS)):
            end = min(start + len(_ZEROS), self._done)
            front[start:end] = _ZEROS[: end - start]
        front.seek(0)
        self._front, self._done = 1 - self._front, 0
        self._record(_NO_PIECE)

    def reopen(self) -> None:
        """Take lines again, unless older lines wait in the overflow."""
        with self._lock:
            self.full = bool(self._overflow)

    def seal(self) -> None:
        """Take no more lines: all lines go to the overflow."""
        with self._lock:
            self.full = True

    def unlink(self) -> None:
        """Remove the file; all its lines must be in the log."""
        with suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """Unmap and unlock it; while the file exists, other processes recover it."""
        for mapped in (self._header, *self._segments):
            mapped.close()
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The header

    def _record(self, piece: Piece) -> None:
        self._records += 1
        record = _RECORD.pack(self._records, self._front, self._done, *piece)
        at = _RECORD_OFFSETS[self._records % 2]
        checksum = zlib.crc32(record).to_bytes(4, "little")
        self._header[at : at + len(record) + 4] = record + checksum

    def _read_record(self, at: int) -> tuple[int, ...]:
        record = self._header[at : at + _RECORD.size]
        checksum = self._header[at + _RECORD.size : at + _RECORD.size + 4]
        is_whole = zlib.crc32(record).to_bytes(4, "little") == checksum
        return _RECORD.unpack(record) if is_whole else (0,) * 7

    def sign(self) -> None:
        """Make the current process its owner."""
        _OWNER.pack_into(self._header, 0, _MAGIC, os.getpid())

    def resume(self) -> bool:
        """Continue where its owner was killed; return `False` if it is not a spool."""
        if _OWNER.unpack_from(self._header)[0] != _MAGIC:
            return False
        state = max(map(self._read_record, _RECORD_OFFSETS))
        self._records, self._front, self._done, *piece = state
        self.piece = Piece(*piece)
        front, other = self._segments[self._front], self._segments[1 - self._front]
        self._active = other
        for segment, start in ((front, self._done), (other, 0)):
            zero = segment.find(b"\0", start)
            lines = segment.rfind(b"\n", start, zero if zero >= 0 else SEGMENT) + 1
            segment.seek(lines or start)
        return True


def create(log: Path, overflow: list[bytes], on_full: Callable[[], object]) -> Spool:
    """
    Create a spool for *log*, owned by the current process; it takes about 1.5 ms.

    Args:
        log: The path of the log.
        overflow: See `Spool`.
        on_full: See `Spool`.

    Raises:
        OSError: If there is no shared memory or no room in it.
    """
    while True:
        descriptor, path = tempfile.mkstemp(dir=FOLDER, prefix=_prefix(log))
        try:
            if _lock(descriptor):
                # Now, because a page fault without room would be a SIGBUS.
                SYSTEM.allocate(descriptor, _SIZE)
                spool = Spool(Path(path), descriptor, overflow, on_full)
                spool.sign()
                return spool
        except BaseException:
            os.close(descriptor)
            os.unlink(path)
            raise
        # Between the two calls above another process took it for an abandoned spool.
        os.close(descriptor)


def names(log: Path) -> list[Path]:
    """Return the files of all spools for *log*, of living and dead processes."""
    try:
        prefix = _prefix(log)
        with os.scandir(FOLDER) as entries:
            return [Path(each.path) for each in entries if each.name.startswith(prefix)]
    except OSError:
        return []


def abandoned(log: Path) -> Iterator[Spool]:
    """Yield the spools for *log* of dead processes; the caller closes each."""
    for path in names(log):
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(path, flags)
        except OSError:
            continue  # removed meanwhile, or another user's
        if not _lock(descriptor):
            os.close(descriptor)
            continue
        if os.fstat(descriptor).st_size != _SIZE:  # killed during `create`
            os.unlink(path)
            os.close(descriptor)
            continue
        spool = Spool(path, descriptor, [], bool)
        if spool.resume():
            yield spool
        else:
            spool.unlink()
            spool.close()


def _lock(descriptor: int) -> bool:
    """Lock a spool; return whether we have the lock and the file still exists."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(descriptor).st_nlink == 1


def _map(descriptor: int, path: Path) -> list[mmap.mmap]:
    """Map the header and the segments."""
    # Opened again, because a mapping keeps its open file alive, and with it the lock of
    # that file: if another process (such as ``ps``) reads a dead process's memory, the
    # mappings live on.
    again = SYSTEM.open_again(descriptor, path, os.O_RDWR | os.O_CLOEXEC)
    parts = [(0, _HEADER), (_HEADER, SEGMENT), (_HEADER + SEGMENT, SEGMENT)]
    try:
        return [mmap.mmap(again, size, offset=start) for start, size in parts]
    finally:
        os.close(again)


def _prefix(log: Path) -> str:
    # The inode of the folder, not its path: containers that share memory may each have
    # a log with the same path.
    log = log.resolve()
    folder = log.parent.stat()
    name = SYSTEM.comparable_name(log.parent, log.name)
    place = f"{folder.st_dev}:{folder.st_ino}:".encode() + os.fsencode(name)
    return f"realtalk-{os.geteuid()}-{hashlib.sha256(place).hexdigest()[:16]}-"
