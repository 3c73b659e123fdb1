"""
The file that a path names, to which whole lines are appended: its lock, its rotation.

An edge: it knows the operating system's files, and neither queues nor entries.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from realtalk_async.exceptions import LogUnavailable

if TYPE_CHECKING:
    from collections.abc import Generator

LOCK_PATIENCE = 2.0
"""
Seconds to wait for another process's lock.

A process that was stopped in the middle of its write must not stop all others: after
this time we write without the lock. Every write is one ``write(2)`` with O_APPEND, so
that even then lines tear only if the disk fills up at the same moment.
"""

COMPLAINT_EVERY = 60.0
"""Seconds between two complaints of one kind about the same file."""

_FLAGS = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a new file is begun, and how many old ones are kept."""

    max_bytes: int
    """No file grows beyond this, but for a single line that is longer."""
    backups: int
    """Old files kept, as ``name.1`` (the newest) to ``name.<backups>``."""


class Piece(NamedTuple):
    """What is being written to one place of one file."""

    length: int
    """Bytes."""
    device: int
    inode: int
    offset: int
    """Where in the file it begins."""


class Journal(Protocol):
    """What keeps account of a write, so that a crash amid it can be put right."""

    def begins(self, piece: Piece) -> None:
        """Take note of what is about to be written."""
        ...

    def ended(self, length: int) -> None:
        """Take note that so many bytes of it, whole lines, are in the file."""
        ...


class Owner(Protocol):
    """Who has the file locked."""

    def say(self, kind: str, message: str) -> None:
        """Take what there is to say about the file."""
        ...

    def mend(self) -> None:
        """Complete or remove the unfinished line that the file ends with, if known."""
        ...


def absolute_log_path(log_path: str | os.PathLike[str] | None) -> Path:
    """
    Return *log_path* as an absolute path; without it, create a file.

    It is absolute because the app may change its working directory. The new file is in
    the temporary directory, named after the time.

    Raises:
        LogUnavailable: If the temporary directory cannot be written.
    """
    if log_path is not None:
        return Path(log_path).absolute()
    started = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    try:
        descriptor, path = tempfile.mkstemp(".log", f"realtalk-{started}-")
    except OSError as error:
        folder = tempfile.gettempdir()
        raise LogUnavailable(folder, error.strerror or str(error)) from error
    os.close(descriptor)
    return Path(path)


