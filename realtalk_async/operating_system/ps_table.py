"""A `ProcessTable` that asks ``ps``."""

from __future__ import annotations

import os

from realtalk_async.operating_system import ps_command
from realtalk_async.operating_system.interface import ProcessInfo, Usage


class PsTable:
    """A `ProcessTable`; each call runs a program for some 10 ms: call it in a thread."""

    name = "ps"
    is_fast = False

    def __init__(self) -> None:
        self._is_readable: bool | None = None

    @property
    def is_readable(self) -> bool:
        """Whether ``ps`` tells of this process; it is asked once."""
        if self._is_readable is None:
            self._is_readable = self.read(os.getpid()) is not None
        return self._is_readable

    def read(self, pid: int) -> ProcessInfo | None:
        """Return the description of one process; None if it is gone, or unknown."""
        found = [_info(row) for row in ps_command.read_rows("-p", str(pid))]
        return found[0] if found else None

    def read_all(self) -> list[ProcessInfo]:
        """Return all processes."""
        return [_info(row) for row in ps_command.read_rows()]

    def in_group(self, group: int) -> list[ProcessInfo]:
        """Return the members of a process group, zombies included."""
        return [_info(row) for row in ps_command.read_rows() if row.group == group]

    def tagged(self, tag: str) -> list[ProcessInfo]:
        """Return the processes with *tag* in an environment that the system shows."""
        pids = ps_command.find_tagged(tag.encode())
        if not pids:
            return []
        return [_info(row) for row in ps_command.read_rows() if row.pid in pids]

    def children(self, parent: int) -> list[ProcessInfo]:
        """Return the children of a process, zombies included."""
        return [_info(row) for row in ps_command.read_rows() if row.parent == parent]

    def command(self, pid: int) -> list[str]:
        """Return the words of the command; a blank inside a word divides it."""
        lines = ps_command.run("-ww", "-p", str(pid), "-o", "pid=,args=")
        return [os.fsdecode(word) for line in lines for word in line.split()[1:]]

    def usage(self) -> dict[int, Usage]:
        """Return what each process uses."""
        found: dict[int, Usage] = {}
        for line in ps_command.run("-A", "-o", "pid=,time=,rss="):
            pid, cpu, kilobytes = os.fsdecode(line).split()
            usage = Usage(_session(int(pid)), _seconds(cpu), int(kilobytes) * 1024)
            found[int(pid)] = usage
        return found


def _info(row: ps_command.Row) -> ProcessInfo:
    session = _session(row.pid)
    return ProcessInfo(row.pid, row.name, row.state, row.group, session, row.start)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:  # gone, or another session's on a system that does not tell
        return 0


def _seconds(text: str) -> float:
    """Return the seconds of ``[[days-]hours:]minutes:seconds``, as ``0:01.25``."""
    days, _, clock = text.rpartition("-")
    seconds = float(days or 0) * 86400
    for weight, part in zip((1, 60, 3600), reversed(clock.split(":")), strict=False):
        seconds += weight * float(part)
    return seconds
