"""The process table of Linux: the files of ``/proc``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from realtalk_async.operating_system.interface import ProcessInfo, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC = "/proc"


class ProcFiles:
    """A `ProcessTable`; one process takes some 20 µs, a thousand groups a millisecond."""

    name = "proc"
    is_fast = True

    @property
    def is_readable(self) -> bool:
        """Whether ``/proc`` is mounted."""
        return os.path.exists(f"{PROC}/self/stat")

    def read(self, pid: int) -> ProcessInfo | None:
        """Return the description of one process; None if it is gone."""
        name, fields = _stat(pid)
        if not fields:
            return None
        group, session, start = int(fields[2]), int(fields[3]), int(fields[19])
        return ProcessInfo(pid, name, fields[0], group, session, start)

    def read_all(self) -> list[ProcessInfo]:
        """Return all processes; a file of each is read."""
        return [one for pid in pids() if (one := self.read(pid))]

    def in_group(self, group: int) -> list[ProcessInfo]:
        """Return the members of a process group; only their own files are read."""
        found = (self.read(pid) for pid in pids() if group_of(pid) == group)
        return [one for one in found if one and one.group == group]

    def tagged(self, tag: str) -> list[ProcessInfo]:
        """Return the processes with *tag* in their environment."""
        found = (self.read(pid) for pid in pids() if _has_tag(pid, tag.encode()))
        return [one for one in found if one]

    def children(self, parent: int) -> list[ProcessInfo]:
        """Return the children of a process, zombies included."""
        found = [pid for pid in pids() if _stat(pid)[1][1:2] == [str(parent)]]
        return [one for pid in found if (one := self.read(pid))]

    def command(self, pid: int) -> list[str]:
        """Return the words of the command of a process; [] if it is gone."""
        words = _read(pid, "cmdline").removesuffix(b"\0").split(b"\0")
        return [os.fsdecode(word) for word in words if word]

    def usage(self) -> dict[int, Usage]:
        """Return what each process uses; it takes about 20 µs for each."""
        ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        found: dict[int, Usage] = {}
        for pid in pids():
            if fields := _stat(pid)[1]:
                cpu = (int(fields[11]) + int(fields[12])) / ticks
                found[pid] = Usage(int(fields[3]), cpu, int(fields[21]) * page)
        return found


def pids() -> Iterator[int]:
    """Return the pids of all processes."""
    try:
        entries = os.listdir(PROC)
    except OSError:
        return iter(())
    return (int(entry) for entry in entries if entry.isdigit())


def group_of(pid: int) -> int | None:
    """Return the process group of a process, by one system call; None if it is gone."""
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def _stat(pid: int) -> tuple[str, list[str]]:
    """Return the name of a process and the fields after it; no fields if it is gone."""
    text = _read(pid, "stat").decode(errors="replace")
    # The name is in parentheses and may contain any character, parentheses too.
    before, _, after = text.rpartition(")")
    return before.partition("(")[2], after.split()


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"{PROC}/{pid}/{name}", "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def _has_tag(pid: int, tag: bytes) -> bool:
    return tag in _read(pid, "environ")
