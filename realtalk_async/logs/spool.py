"""
Lines in shared memory, which outlive their process until they are in the log.

An edge: it knows shared memory and a queue of bytes, but not the log they are for. A
spool is a file in memory with a header and two segments: one takes lines while the other
is written to the log, and then cleared with zeros. No line holds a zero; so what stands
before the first one, up to the last newline, is whole lines, at whatever byte their
process was killed.

An owner has its spool locked as long as it lives, and the kernel unlocks what belonged to
the dead: who gets the lock brings the lines into the log as the owner would have.
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

FOLDER = Path("/dev/shm")  # noqa: S108 - made by mkstemp; read only if it is our own
"""Where spools are: memory with names, of no process. Where it is missing, none are."""

SEGMENT = 2 * 1024 * 1024
"""Bytes of each of the two segments: what 20,000 lines a second fill in a second."""

_HEADER = mmap.PAGESIZE
_SIZE = _HEADER + 2 * SEGMENT
_OWNER = struct.Struct("<16sQ")
_MAGIC = b"realtalk spool 1"
_RECORD = struct.Struct("<7Q")
"""
Number of the record, front segment, how much of it is in the log, and the `Piece` that
is being written. Its checksum follows.
"""
_RECORDS_AT = (256, 512)
"""Written in turn, so that there is always one whole."""
_ZEROS = bytes(64 * 1024)
_NONE = Piece(0, 0, 0, 0)


class Spool:
    """
    A queue of lines in shared memory, before the one in the process's own.

    `append` is for any thread, and for signal handlers; the rest is for the one thread
    that writes, whose journal it is.
    """

    def __init__(
        self,
        path: Path,
        descriptor: int,
        overflow: list[bytes],
        on_overflow: Callable[[], object],
    ) -> None:
        """
        Map a spool of its full size.

        Args:
            path: Its name.
            descriptor: It, open and locked; from now on it belongs to this object.
            overflow: Takes the lines that there is no room for, and those after them.
            on_overflow: Called after each of them, by who logged it.
        """
        self.path = path
        self.piece = _NONE
        """What its dead owner was writing; of length 0 if it was not."""
        self._overflow = overflow
        self._on_overflow = on_overflow
        self.full = bool(overflow)
        """Whether lines overflow now."""
        self._descriptor = descriptor
        # A signal handler may log in the middle of a log call of its own thread.
        self._guard = threading.RLock()
        self._header, *self._segments = _mapped(descriptor)
        self._front = 0
        """The segment whose lines are the older ones; while it is written, no other."""
        self._active = self._segments[0]
        """The segment that takes lines."""
        self._done = 0
        """How much of the front segment is in the log."""
        self._count = 0

    @property
    def owner(self) -> int:
        """The process id of who made it."""
        return int(_OWNER.unpack_from(self._header)[1])

    # For the log calls

    def append(self, line: bytes) -> None:
        """Take a whole line, newline included; once this returns it is safe."""
        with self._guard:
            if not self.full:
                try:
                    self._active.write(line)
                except ValueError:  # no room
                    self.full = True
                else:
                    return
            self._overflow.append(line)
        self._on_overflow()

    # For the thread that writes

    def take(self) -> bytes:
        """Return what waits, or the older part of it; it is kept until it `ended`."""
        self._clear_front()
        front = self._segments[self._front]
        with self._guard:
            if self._active is front and front.tell():
                self._active = self._segments[1 - self._front]
        return b"" if self._active is front else front[self._done : front.tell()]

    def begins(self, piece: Piece) -> None:
        """Take note of what is about to be written."""
        self._record(piece)

    def ended(self, length: int) -> None:
        """Take note that so many more bytes are in the log."""
        self._done += length
        self._record(_NONE)
        self._clear_front()

    def _clear_front(self) -> None:
        """Go on with the other segment, if all of the front one is in the log."""
        front = self._segments[self._front]
        if front is self._active or self._done < front.tell():
            return
        # In this order: whoever finds zeros in the front segment goes to the other one.
        for start in range(0, self._done, len(_ZEROS)):
            end = min(start + len(_ZEROS), self._done)
            front[start:end] = _ZEROS[: end - start]
        front.seek(0)
        self._front, self._done = 1 - self._front, 0
        self._record(_NONE)

    def reopen(self) -> None:
        """Take lines again, unless older ones wait in the overflow."""
        with self._guard:
            self.full = bool(self._overflow)

    def seal(self) -> None:
        """Take no more lines: all go to the overflow."""
        with self._guard:
            self.full = True

    def unlink(self) -> None:
        """Take its name away: it holds nothing that would be missed."""
        with suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """Let go of it and its lock; while it has its name, others can find it."""
        for mapped in (self._header, *self._segments):
            mapped.close()
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The header

    def _record(self, piece: Piece) -> None:
        self._count += 1
        numbers = (self._count, self._front, self._done)
        record = _RECORD.pack(*numbers, *piece)
        at = _RECORDS_AT[self._count % 2]
        checksum = zlib.crc32(record).to_bytes(4, "little")
        self._header[at : at + len(record) + 4] = record + checksum

    def _recorded(self, at: int) -> tuple[int, ...]:
        record = self._header[at : at + _RECORD.size]
        checksum = self._header[at + _RECORD.size : at + _RECORD.size + 4]
        whole = zlib.crc32(record).to_bytes(4, "little") == checksum
        return _RECORD.unpack(record) if whole else (0,) * 7

    def sign(self) -> None:
        """Make it the present process's own."""
        _OWNER.pack_into(self._header, 0, _MAGIC, os.getpid())

    def resume(self) -> bool:
        """Go on where its owner was killed; return whether it was a spool at all."""
        if _OWNER.unpack_from(self._header)[0] != _MAGIC:
            return False
        state = max(map(self._recorded, _RECORDS_AT))
        self._count, self._front, self._done, *piece = state
        self.piece = Piece(*piece)
        front, other = self._segments[self._front], self._segments[1 - self._front]
        self._active = other
        for segment, start in ((front, self._done), (other, 0)):
            zero = segment.find(b"\0", start)
            lines = segment.rfind(b"\n", start, zero if zero >= 0 else SEGMENT) + 1
            segment.seek(lines or start)
        return True


