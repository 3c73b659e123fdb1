"""What POSIX and Python give everywhere, and kqueue where it exists: macOS, BSD."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import select
import signal
import stat
import struct
import sys
import tempfile
import time
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from realtalk_async.operating_system.interface import Peer
from realtalk_async.operating_system.poll import PollReadiness
from realtalk_async.operating_system.ps_table import PsTable

if TYPE_CHECKING:
    import socket
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Generator
    from pathlib import Path

    from realtalk_async.operating_system.interface import ProcessTable, Readiness
    from realtalk_async.operating_system.kqueue import ExitQueue

P_ALL, P_PID = 0, 1
WNOHANG, WEXITED = 1, 4
WNOWAIT = 0x20 if sys.platform == "darwin" else 0x01000000
WSTOPPED = 8 if sys.platform == "darwin" else 2
"""Constants of waitid(2). Python has that function on macOS since 3.13 only."""

SIGINFO_SIZE = 256
"""Bytes for ``siginfo_t`` (104 or 128), whose first field is the signal's number."""

STATUS_AT = 20 if sys.platform == "darwin" else 24
"""Where ``si_status`` stands in it, of four bytes."""

KINDS = {
    stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFREG: "file",
    stat.S_IFCHR: "device", stat.S_IFDIR: "folder",
}  # fmt: skip
"""What a descriptor refers to, in words."""

OPEN_MAX = 10240
"""The most descriptors that macOS lets a process ask for."""

SOL_LOCAL, LOCAL_PEERCRED, LOCAL_PEERPID = 0, 1, 2
XUCRED = struct.Struct("Ii")
"""The first fields of macOS's ``struct xucred``: version (0) and uid."""


PC_CASE_SENSITIVE: int | None = 11 if sys.platform == "darwin" else None
"""The number of a question of pathconf(2) that Python has no name for."""


class Change(NamedTuple):
    """What waitid(2) has found."""

    is_found: bool
    status: int
    """The exit status, or the number of a signal."""


