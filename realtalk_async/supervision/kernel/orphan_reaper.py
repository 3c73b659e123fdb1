"""
Reap orphans, for an app that the kernel makes their parent.

As PID 1 of a container, or as a subreaper, the app becomes the parent of each descendant
whose own parent has ended. No other process collects their exit statuses: without a reaper
they stay zombies for ever.

The reaper leaves each child whose status the app may need. A child that the app itself started, with
`subprocess` or in a fork, is in the app's session or leads one of its own: a zombie that is
in another session and does not lead it is an orphan.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
from pathlib import Path

from realtalk_async.supervision.kernel import process_groups

INTERVAL = 1.0
"""Seconds between two searches for zombies."""

IDLE_INTERVAL = 5.0
"""Seconds between two checks whether the app has become a subreaper."""

PR_GET_CHILD_SUBREAPER = 37

children: set[int] = set()
"""The pids of all children that a `ChildProcess` reaps."""

guards: set[int] = set()
"""The pids of guards, which are reaped if this process becomes their parent."""


async def reap_orphans(*, owns_all: bool = False) -> None:
    """
    Reap orphans until the task is cancelled.

    Args:
        owns_all: Whether every child of this process is either one of `children` or an
            orphan, as in the command line. An orphan that leads a session is reaped then
            as well.
    """
    sessions: set[int] = set()
    while True:
        sessions.add(os.getsid(0))
        if adopts_orphans():
            reap_zombies(sessions, owns_all=owns_all)
            await asyncio.sleep(INTERVAL)
        else:
            await asyncio.sleep(IDLE_INTERVAL)


def adopts_orphans() -> bool:
    """Return whether the kernel makes this process the parent of orphans."""
    if sys.platform != "linux":
        return False
    if os.getpid() == 1:
        return True
    is_subreaper = ctypes.c_int()
    ctypes.PyDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(is_subreaper))
    return bool(is_subreaper.value)


def reap_zombies(sessions: set[int], *, owns_all: bool = False) -> None:
    """
    Reap all zombies that are orphans.

    Args:
        sessions: The sessions that the app is or was in.
        owns_all: As for `reap_orphans`.
    """
    for pid in _zombies() - children:
        if owns_all or pid in guards or _is_orphan(pid, sessions):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            guards.discard(pid)


def _is_orphan(pid: int, sessions: set[int]) -> bool:
    found = process_groups.read_process(pid)
    return found is not None and found.session not in sessions | {pid}


def _zombies() -> set[int]:
    """Return the exited children of this process that are not reaped yet."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    try:
        if os.waitid(os.P_ALL, 0, flags) is None:
            return set()
    except ChildProcessError:  # it has no child
        return set()
    found: set[int] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(map(int, file.read_text().split()))
    return {pid for pid in found if _has_exited(pid)}


def _has_exited(pid: int) -> bool:
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    try:
        return os.waitid(os.P_PID, pid, flags) is not None
    except ChildProcessError:
        return False