def create(
    log: Path, overflow: list[bytes], on_overflow: Callable[[], object]
) -> Spool:
    """
    Make a spool for *log*, for the present process; it takes about 1.5 ms.

    Args:
        log: The path of the log.
        overflow: See `Spool`.
        on_overflow: See `Spool`.

    Raises:
        OSError: If there is no shared memory, or no room in it.
    """
    while True:
        descriptor, path = tempfile.mkstemp(dir=FOLDER, prefix=_prefix(log))
        try:
            if _locked(descriptor):
                # Now, not by a page fault: for want of room that would be a signal.
                os.posix_fallocate(descriptor, 0, _SIZE)
                spool = Spool(Path(path), descriptor, overflow, on_overflow)
                spool.sign()
                return spool
        except BaseException:
            os.close(descriptor)
            os.unlink(path)
            raise
        # Somebody took it for a dead one's, between the two calls above.
        os.close(descriptor)


def names(log: Path) -> list[Path]:
    """Return the spools that there are for *log*, of the living and the dead."""
    try:
        prefix = _prefix(log)
        with os.scandir(FOLDER) as entries:
            return [Path(one.path) for one in entries if one.name.startswith(prefix)]
    except OSError:
        return []


def abandoned(log: Path) -> Iterator[Spool]:
    """Yield the spools for *log* whose owners are dead; each is to be closed."""
    for path in names(log):
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(path, flags)
        except OSError:
            continue  # gone meanwhile, or not ours
        if not _locked(descriptor):
            os.close(descriptor)
            continue
        if os.fstat(descriptor).st_size != _SIZE:  # killed while it was made
            os.unlink(path)
            os.close(descriptor)
            continue
        spool = Spool(path, descriptor, [], bool)
        if spool.resume():
            yield spool
        else:
            spool.unlink()
            spool.close()


def _locked(descriptor: int) -> bool:
    """Lock a spool; return whether it is our own now, and still has its name."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(descriptor).st_nlink == 1


def _mapped(descriptor: int) -> list[mmap.mmap]:
    """Map the header and the segments."""
    # Opened once more: as long as anybody looks at a dead process's memory (``ps`` does)
    # what it had mapped is still open, and locked if the lock were on the same opening.
    again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
    parts = [(0, _HEADER), (_HEADER, SEGMENT), (_HEADER + SEGMENT, SEGMENT)]
    try:
        return [mmap.mmap(again, size, offset=start) for start, size in parts]
    finally:
        os.close(again)


def _prefix(log: Path) -> str:
    # The folder's number, not its path: containers that share their memory may each
    # have a log of that path.
    log = log.resolve()
    folder = log.parent.stat()
    place = f"{folder.st_dev}:{folder.st_ino}:".encode() + os.fsencode(log.name)
    return f"realtalk-{os.geteuid()}-{hashlib.sha256(place).hexdigest()[:16]}-"
