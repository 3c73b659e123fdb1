"""Process groups as ``/proc`` shows them: who is left, and signals to all. An edge."""

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
class Member:
    """A process, as ``/proc/PID/stat`` tells of it."""

    pid: int
    name: str
    state: str
    """One letter: R running, S sleeping, D in an uninterruptible wait, T stopped…"""
    group: int
    session: int
    start: int
    """Clock ticks from boot to its start: with the pid, this names it for good."""

    @property
    def alive(self) -> bool:
        """Whether it is more than a zombie."""
        return self.state not in "ZX"

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.name}) state {self.state}"


def look(pid: int) -> Member | None:
    """Return what ``/proc`` tells of one process; None if it is gone."""
    try:
        data = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name stands in parentheses and may hold anything, parentheses too.
    name = data[data.index("(") + 1 : data.rindex(")")]
    rest = data[data.rindex(")") + 2 :].split()
    return Member(pid, name, rest[0], int(rest[2]), int(rest[3]), int(rest[19]))


def _pids() -> Iterator[int]:
    """Yield the pid of every process of this machine."""
    return (int(entry) for entry in os.listdir(PROC) if entry.isdigit())


def living(group: int) -> list[Member]:
    """
    Return the members of a process group that are more than zombies.

    A millisecond for a thousand processes: the kernel is asked for each one's group, and
    only members are read about.
    """
    if not PROC.joinpath("self", "stat").exists():
        return []  # no /proc here (macOS): `is_empty` decides alone
    members = (look(pid) for pid in _pids() if _group_of(pid) == group)
    return [one for one in members if one and one.group == group and one.alive]


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def is_empty(group: int) -> bool:
    """Return True if the group has no member at all, not even a zombie. Cheap."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def send(group: int, number: int) -> None:
    """
    Send a signal to every member of a group, and wake the stopped ones to receive it.

    A stopped process keeps a soft signal pending until it is continued.
    """
    for one in (number, signal.SIGCONT):
        try:
            os.killpg(group, one)
        except (ProcessLookupError, PermissionError):
            return
        if number in {signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT}:
            return


def tagged(tag: str) -> list[Member]:
    """Return the living processes that carry *tag* in their environment. Use a thread."""
    carriers = [pid for pid in _pids() if pid != os.getpid() and _carries(pid, tag)]
    return [one for pid in carriers if (one := look(pid)) and one.alive]


def _carries(pid: int, tag: str) -> bool:
    try:
        return tag.encode() in (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False


def end_all(tag: str, patience: float = 2.0) -> None:
    """Kill whoever carries *tag*, again and again until nobody does. Use a thread."""
    deadline = time.monotonic() + patience
    while (left := tagged(tag)) and time.monotonic() < deadline:
        for one in left:
            try:
                os.kill(one.pid, signal.SIGKILL)
            except OSError:
                continue  # it went by itself
        time.sleep(0.005)
