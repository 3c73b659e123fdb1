"""
`LogTarget`: what the path of a log names: a file, a pipe, a terminal, a socket, a device.

``/dev/stdout``, ``/dev/fd/3``, ``/proc/self/fd/3`` and links to them name a descriptor of
this process. Such a log is never rotated, and a socket is written through a duplicate.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import stat
import time
from typing import TYPE_CHECKING

from realtalk_async.exceptions import LogUnavailable, LogUnreadable

if TYPE_CHECKING:
    from pathlib import Path

MAX_STALL = 5.0
"""Seconds to wait for a reader that takes nothing, at the end of the interpreter."""

PATIENCE_INTERVAL = 0.1
"""Seconds between two looks at whether the wait for a reader must end."""

PIPE_BUF = select.PIPE_BUF
"""Bytes of one write to a pipe that no other writer's bytes divide."""

FIRST_FREE = 3
"""Lowest descriptor of a log: 0 to 2, even if closed, stay those of the app."""

_DESCRIPTORS = re.compile(r"(?:/dev|/proc/(self|thread-self|\d+)(?:/task/\d+)?)/fd")
_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_MAX_LINKS = 40
_FLAGS = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class _Refused(OSError):
    """The path names something that no log can be written to."""

    def __init__(self, number: int, reason: str, remedy: str) -> None:
        super().__init__(number, reason)
        self.remedy = remedy


class LogTarget:
    """
    Opens what a path names, and writes to it; only one thread at a time may use it.

    A pipe, a terminal or a socket whose reader is slow is waited for, as a slow disk is.
    While `patient` is false, the wait ends when the reader has taken nothing for
    `max_stall` seconds.
    """

    def __init__(self, path: Path) -> None:
        """Store the path; nothing is opened."""
        self.path = path
        self.patient = False
        """Whether the wait for a reader has no end: somebody can cancel it."""
        self.is_file = True
        """Whether it is a regular file, so that its lines can be read."""
        self.is_own = True
        """Whether it is a regular file to which each write appends."""
        self.has_lock = True
        """Whether a lock on it keeps other processes from writing."""
        self.number: int | None = None
        """The descriptor of this process that the path names, if it names one."""
        self._kind = "a file"
        self._max_stall = MAX_STALL
        self._stalled_since: float | None = None

    def check(self) -> None:
        """
        Check that it can be written; create a file that does not exist.

        Raises:
            LogUnavailable: If it cannot be written.
        """
        try:
            os.close(self.open())
        except OSError as error:
            reason = error.strerror or str(error)
            remedy = error.remedy if isinstance(error, _Refused) else None
            raise LogUnavailable(str(self.path), reason, remedy) from error

    def check_readable(self) -> None:
        """
        Check that what was opened last keeps its lines.

        Raises:
            LogUnreadable: If it is no regular file.
        """
        if not self.is_file:
            raise LogUnreadable(str(self.path), f"{self._kind} keeps no lines")

    def open(self) -> int:
        """
        Open what the path names now.

        Raises:
            OSError: If it cannot be opened.
        """
        self.number = _number_of(self.path)
        if self.number is None:
            descriptor, shared = self._open_path(), False
        else:
            descriptor, shared = self._open_number(self.number)
        descriptor = _above_standard(descriptor)
        mode = os.fstat(descriptor).st_mode
        self.is_file = stat.S_ISREG(mode)
        self._kind = kind_of(mode)
        self.is_own = self.is_file and not shared
        self.has_lock = not shared and (self.is_file or stat.S_ISFIFO(mode))
        return descriptor

    def status(self) -> os.stat_result:
        """
        Return the status of what the path names now.

        Raises:
            OSError: If it names nothing.
        """
        if self.number is not None:
            return os.fstat(self.number)
        return self.path.stat()

    def limit_stall(self, seconds: float) -> None:
        """Begin to wait anew for a reader that takes nothing, *seconds* at most."""
        self._max_stall, self._stalled_since = seconds, None

    def write(self, descriptor: int, data: memoryview) -> int:
        """
        Write some of *data*, whole lines; return how many bytes were written.

        To anything but a file of its own, lines go in writes of at most `PIPE_BUF`
        bytes, so that those of several processes do not mix; a longer line goes alone.

        Raises:
            OSError: If nothing can be written now.
        """
        if self.is_own:
            return os.write(descriptor, data)
        piece = _whole_lines(data)
        while True:
            self._wait_for_room(descriptor)
            try:
                sent = os.write(descriptor, piece)
            except BlockingIOError:  # another process was faster
                continue
            self._stalled_since = None
            return sent

    def _wait_for_room(self, descriptor: int) -> None:
        room = select.poll()
        room.register(descriptor, select.POLLOUT)
        if room.poll(0):
            return
        if self._stalled_since is None:
            self._stalled_since = time.monotonic()
        while True:
            left = self._stalled_since + self._max_stall - time.monotonic()
            if left <= 0 and not self.patient:
                raise BlockingIOError(errno.EAGAIN, "its reader takes nothing")
            pause = PATIENCE_INTERVAL if self.patient else min(left, PATIENCE_INTERVAL)
            if room.poll(pause * 1000):
                return

    def _open_path(self) -> int:
        """Open a path that names no descriptor."""
        try:
            mode = self.path.stat().st_mode
        except OSError:
            mode = stat.S_IFREG  # the error, or a new file, comes from opening it
        access = os.O_RDWR if stat.S_ISREG(mode) else os.O_WRONLY
        try:
            return os.open(self.path, access | _FLAGS, 0o666)
        except PermissionError:
            return os.open(self.path, os.O_WRONLY | _FLAGS, 0o666)
        except OSError as error:
            if error.errno == errno.ENXIO and stat.S_ISFIFO(mode):
                raise _Refused(
                    errno.ENXIO,
                    "no process reads this pipe",
                    "start its reader first, or give the path of a file",
                ) from error
            if error.errno == errno.ENXIO and stat.S_ISSOCK(mode):
                raise _Refused(
                    errno.ENXIO,
                    "it is a socket",
                    "connect to it and give '/dev/fd/N', N being its descriptor, or "
                    "give the path of a file",
                ) from error
            raise

    def _open_number(self, number: int) -> tuple[int, bool]:
        """Open a descriptor anew, or duplicate it; return whether it is a duplicate."""
        remedy = "open it for writing first, or give the path of a file"
        try:
            flags = fcntl.fcntl(number, fcntl.F_GETFL)
        except OSError as error:
            reason = f"descriptor {number} is closed"
            raise _Refused(errno.EBADF, reason, remedy) from error
        if flags & os.O_ACCMODE == os.O_RDONLY:
            reason = f"descriptor {number} is open for reading only"
            raise _Refused(errno.EBADF, reason, remedy)
        mode = os.fstat(number).st_mode
        # A second description has an offset of its own: without O_APPEND, what the app
        # prints and the log would overwrite each other.
        if not stat.S_ISREG(mode) or flags & os.O_APPEND:
            access = os.O_RDWR if stat.S_ISREG(mode) else os.O_WRONLY
            for each in (access, os.O_WRONLY):
                try:
                    opened = os.open(f"/proc/self/fd/{number}", each | _FLAGS)
                except OSError:  # a socket, another user's pipe, no /proc
                    continue
                return opened, False
        return os.dup(number), True