class Posix:
    """macOS, BSD, and a Linux that refuses what only Linux has; see `System`."""

    name = "POSIX"
    max_socket_path = 103
    bytes_of_maxrss = 1 if sys.platform == "darwin" else 1024
    shared_memory: Path | None = None

    def __init__(self) -> None:
        self.processes: ProcessTable = PsTable()
        self._exits: dict[int, tuple[int, ExitQueue]] = {}
        self._libc = ctypes.CDLL(None, use_errno=True)

    def make_readiness(
        self, loop: AbstractEventLoop, on_readable: Callable[[], object]
    ) -> Readiness:
        """Return a kqueue, or what does without."""
        if not hasattr(select, "kqueue"):
            return PollReadiness(loop, on_readable)
        from realtalk_async.operating_system.kqueue import KqueueReadiness

        return KqueueReadiness(loop, on_readable)

    def open_process(self, pid: int) -> int:
        """Return the descriptor of a kqueue that waits for one exit."""
        if not hasattr(select, "kqueue"):
            raise OSError(errno.ENOSYS, "this system has no exit notice")
        from realtalk_async.operating_system.kqueue import ExitQueue

        queue = ExitQueue(pid)
        self._exits[queue.fileno()] = pid, queue
        return queue.fileno()

    def signal_process(self, handle: int, number: int) -> None:
        """Send a signal, unless the notice of the exit is there: the pid may be another's."""
        pid, queue = self._exits[handle]
        if queue.has_exited():
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        os.kill(pid, number)

    def close_process(self, handle: int) -> None:
        """Close a descriptor of `open_process`."""
        _, queue = self._exits.pop(handle)
        queue.close()

    # ---- children

    def wait_for_any_exit(self) -> None:
        """Block until a child has exited; it is not reaped."""
        self._waitid(P_ALL, 0, WEXITED | WNOWAIT)

    def has_exited(self, pid: int) -> bool:
        """Return whether a child has exited and is not reaped."""
        try:
            return self._waitid(P_PID, pid, WEXITED | WNOHANG | WNOWAIT).is_found
        except ChildProcessError:
            return False

    def stop_signal(self, pid: int) -> int:
        """Return the signal that has stopped a child; 0 if none has since the last call."""
        try:
            return self._waitid(P_PID, pid, WSTOPPED | WNOHANG).status
        except ChildProcessError:
            return 0

    def has_children(self) -> bool:
        """Return whether this process has a child, be it a zombie."""
        try:
            self._waitid(P_ALL, 0, WEXITED | WNOHANG | WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def _waitid(self, kind: int, pid: int, options: int) -> Change:
        """Call waitid(2)."""
        info = ctypes.create_string_buffer(SIGINFO_SIZE)
        while self._libc.waitid(kind, pid, info, options):
            code = ctypes.get_errno()
            if code != errno.EINTR:
                raise OSError(code, os.strerror(code))
        is_found = int.from_bytes(info.raw[:4], sys.byteorder) == signal.SIGCHLD
        status = int.from_bytes(info.raw[STATUS_AT : STATUS_AT + 4], sys.byteorder)
        return Change(is_found, status)

    def child_pids(self) -> set[int]:
        """Return the pids of the children, from ``ps``."""
        return {one.pid for one in self.processes.children(os.getpid())}

    def adopts_orphans(self) -> bool:
        """Return whether this is PID 1."""
        return os.getpid() == 1

    # ---- the rest

    def suspended_time(self) -> float:
        """Return the difference of two clocks of macOS: CLOCK_UPTIME_RAW stands still."""
        clock = getattr(time, "CLOCK_UPTIME_RAW", None)
        if clock is None:
            return 0.0
        return time.clock_gettime(time.CLOCK_MONOTONIC) - time.clock_gettime(clock)

    def peer(self, connection: socket.socket) -> Peer:
        """Return the process at the other end, where the system tells."""
        try:
            found = connection.getsockopt(SOL_LOCAL, LOCAL_PEERCRED, SIGINFO_SIZE)
            version, uid = XUCRED.unpack_from(found)
            pid = connection.getsockopt(SOL_LOCAL, LOCAL_PEERPID)
        except (OSError, struct.error):
            return Peer(None, None)
        return Peer(pid, uid) if version == 0 else Peer(None, None)

    @contextlib.contextmanager
    def short_path(self, folder: Path) -> Generator[str]:
        """Give the path of a link in a folder of its own, beneath ``/tmp``."""
        with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as short:
            link = f"{short}/f"
            os.symlink(folder.absolute(), link)
            yield link

    def comparable_name(self, folder: Path, name: str) -> str:
        """Return a name in the form that all names of its file have on macOS."""
        if PC_CASE_SENSITIVE is None:
            return name
        if not _tells_case_apart(folder):
            name = name.casefold()
        return unicodedata.normalize("NFD", name)

    def enlarge_pipe(self, descriptor: int, size: int) -> int | None:
        """Leave a pipe as it is: the kernel enlarges it by itself, to 64 KiB."""
        return None

    def allocate(self, descriptor: int, size: int) -> None:
        """Write zeros: a page fault without room would be a SIGBUS."""
        zeros = bytes(64 * 1024)
        for start in range(0, size, len(zeros)):
            os.pwrite(descriptor, zeros[: size - start], start)

    def raise_descriptor_limit(self) -> int:
        """Allow as many as the hard limit does, `OPEN_MAX` at most: macOS gives 256."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = OPEN_MAX if hard < 0 else min(hard, OPEN_MAX)
        if soft < 0 or soft >= most:
            return 0
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError):
            return 0
        return most

    def file_attribute(self, path: str, name: str) -> bytes:
        """Refuse: only cgroups need it."""
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), path)

    def descriptors(self) -> dict[int, str]:
        """Return the descriptors, each with the kind and the number of its file."""
        found: dict[int, str] = {}
        for number in map(int, os.listdir("/dev/fd")):
            with contextlib.suppress(OSError):  # the descriptor that listed the folder
                status = os.fstat(number)
                kind = KINDS.get(stat.S_IFMT(status.st_mode), "descriptor")
                found[number] = f"{kind}:[{status.st_dev}:{status.st_ino}]"
        return found

    def open_again(self, descriptor: int, path: Path, flags: int) -> int:
        """Open a file a second time, by its path; it must be the same file."""
        again = os.open(path, flags)
        if os.path.samestat(os.fstat(again), os.fstat(descriptor)):
            return again
        os.close(again)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _tells_case_apart(folder: Path) -> bool:
    assert PC_CASE_SENSITIVE is not None
    try:
        return os.pathconf(folder, PC_CASE_SENSITIVE) == 1
    except OSError:  # it does not answer: two files taken for one would be mixed
        return True
