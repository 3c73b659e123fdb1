"""Process groups and tagged processes: find their living members and signal them."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process as ``/proc/PID/stat`` describes it."""

    pid: int
    name: str
    state: str
    """One letter: R running, S sleeping, D in an uninterruptible wait, T stopped…"""
    group: int
    session: int
    start: int
    """Clock ticks from boot to its start; pid and start identify a process for good."""

    @property
    def alive(self) -> bool:
        """Whether the process is more than a zombie."""
        return self.state not in "ZX"

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.name}) state {self.state}"


def read_process(pid: int) -> ProcessInfo | None:
    """Return the description of one process; None if it is gone."""
    try:
        data = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name is in parentheses and may contain any character, parentheses too.
    name = data[data.index("(") + 1 : data.rindex(")")]
    rest = data[data.rindex(")") + 2 :].split()
    return ProcessInfo(pid, name, rest[0], int(rest[2]), int(rest[3]), int(rest[19]))


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir(PROC) if entry.isdigit())


def living_members(group: int) -> list[ProcessInfo]:
    """
    Return the members of a process group that are more than zombies.

    Takes a millisecond for a thousand processes: `os.getpgid` filters them, and only the
    files of members are read. [] on a system without ``/proc`` (macOS), where `is_empty`
    decides alone.
    """
    if not PROC.joinpath("self", "stat").exists():
        return []
    members = (read_process(pid) for pid in _pids() if _group_of(pid) == group)
    return [one for one in members if one and one.group == group and one.alive]


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def is_empty(group: int) -> bool:
    """Return True if the group has no member, not even a zombie: one system call."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def send_signal(group: int, number: int) -> None:
    """
    Send a signal to every member of a group, and continue the stopped members.

    A stopped process receives a signal such as SIGTERM only when it is continued.
    """
    for one in (number, signal.SIGCONT):
        try:
            os.killpg(group, one)
        except (ProcessLookupError, PermissionError):
            return
        if number in {signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT}:
            return


def find_tagged(tag: str) -> list[ProcessInfo]:
    """
    Return the living processes with *tag* in their environment, except this one.

    Reads a file per process of the machine: call it in a thread.
    """
    tagged = [pid for pid in _pids() if pid != os.getpid() and _has_tag(pid, tag)]
    return [one for pid in tagged if (one := read_process(pid)) and one.alive]


def _has_tag(pid: int, tag: str) -> bool:
    try:
        return tag.encode() in (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False


def kill_tagged(tag: str, timeout: float = 2.0) -> None:
    """
    Kill the processes with *tag*, again and again until none is left.

    Blocks for *timeout* seconds at most: call it in a thread.
    """
    deadline = time.monotonic() + timeout
    while (left := find_tagged(tag)) and time.monotonic() < deadline:
        for one in left:
            try:
                os.kill(one.pid, signal.SIGKILL)
            except OSError:
                continue  # it has ended by itself
        time.sleep(0.005)
