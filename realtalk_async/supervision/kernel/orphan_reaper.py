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
import os

from realtalk_async.operating_system import SYSTEM

INTERVAL = 1.0
"""Seconds between two searches for zombies."""

IDLE_INTERVAL = 5.0
"""Seconds between two checks whether the app has become a subreaper."""

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
        if SYSTEM.adopts_orphans():
            reap_zombies(sessions, owns_all=owns_all)
            await asyncio.sleep(INTERVAL)
        else:
            await asyncio.sleep(IDLE_INTERVAL)


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
    found = SYSTEM.processes.read(pid)
    return found is not None and found.session not in sessions | {pid}


def _zombies() -> set[int]:
    """Return the exited children of this process that are not reaped yet."""
    if not SYSTEM.has_children():
        return set()
    return {pid for pid in SYSTEM.child_pids() if SYSTEM.has_exited(pid)}
