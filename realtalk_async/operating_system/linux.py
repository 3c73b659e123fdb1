"""Linux: pidfds, epoll, ``/proc`` and named memory."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from realtalk_async.operating_system.interface import Peer
from realtalk_async.operating_system.proc_files import ProcFiles

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Generator, Iterable

    from realtalk_async.operating_system.interface import ProcessTable

assert sys.platform == "linux"

PR_GET_CHILD_SUBREAPER = 37
CREDENTIALS = struct.Struct("3i")
"""``struct ucred``: pid, uid, gid."""

NEEDED = (
    (select, "epoll"), (os, "pidfd_open"), (os, "waitid"), (os, "posix_fallocate"),
    (signal, "pidfd_send_signal"), (socket, "SO_PEERCRED"), (fcntl, "F_SETPIPE_SZ"),
    (time, "CLOCK_BOOTTIME"),
)  # fmt: skip


def lacks() -> list[str]:
    """Return the functions that this Python should have, and has not."""
    return [name for module, name in NEEDED if not hasattr(module, name)]


class Linux:
    """Linux 5.3 or newer; see `System`."""

    name = "Linux"
    max_socket_path = 107
    bytes_of_maxrss = 1024
    shared_memory: Path | None = Path("/dev/shm")  # noqa: S108 - files there are made by mkstemp

    def __init__(self) -> None:
        self.processes: ProcessTable = ProcFiles()

    def make_readiness(
        self, loop: AbstractEventLoop, on_readable: Callable[[], object]
    ) -> EpollReadiness:
        """Return a new epoll."""
        return EpollReadiness(loop, on_readable)

    def open_process(self, pid: int) -> int:
        """Return a pidfd."""
        return os.pidfd_open(pid)

    def signal_process(self, handle: int, number: int) -> None:
        """Send a signal by a pidfd: no other process can get it."""
        signal.pidfd_send_signal(handle, number)

    def close_process(self, handle: int) -> None:
        """Close a pidfd."""
        os.close(handle)

    def wait_for_any_exit(self) -> None:
        """Block until a child has exited; it is not reaped."""
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)

    def has_exited(self, pid: int) -> bool:
        """Return whether a child has exited and is not reaped."""
        try:
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, pid, flags) is not None
        except ChildProcessError:
            return False

    def stop_signal(self, pid: int) -> int:
        """Return the signal that has stopped a child; 0 if none has since the last call."""
        try:
            found = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:
            return 0
        return found.si_status if found else 0

    def has_children(self) -> bool:
        """Return whether this process has a child, be it a zombie."""
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def child_pids(self) -> set[int]:
        """Return the pids of the children of all threads, from ``/proc``."""
        found: set[int] = set()
        for file in Path("/proc/self/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found.update(map(int, file.read_text().split()))
        return found

    def adopts_orphans(self) -> bool:
        """Return whether this is PID 1 of a container, or a subreaper."""
        if os.getpid() == 1:
            return True
        is_subreaper = ctypes.c_int()
        ctypes.PyDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(is_subreaper))
        return bool(is_subreaper.value)

    def suspended_time(self) -> float:
        """Return the difference of two clocks: one of them stands still meanwhile."""
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        return since_boot - time.clock_gettime(time.CLOCK_MONOTONIC)

    def peer(self, connection: socket.socket) -> Peer:
        """Return the process at the other end, from the kernel."""
        size = CREDENTIALS.size
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid, uid, _ = CREDENTIALS.unpack(found)
        return Peer(pid, uid)

    @contextlib.contextmanager
    def short_path(self, folder: Path) -> Generator[str]:
        """Give the path of a descriptor."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)

    def comparable_name(self, folder: Path, name: str) -> str:
        """Return the name: each other one is another file."""
        return name

    def enlarge_pipe(self, descriptor: int, size: int) -> int | None:
        """Give a pipe more room, if this user may."""
        try:
            return fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, size)
        except OSError:
            return None

    def allocate(self, descriptor: int, size: int) -> None:
        """Give a file its room: a page fault without room would be a SIGBUS."""
        os.posix_fallocate(descriptor, 0, size)

    def raise_descriptor_limit(self) -> int:
        """Leave the limit, usually 1,024, to the administrator."""
        return 0

    def file_attribute(self, path: str, name: str) -> bytes:
        """Return an extended attribute of a file."""
        return os.getxattr(path, name)

    def descriptors(self) -> dict[int, str]:
        """Return the descriptors, each with the kernel's description of its file."""
        found: dict[int, str] = {}
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # the descriptor that listed the folder
                found[int(number)] = os.readlink(f"/proc/self/fd/{number}")
        return found

    def open_again(self, descriptor: int, path: Path, flags: int) -> int:
        """Open the file of a descriptor a second time."""
        return os.open(f"/proc/self/fd/{descriptor}", flags)


class EpollReadiness:
    """A `Readiness`: an epoll."""

    def __init__(
        self, loop: AbstractEventLoop, on_readable: Callable[[], object]
    ) -> None:
        self._epoll = select.epoll()
        try:
            # Once, not at each wait: the kernel checks all descriptors of an epoll that is
            # added to another one, which takes 40 us with 300 children.
            loop.add_reader(self._epoll.fileno(), on_readable)
        except OSError:
            self._epoll.close()
            raise
        self._loop = weakref.ref(loop)

    def watch(self, descriptor: int) -> None:
        """Add a descriptor."""
        self._epoll.register(descriptor, select.EPOLLIN)

    def unwatch(self, descriptor: int) -> None:
        """Remove a descriptor."""
        self._epoll.unregister(descriptor)

    def readable(self) -> Iterable[int]:
        """Return the descriptors that are readable now."""
        return [descriptor for descriptor, _ in self._epoll.poll(0)]

    def close(self) -> None:
        """Close the epoll."""
        if (loop := self._loop()) is not None:
            loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
