"""Process groups and tagged processes: find their living members and signal them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING

from realtalk_async.concurrency.daemon_thread import call_in_thread
from realtalk_async.concurrency.time_slice import TimeSlice
from realtalk_async.operating_system import SYSTEM, proc_files

if TYPE_CHECKING:
    from realtalk_async.operating_system import ProcessInfo

TAG_TIMEOUT = 5.0
"""
Seconds for a search by tag. The kernel lets a reader of ``/proc/PID/environ`` wait while
that process hangs in the kernel with its memory locked.
"""


def living_members(group: int) -> list[ProcessInfo]:
    """
    Return the members of a process group that are more than zombies.

    Takes a millisecond for a thousand processes, on macOS a program: call it in a thread.
    [] on a system without a process table, where `is_empty` decides alone.
    """
    return [one for one in SYSTEM.processes.in_group(group) if one.alive]


class GroupSearch:
    """
    Finds the members of process groups without blocking the loop.

    A search takes 2 ms for a thousand processes of the machine, in slices; on macOS a program
    does it. All who ask at the same time share one: the end of two hundred children does not
    cost two hundred searches.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._begun = 0
        self._completed = 0
        self._pids: dict[int, list[int]] = {}
        self._table: list[ProcessInfo] = []
        """All processes, of a system that is asked by a program."""

    async def living_members(self, group: int) -> list[ProcessInfo]:
        """Return the members of a process group that are more than zombies."""
        if SYSTEM.processes.is_fast and not SYSTEM.processes.is_readable:
            return []
        # A member that forks and exits may escape one search, if the new pid is lower.
        return await self._find(group) or await self._find(group)

    async def _find(self, group: int) -> list[ProcessInfo]:
        wanted = self._begun + 1  # a search that begins from now on
        async with self._lock:
            if self._completed < wanted:
                self._begun += 1
                await self._search()
                self._completed = self._begun
            # The lock is held: who asked first gets an answer first, so that the signals
            # of several children are sent in the order of their requests.
            found = [one for one in self._table if one.group == group and one.alive]
            time_slice = TimeSlice()
            for pid in self._pids.get(group, []):
                one = SYSTEM.processes.read(pid)
                if one and one.group == group and one.alive:
                    found.append(one)
                await time_slice.yield_if_over()
            return found

    async def _search(self) -> None:
        """Find the pids of all processes by their group, or read the whole table."""
        if not SYSTEM.processes.is_fast:
            name = "realtalk-async finds members"
            self._table = await call_in_thread(SYSTEM.processes.read_all, name)
            return
        found: dict[int, list[int]] = {}
        time_slice = TimeSlice()
        for pid in proc_files.pids():
            group = proc_files.group_of(pid)
            if group is not None:
                found.setdefault(group, []).append(pid)
            await time_slice.yield_if_over()
        self._pids = found


_searches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, GroupSearch] = (
    weakref.WeakKeyDictionary()
)


def get_group_search() -> GroupSearch:
    """Return the search of the running loop."""
    loop = asyncio.get_running_loop()
    found = _searches.get(loop)
    if found is None:
        found = _searches[loop] = GroupSearch()
    return found


async def read_process(pid: int) -> ProcessInfo | None:
    """Return the description of one process; None if it is gone."""
    if SYSTEM.processes.is_fast:
        return SYSTEM.processes.read(pid)
    read = partial(SYSTEM.processes.read, pid)
    return await call_in_thread(read, "realtalk-async reads a process")


def leads_one(pid: int) -> bool:
    """Return whether a process is there, and leads a group."""
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False


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

    Reads a file per process of the machine, or runs a program: call it in a thread.
    """
    found = SYSTEM.processes.tagged(tag)
    return [one for one in found if one.alive and one.pid != os.getpid()]


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


async def end_tagged(tag: str) -> list[ProcessInfo]:
    """
    Kill the processes with *tag*; return those that were found.

    It reads a file per process of the machine in a thread of its own, for `TAG_TIMEOUT` at
    most; a thread that hangs longer in the kernel is left behind, as a daemon.
    """

    def end() -> list[ProcessInfo]:
        if left := find_tagged(tag):
            kill_tagged(tag)
        return left

    try:
        async with asyncio.timeout(TAG_TIMEOUT):
            return await call_in_thread(end, "realtalk-async ends escapees")
    except TimeoutError:
        return []
    except RuntimeError:  # no further thread can be started
        return end()
