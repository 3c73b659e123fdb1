"""
`AppendFile`: opens, locks, rotates and appends to the log file.

Other threads and processes may write to the same path, and rotate or remove the file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from realtalk_async.logs.output.target import LogTarget

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

LOCK_TIMEOUT = 2.0
"""
Seconds to wait for another process's lock.

A process that was stopped during its write must not stop all others: after this time
the lines are written without the lock. Each write is one ``write(2)`` with O_APPEND, so
that even then lines tear only if the disk fills up at the same moment.

While other processes write or rotate, the wait continues: see `MAX_LOCK_WAIT`.
"""

MAX_LOCK_WAIT = 10.0
"""
Seconds to wait for the lock of one file while other processes append to it.

They may do so without the lock, because its holder was stopped; so the wait ends.
"""

NOTICE_INTERVAL = 60.0
"""Seconds between two notices of one kind about the same file."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a new file is begun, and how many rotated files are kept."""

    max_bytes: int
    """Largest size of a file, except with a single line that is longer."""
    backups: int
    """Rotated files to keep, as ``name.1`` (the newest) to ``name.<backups>``."""


class Piece(NamedTuple):
    """A range of bytes of one file that is being written."""

    length: int
    """Bytes."""
    device: int
    inode: int
    offset: int
    """Position of its first byte in the file."""


class Journal(Protocol):
    """Records each write, so that a later process can complete an interrupted one."""

    def begins(self, piece: Piece) -> None:
        """Record that *piece* is about to be written."""
        ...

    def ended(self, length: int) -> None:
        """Record that *length* bytes of the piece, whole lines, are in the file."""
        ...


class Owner(Protocol):
    """The object that has the file locked: the queue."""

    def add_notice(self, kind: str, message: str) -> None:
        """Add an entry about the file to the log."""
        ...

    def recover(self) -> None:
        """Append lines of killed processes; they may complete an unfinished last line."""
        ...


