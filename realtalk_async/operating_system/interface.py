"""The interface of an operating system: what its two implementations give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import socket
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process as the process table describes it."""

    pid: int
    name: str
    state: str
    """One letter: R running, S sleeping, D in an uninterruptible wait, T stopped…"""
    group: int
    session: int
    start: int
    """When it was started, in units of the system; pid and start identify a process."""

    @property
    def alive(self) -> bool:
        """Whether the process is more than a zombie."""
        return self.state not in "ZX"

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.name}) state {self.state}"


class Usage(NamedTuple):
    """What a process has used."""

    session: int
    cpu: float
    """Seconds."""
    memory: int
    """Resident bytes."""


class Peer(NamedTuple):
    """The process at the other end of a UNIX socket; None is unknown."""

    pid: int | None
    uid: int | None


class ProcessTable(Protocol):
    """
    The processes of the machine, read at each call.

    A system may refuse to tell: no method raises, and what is unknown is left out.
    """

    name: str
    """``proc`` or ``ps``; start times of two tables cannot be compared."""

    is_fast: bool
    """Whether one process is read in microseconds, without a program."""

    @property
    def is_readable(self) -> bool:
        """Whether there is such a table."""
        ...

    def read(self, pid: int) -> ProcessInfo | None:
        """Return the description of one process; None if it is gone."""
        ...

    def read_all(self) -> list[ProcessInfo]:
        """Return all processes."""
        ...

    def in_group(self, group: int) -> list[ProcessInfo]:
        """Return the members of a process group, zombies included."""
        ...

    def tagged(self, tag: str) -> list[ProcessInfo]:
        """Return the processes with *tag* (``NAME=value``) in their environment."""
        ...

    def children(self, parent: int) -> list[ProcessInfo]:
        """Return the children of a process, zombies included."""
        ...

    def command(self, pid: int) -> list[str]:
        """Return the words of the command of a process; [] if it is gone."""
        ...

    def usage(self) -> dict[int, Usage]:
        """Return what each process uses."""
        ...


class Readiness(Protocol):
    """Tells which of many descriptors are readable, and has the loop say when any is."""

    def watch(self, descriptor: int) -> None:
        """
        Add a descriptor.

        Raises:
            OSError: If the system can watch no further one.
        """
        ...

    def unwatch(self, descriptor: int) -> None:
        """
        Remove a descriptor.

        Raises:
            OSError: If it is not watched.
        """
        ...

    def readable(self) -> Iterable[int]:
        """Return the descriptors that are readable now, without waiting."""
        ...

    def close(self) -> None:
        """Watch no descriptor any more; they stay open."""
        ...


class System(Protocol):
    """An operating system."""

    name: str
    """``Linux`` or ``POSIX``, as the log tells it."""
    processes: ProcessTable
    max_socket_path: int
    """Bytes of the longest path of a UNIX socket."""
    bytes_of_maxrss: int
    """The unit of ``ru_maxrss`` in bytes."""
    shared_memory: Path | None
    """The folder for named memory; None if files of the temporary folder serve."""

    def make_readiness(
        self, loop: AbstractEventLoop, on_readable: Callable[[], object]
    ) -> Readiness:
        """
        Return a new `Readiness`; its close is the caller's.

        Args:
            loop: The loop that calls *on_readable*; it is referred to weakly.
            on_readable: Called again and again while a descriptor is readable.

        Raises:
            OSError: If no descriptor is left.
        """
        ...

    def open_process(self, pid: int) -> int:
        """
        Return a descriptor that is readable once a process has exited.

        Raises:
            OSError: If this system has none, none is left, or the process is gone.
        """
        ...

    def signal_process(self, handle: int, number: int) -> None:
        """
        Send a signal to the process of a descriptor of `open_process`.

        Raises:
            OSError: If it is gone.
        """
        ...

    def close_process(self, handle: int) -> None:
        """Close a descriptor of `open_process`."""
        ...

    def wait_for_any_exit(self) -> None:
        """
        Block until a child of this process has exited, and leave its status unread.

        Raises:
            ChildProcessError: If this process has no child.
        """
        ...

    def has_exited(self, pid: int) -> bool:
        """Return whether a child has exited and is not reaped; it stays so."""
        ...

    def stop_signal(self, pid: int) -> int:
        """Return the signal that has stopped a child; 0 if none has since the last call."""
        ...

    def has_children(self) -> bool:
        """Return whether this process has a child, be it a zombie."""
        ...

    def child_pids(self) -> set[int]:
        """Return the pids of the children of this process, zombies included."""
        ...

    def adopts_orphans(self) -> bool:
        """Return whether the kernel makes this process the parent of orphans."""
        ...

    def suspended_time(self) -> float:
        """Return the seconds that the machine has slept since it booted; 0 if unknown."""
        ...

    def peer(self, connection: socket.socket) -> Peer:
        """Return the process at the other end of a UNIX socket."""
        ...

    def short_path(self, folder: Path) -> AbstractContextManager[str]:
        """Give a short path of a folder, as long as the context lasts."""
        ...

    def comparable_name(self, folder: Path, name: str) -> str:
        """
        Return the one form of all names that denote the same file in a folder.

        Names that differ only in case or in their Unicode form do so on some systems.
        """
        ...

    def enlarge_pipe(self, descriptor: int, size: int) -> int | None:
        """Give a pipe room for *size* bytes; return its room, None if it stays as it is."""
        ...

    def allocate(self, descriptor: int, size: int) -> None:
        """
        Give a new file its room on the disk or in memory.

        Raises:
            OSError: If there is no room.
        """
        ...

    def raise_descriptor_limit(self) -> int:
        """Allow this process more descriptors where few are usual; return how many, or 0."""
        ...

    def file_attribute(self, path: str, name: str) -> bytes:
        """
        Return an extended attribute of a file.

        Raises:
            OSError: If there is none.
        """
        ...

    def descriptors(self) -> dict[int, str]:
        """Return the open descriptors of this process, each with what it refers to."""
        ...

    def open_again(self, descriptor: int, path: Path, flags: int) -> int:
        """
        Open the file of a descriptor a second time.

        Raises:
            OSError: If it cannot be opened.
        """
        ...
