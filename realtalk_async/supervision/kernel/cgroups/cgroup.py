"""
One cgroup of version 2: its members, its limits and its end.

See the kernel's ``Documentation/admin-guide/cgroup-v2.rst``. All operations are single
reads and writes of files that the kernel makes, in microseconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from realtalk_async.operating_system import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realtalk_async.supervision.kernel.spawning.limits import Limits


class Cgroup:
    """
    A cgroup, by the path of its folder.

    Args:
        path: Absolute.
        enforced: The names of the limits that its controllers enforce.
    """

    def __init__(self, path: str, enforced: frozenset[str] = frozenset()) -> None:
        self.path = path
        self.enforced = enforced

    @property
    def entrance(self) -> str:
        """The file by which a process enters: it writes ``0``."""
        return os.path.join(self.path, "cgroup.procs")

    def is_empty(self) -> bool:
        """Return whether no member lives; zombies do not count, a removed cgroup is empty."""
        return self._read_flat("cgroup.events").get("populated", 0) == 0

    def pids(self) -> list[int]:
        """Return the pids of its members, those of cgroups beneath it included."""
        found: list[int] = []
        for folder, _, _ in os.walk(self.path):
            text = read_text(os.path.join(folder, "cgroup.procs"))
            found += [pid for line in text.split() if (pid := int(line))]
        return found

    def send_signal(self, number: int) -> None:
        """
        Send a signal to every member; to SIGKILL no member can answer by a fork.

        Other signals reach the members of this moment, each by its pidfd.
        """
        if number == signal.SIGKILL and self._kill():
            return
        handles = dict(self._open_members())
        try:
            # A pid that is a member now, while its pidfd is open, is no other process.
            for pid in set(self.pids()) & handles.keys():
                with contextlib.suppress(OSError):
                    SYSTEM.signal_process(handles[pid], number)
        finally:
            for handle in handles.values():
                SYSTEM.close_process(handle)

    def _open_members(self) -> Iterator[tuple[int, int]]:
        for pid in self.pids():
            with contextlib.suppress(OSError):
                yield pid, SYSTEM.open_process(pid)

    def _kill(self) -> bool:
        """Kill all members at once; return False if the kernel is older than 5.14."""
        try:
            write_text(os.path.join(self.path, "cgroup.kill"), "1")
        except FileNotFoundError:
            return not os.path.exists(self.path)
        except OSError:
            return False
        return True

    def set_limits(self, limits: Limits | None) -> None:
        """
        Set the limits that its controllers enforce; beyond the memory, all members die.

        Raises:
            OSError: If the kernel refuses.
        """
        values: dict[str, object] = {}
        if limits and limits.memory is not None and "memory" in self.enforced:
            values["memory.max"] = limits.memory
        if limits and limits.processes is not None and "processes" in self.enforced:
            values["pids.max"] = limits.processes
        for name, value in values.items():
            write_text(os.path.join(self.path, name), str(value))
        if "memory.max" in values:
            with contextlib.suppress(OSError):  # since Linux 4.19
                write_text(os.path.join(self.path, "memory.oom.group"), "1")

    def oom_kills(self) -> int:
        """Return how many members were killed because memory ran out; 0 if unknown."""
        return self._read_flat("memory.events").get("oom_kill", 0)

    def remove(self) -> bool:
        """Remove it, and the cgroups beneath it; return whether it is gone."""
        for folder, _, _ in os.walk(self.path, topdown=False):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True

    def _read_flat(self, name: str) -> dict[str, int]:
        """Return the pairs of a file such as ``cgroup.events``; {} if there is none."""
        lines = map(str.split, read_text(os.path.join(self.path, name)).splitlines())
        return {key: int(value) for key, value in lines}

    def __repr__(self) -> str:
        return f"Cgroup({self.path!r})"


def read_text(path: str) -> str:
    """Return the text of a file of the kernel; "" if the cgroup has gone."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def write_text(path: str, text: str) -> None:
    # Not `open`: it would create a file in a folder that is no cgroup.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