class AppendFile:
    """
    Appends whole lines to the file that a path names at the time of each write.

    Only one thread at a time may use it.
    """

    def __init__(self, path: Path, rotation: Rotation | None) -> None:
        """
        Store the path; no file is opened.

        Args:
            path: The file. It is created if it does not exist, and created again, with
                its folder, if it was removed or renamed later.
            rotation: When to begin a new file; never if `None`.
        """
        self.path = path
        self.target = LogTarget(path)
        self.done = 0
        """Bytes of the last `put` that are in the file, as whole lines."""
        self._rotation = rotation
        self.exclusive = False
        """Whether, while `locked`, certainly no other process writes."""
        self._owner: Owner | None = None
        self._next_rotation = 0.0
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None
        self._stuck: tuple[int, int] | None = None
        """The file whose lock another process keeps, as far as we know."""
        self._size = self._end = 0
        self._is_torn = False
        """Whether a pipe has the beginning of a line whose rest could not be written."""

    def close(self) -> None:
        """Close the descriptor; the next `locked` opens the file again."""
        if self._is_open():
            os.close(self._descriptor)
        self._descriptor = -1

    @contextlib.contextmanager
    def locked(self, owner: Owner) -> Generator[None]:
        """
        Open and lock the file that the path names now, on behalf of *owner*.

        Raises:
            OSError: If it cannot be opened.
        """
        self._owner = owner
        try:
            self._lock_current()
            yield
        finally:
            self._owner = None
            if self._descriptor >= 0:
                self._unlock()

    def put(self, data: bytes, journal: Journal | None = None) -> None:
        """
        Append *data*, whole lines, and rotate as often as needed; only while `locked`.

        Raises:
            OSError: If some of it was not written; `done` is the part that was.
        """
        self.done = 0
        view = memoryview(data)
        while self.done < len(data):
            start, end = self.done, self._end_of_fitting(data)
            if end == start:
                self._rotate()
                continue
            if journal is not None:
                place = self._identity or (0, 0)
                journal.begins(Piece(end - start, *place, self._size))
            try:
                self._write_all(view[start:end])
            finally:
                if journal is not None:
                    journal.ended(self.done - start)

    def find(self, piece: Piece, data: bytes) -> int:
        """
        Return how many bytes of *data* an interrupted write has put in the file.

        Only whole lines count. If the current file ends with the beginning of another
        line of *data*, that beginning is removed. Only while `locked`.

        Args:
            piece: The interrupted write.
            data: The lines it was writing.
        """
        descriptor = self._open_file_of(piece)
        if descriptor is None:
            return 0
        try:
            written = os.pread(descriptor, piece.length, piece.offset)
            equal = _common_prefix(written, data[: piece.length])
            whole = data.rfind(b"\n", 0, equal) + 1
            is_end = os.fstat(descriptor).st_size == piece.offset + equal
        finally:
            os.close(descriptor)
        if equal > whole and is_end and self._identity == (piece.device, piece.inode):
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, piece.offset + whole)
                self._size = piece.offset + whole
        return whole

    def numbered(self, number: int) -> Path:
        """Return the path of a rotated file; number 0 is the current one."""
        return (
            self.path.with_name(f"{self.path.name}.{number}") if number else self.path
        )

    # Writing and rotation

    def _end_of_fitting(self, data: bytes) -> int:
        """Return the end of the part of *data* that fits into the current file."""
        start, end = self.done, len(data)
        if self._rotation is None or time.monotonic() < self._next_rotation:
            return end
        if not self.target.is_own or self.target.number is not None:
            return end
        room = self._rotation.max_bytes - self._size
        if end - start <= room:
            return end
        fitting = data.rfind(b"\n", start, start + max(room, 0)) + 1
        if fitting > start or self._size > 0:
            return max(fitting, start)
        return data.find(b"\n", start) + 1  # one line longer than a whole file

    def _write_all(self, piece: memoryview) -> None:
        """Write *piece*; if the disk is full, remove the part of a line at the end."""
        sent = 0
        try:
            if self._is_torn:
                self.target.write(self._descriptor, memoryview(b"\n"))
                self._is_torn = False
            while sent < len(piece):
                sent += self.target.write(self._descriptor, piece[sent:])
        except OSError:
            whole = bytes(piece[:sent]).rfind(b"\n") + 1
            if sent > whole:
                self._is_torn = not self.target.is_own
            if sent > whole and self.target.is_own:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self._size + whole)
            self.done += whole
            raise
        self.done += sent
        self._size += sent
        self._end = self._size

    def _rotate(self) -> None:
        """Rename each file to the next number, and begin a new one."""
        assert self._rotation is not None
        try:
            for number in reversed(range(self._first_free_number())):
                with contextlib.suppress(FileNotFoundError):
                    self.numbered(number).rename(self.numbered(number + 1))
            if not self._rotation.backups:
                self.path.unlink()
        except OSError as error:
            # A file that is too large is better than lost lines.
            self._next_rotation = time.monotonic() + NOTICE_INTERVAL
            self._add_notice("rotation", f"the log cannot be rotated: {error.strerror}")
            return
        self.close()
        self._lock_current()

    def _first_free_number(self) -> int:
        """Return the lowest number without a file, or the highest that is kept."""
        assert self._rotation is not None
        number = 0
        while number < self._rotation.backups and os.path.lexists(
            self.numbered(number)
        ):
            number += 1
        return number

    # Opening and locking

    def _lock_current(self) -> None:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while time.monotonic() < deadline:
            if self._descriptor >= 0 and not self._is_open():
                self._descriptor = -1
                self._add_notice(
                    "closed", "the log file was closed by other code and is open again"
                )
            if self._descriptor < 0:
                self._open()
            has_waited = self._wait_for_lock()
            # Only under the lock: before it, another process may rotate the file.
            if self._is_current():
                self._finish_last_line()
                return
            self._report_replaced()
            self.close()
            if has_waited:  # for a process that then rotated the file
                deadline = time.monotonic() + LOCK_TIMEOUT
        raise OSError(errno.ESTALE, "replaced each time it was opened", str(self.path))

    def _is_open(self) -> bool:
        """Whether the descriptor still is that of the file; other code may close it."""
        try:
            status = os.fstat(self._descriptor)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def _open(self) -> None:
        """Open the file; if its folder was removed since the last time, create it."""
        try:
            self._descriptor = self.target.open()
        except FileNotFoundError:
            if self._identity is None:
                raise
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = self.target.open()
        status = os.fstat(self._descriptor)
        known, self._identity = self._identity, (status.st_dev, status.st_ino)
        if known not in {None, self._identity}:
            self._report_replaced()

    def _report_replaced(self) -> None:
        # With rotation, another process has rotated the file.
        if self._rotation is None:
            self._add_notice(
                "vanished", "the log file was removed or renamed; this is a new file"
            )

    def _add_notice(self, kind: str, message: str) -> None:
        if self._owner is not None:
            self._owner.add_notice(kind, message)

    def _unlock(self) -> None:
        if self.target.has_lock:
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _wait_for_lock(self) -> bool:
        """Lock the file, unless another process keeps the lock; return if it waited."""
        if not self.target.has_lock:
            self.exclusive = True
            return False
        began = progress = time.monotonic()
        size, pause = -1, 0.0001
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.exclusive = False
            except OSError:
                self.exclusive = True  # a file system without locks
            else:
                self.exclusive = True
                self._stuck = None
            if self.exclusive:
                return size >= 0
            now = time.monotonic()
            before, size = size, os.fstat(self._descriptor).st_size
            if size != before and self._stuck != self._identity:
                progress = now
            if now - progress >= LOCK_TIMEOUT or now - began >= MAX_LOCK_WAIT:
                self._stuck = self._identity
                return True
            time.sleep(pause)
            pause = min(pause * 2, 0.005)

    def _is_current(self) -> bool:
        try:
            named = self.target.status()
        except OSError:
            return False
        return (named.st_dev, named.st_ino) == self._identity

    def _finish_last_line(self) -> None:
        """Update the size; end a last line that a killed process left without newline."""
        self._size = os.fstat(self._descriptor).st_size if self.target.is_own else 0
        if self._size in {0, self._end}:
            return
        with contextlib.suppress(OSError):  # the file may be writable but not readable
            if self._ends_within_line():
                if self._owner is not None and self.exclusive:
                    self._owner.recover()
                self._size = os.fstat(self._descriptor).st_size
                if self._ends_within_line():
                    self._size += os.write(self._descriptor, b"\n")

    def _ends_within_line(self) -> bool:
        size = self._size
        return size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"

    def _open_file_of(self, piece: Piece) -> int | None:
        """Open the file of *piece* for reading; rotation may have renamed it."""
        number = 0
        while True:
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            try:
                descriptor = os.open(self.numbered(number), flags)
            except OSError:
                return None  # the file was deleted, with its lines
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) == (piece.device, piece.inode):
                return descriptor
            os.close(descriptor)
            number += 1


def _common_prefix(one: bytes, other: bytes) -> int:
    """Return how many bytes are equal, from the beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
