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


def everybody() -> Iterator[Member]:
    """Yield all processes of this machine: 15 ms for a thousand, so use a thread."""
    for entry in os.listdir(PROC):
        if entry.isdigit() and (member := look(int(entry))):
            yield member


def living(group: int) -> list[Member]:
    """Return the members of a process group that are more than zombies."""
    if not PROC.joinpath("self", "stat").exists():
        return []  # no /proc here (macOS): `is_empty` decides alone
    return [one for one in everybody() if one.group == group and one.alive]


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
    needle = tag.encode()
    found: list[Member] = []
    for entry in os.listdir(PROC):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            carries = needle in (PROC / entry / "environ").read_bytes()
        except OSError:
            continue
        if carries and (member := look(int(entry))) and member.alive:
            found.append(member)
    return found


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