def kind_of(mode: int) -> str:
    """Return what a mode says, with its article."""
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a terminal or device" if stat.S_ISCHR(mode) else "what is no file"


def _number_of(path: Path) -> int | None:
    """Return the descriptor of this process that *path* names, through any links."""
    name = os.path.abspath(path)
    for _ in range(_MAX_LINKS):
        if name in _STANDARD:
            return _STANDARD[name]
        folder, _, last = name.rpartition("/")
        if not _DESCRIPTORS.fullmatch(folder):
            folder = os.path.realpath(folder)
        if last.isdecimal() and (match := _DESCRIPTORS.fullmatch(folder)):
            is_ours = match[1] in {None, "self", "thread-self", str(os.getpid())}
            return int(last) if is_ours else None
        try:
            link = os.readlink(f"{folder}/{last}")
        except OSError:  # no link: the path itself
            return None
        name = os.path.normpath(os.path.join(folder, link))
    return None


def _above_standard(descriptor: int) -> int:
    """Return a descriptor that no program takes for its input, output or errors."""
    if descriptor >= FIRST_FREE:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)
    finally:
        os.close(descriptor)


def _whole_lines(data: memoryview) -> memoryview:
    """Return the lines that fit into one write to a pipe, or the first if none does."""
    if len(data) <= PIPE_BUF:
        return data
    end = bytes(data[:PIPE_BUF]).rfind(b"\n") + 1
    size = PIPE_BUF
    while not end and size < len(data):
        size *= 2  # a copy of all lines for each long one would take long
        end = bytes(data[:size]).find(b"\n") + 1
    return data[: end or len(data)]