class Appender:
    """
    Appends whole lines to the file that a path names at that moment.

    It is used by one thread at a time.
    """

    def __init__(self, path: Path, rotation: Rotation | None) -> None:
        """
        Take note of the path; nothing is opened.

        Args:
            path: The file. It is made if it does not exist, and made again, its
                folder too, if it was removed or renamed later on.
            rotation: When to begin a new file; never if `None`.
        """
        self.path = path
        self.done = 0
        """Bytes of the last `put` that are in the file, as whole lines."""
        self._rotation = rotation
        self.alone = False
        """Whether it is certain, while `locked`, that nobody else writes."""
        self._owner: Owner | None = None
        self._rotate_from = 0.0
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None
        self._regular = True
        self._size = self._end = 0

    def check(self) -> None:
        """
        Make sure that the file can be written; make it if it is not there.

        Raises:
            OSError: Why it cannot be.
        """
        self._open()
        self.release()

    def release(self) -> None:
        """Let go of the descriptor; the next `locked` opens the file again."""
        if self._is_open():
            os.close(self._descriptor)
        self._descriptor = -1

    @contextlib.contextmanager
    def locked(self, owner: Owner) -> Generator[None]:
        """
        Have the file that the path names now, open and locked by *owner*.

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
                with contextlib.suppress(OSError):
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def put(self, data: bytes, journal: Journal | None = None) -> None:
        """
        Append *data*, whole lines, to as many files as it takes; only while `locked`.

        Raises:
            OSError: If not all could be written; `done` tells how much was.
        """
        self.done = 0
        view = memoryview(data)
        while self.done < len(data):
            start, end = self.done, self._fitting(data)
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
        Return how much of *data* is in the file as the *piece* it was meant to be.

        Whole lines are counted. A beginning of another one is taken back, if the
        present file ends with it; so this is called only while `locked`.
        """
        descriptor = self._with_identity(piece)
        if descriptor is None:
            return 0
        try:
            found = os.pread(descriptor, piece.length, piece.offset)
            same = _same(found, data[: piece.length])
            whole = data.rfind(b"\n", 0, same) + 1
            is_end = os.fstat(descriptor).st_size == piece.offset + same
        finally:
            os.close(descriptor)
        if same > whole and is_end and self._identity == (piece.device, piece.inode):
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, piece.offset + whole)
                self._size = piece.offset + whole
        return whole

    def numbered(self, number: int) -> Path:
        """Return the path of an old file; the present one is number 0."""
        return (
            self.path.with_name(f"{self.path.name}.{number}") if number else self.path
        )

    # Writing

    def _fitting(self, data: bytes) -> int:
        """Return where in *data* the part ends that fits into the present file."""
        start, end = self.done, len(data)
        if self._rotation is None or time.monotonic() < self._rotate_from:
            return end
        room = self._rotation.max_bytes - self._size
        if end - start <= room:
            return end
        fitting = data.rfind(b"\n", start, start + max(room, 0)) + 1
        if fitting > start or self._size > 0:
            return max(fitting, start)
        return data.find(b"\n", start) + 1  # one line, longer than a whole file

    def _write_all(self, piece: memoryview) -> None:
        """Write whole lines, or as many whole lines as there is room for."""
        sent = 0
        try:
            while sent < len(piece):
                sent += os.write(self._descriptor, piece[sent:])
        except OSError:
            whole = bytes(piece[:sent]).rfind(b"\n") + 1
            if self._regular and sent > whole:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self._size + whole)
            self.done += whole
            raise
        self.done += sent
        self._size += sent
        self._end = self._size

    def _rotate(self) -> None:
        """Move the present file to ``.1``, and the older ones up; begin a new one."""
        assert self._rotation is not None
        try:
            for number in reversed(range(self._rotation.backups)):
                with contextlib.suppress(FileNotFoundError):
                    self.numbered(number).rename(self.numbered(number + 1))
            if not self._rotation.backups:
                self.path.unlink()
        except OSError as error:
            # Better one file that is too large than lines that are not written.
            self._rotate_from = time.monotonic() + COMPLAINT_EVERY
            self._say("rotation", f"the log cannot be rotated: {error.strerror}")
            return
        self.release()
        self._lock_current()

    # The file under the path

    def _lock_current(self) -> None:
        give_up = time.monotonic() + LOCK_PATIENCE
        while time.monotonic() < give_up:
            if self._descriptor >= 0 and not self._is_open():
                self._descriptor = -1
                self._say("closed", "something closed the log's file; it was reopened")
            if self._descriptor < 0:
                self._open()
            self.alone = self._wait_for_lock()
            # Only who has the lock may ask: another process may rotate until then.
            if self._is_current():
                self._measure()
                return
            self._vanished()
            self.release()
        raise OSError(errno.ESTALE, "replaced as often as it is opened", str(self.path))

    def _is_open(self) -> bool:
        """Whether the descriptor is still our file: others close what is not theirs."""
        try:
            status = os.fstat(self._descriptor)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def _open(self) -> None:
        """Open the file, and its folder if that has vanished since the last time."""
        try:
            self._descriptor = self._opened()
        except FileNotFoundError:
            if self._identity is None:
                raise
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = self._opened()
        status = os.fstat(self._descriptor)
        self._regular = stat.S_ISREG(status.st_mode)
        known, self._identity = self._identity, (status.st_dev, status.st_ino)
        if known not in {None, self._identity}:
            self._vanished()

    def _vanished(self) -> None:
        # Where files are rotated it was another process that did.
        if self._rotation is None:
            self._say("vanished", "the log file was removed or renamed; this is new")

    def _say(self, kind: str, message: str) -> None:
        if self._owner is not None:
            self._owner.say(kind, message)

    def _opened(self) -> int:
        try:
            descriptor = os.open(self.path, os.O_RDWR | _FLAGS, 0o666)
        except PermissionError:
            return os.open(self.path, os.O_WRONLY | _FLAGS, 0o666)
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return descriptor
        # Of a pipe we must not be a reader, or it would swallow what nobody reads.
        os.close(descriptor)
        return os.open(self.path, os.O_WRONLY | _FLAGS, 0o666)

    def _wait_for_lock(self) -> bool:
        """Lock the file, or give up; return whether others respect that."""
        give_up = time.monotonic() + LOCK_PATIENCE
        pause = 0.0001
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    return False
            except OSError:
                return True  # a file system without locks
            else:
                return True
            time.sleep(pause)
            pause = min(pause * 2, 0.005)

    def _is_current(self) -> bool:
        try:
            named = self.path.stat()
        except OSError:
            return False
        return (named.st_dev, named.st_ino) == self._identity

    def _measure(self) -> None:
        """Learn the size; end a line that a killed process left without its newline."""
        self._size = os.fstat(self._descriptor).st_size if self._regular else 0
        if self._size in {0, self._end}:
            return
        with contextlib.suppress(OSError):  # it may be ours to write but not to read
            if self._ends_within_a_line():
                if self._owner is not None and self.alone:
                    self._owner.mend()
                self._size = os.fstat(self._descriptor).st_size
                if self._ends_within_a_line():
                    self._size += os.write(self._descriptor, b"\n")

    def _ends_within_a_line(self) -> bool:
        size = self._size
        return size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"

    def _with_identity(self, piece: Piece) -> int | None:
        """Open the file that *piece* belongs to, for reading; rotation may have moved it."""
        number = 0
        while True:
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            try:
                descriptor = os.open(self.numbered(number), flags)
            except OSError:
                return None  # deleted by now, and so is what was written to it
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) == (piece.device, piece.inode):
                return descriptor
            os.close(descriptor)
            number += 1


def _same(one: bytes, other: bytes) -> int:
    """Return how many bytes are the same, from the beginning."""
    same, most = 0, min(len(one), len(other))
    while same < most:
        middle = (same + most + 1) // 2
        if one[same:middle] == other[same:middle]:
            same = middle
        else:
            most = middle - 1
    return same
