"""What a test has left behind: children, descriptors, threads, tasks. An edge."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from realtalk_async.supervision.kernel import process_groups

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

PATIENCE = 2.0
"""Seconds in which what is about to go may go."""

TURNS = 20
"""Turns of the loop in which a task that was cancelled may end."""

POOLED = ("AnyIO", "asyncio_")
"""Threads that an event loop keeps for later, and joins when it is closed."""


@dataclass(frozen=True, slots=True)
class Possessions:
    """What a process has at one moment, each in words that tell it from others."""

    children: frozenset[str]
    descriptors: frozenset[str]
    threads: frozenset[str]

    def beyond(self, before: Possessions) -> list[str]:
        """Return what is new, one line each."""
        return [
            f"{what}: {one}"
            for what, now, then in (
                ("child", self.children, before.children),
                ("descriptor", self.descriptors, before.descriptors),
                ("thread", self.threads, before.threads),
            )
            for one in sorted(now - then)
        ]


def look(*, but: Collection[int] = ()) -> Possessions:
    """Return what this process has now, but for some descriptors."""
    return Possessions(
        frozenset(_children()), frozenset(_descriptors(but)), frozenset(_threads())
    )


def left_since(before: Possessions, *, but: Collection[int] = ()) -> list[str]:
    """
    Return what is there that was not, one line each; wait a moment for it to go.

    Args:
        before: What was there.
        but: Descriptors that may stay.

    Blocks for at most 2 s, and not at all if nothing is left.
    """
    deadline = time.monotonic() + PATIENCE
    while left := look(but=but).beyond(before):
        if time.monotonic() > deadline:
            return left
        gc.collect()  # what nobody refers to is no leak, but only this lets go of it
        time.sleep(0.01)
    return []


def watch_tasks(
    function: Callable[..., Awaitable[object]],
) -> Callable[..., Awaitable[object]]:
    """Return a test that does the same and then fails if it has left a task running."""

    @functools.wraps(function)
    async def watched(*args: Any, **kwargs: Any) -> object:  # noqa: ANN401 - any test's
        if not _has_loop():  # another library's, such as trio's
            return await function(*args, **kwargs)
        before = asyncio.all_tasks()
        result = await function(*args, **kwargs)
        for _ in range(TURNS):
            if asyncio.all_tasks() <= before:
                return result
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - before
        raise AssertionError(tell("task", [repr(task) for task in left]))

    return watched


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def tell(what: str, left: list[str]) -> str:
    """Return the message for what is left."""
    return "\n".join([f"the test has left a {what} behind:", *left])


def _children() -> set[str]:
    me = os.getpid()
    found = (
        process_groups.look(int(one)) for one in os.listdir("/proc") if one.isdigit()
    )
    return {str(one) for one in found if one and _parent(one.pid) == me}


def _parent(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _descriptors(but: Collection[int]) -> set[str]:
    found: set[str] = set()
    for number in os.listdir("/proc/self/fd"):
        if int(number) in but:
            continue
        try:
            found.add(f"{number} → {os.readlink(f'/proc/self/fd/{number}')}")
        except OSError:
            continue  # the one that lists the folder
    return found


def _threads() -> set[str]:
    return {
        f"{one.name} ({one.ident})"
        for one in threading.enumerate()
        if not one.name.startswith(POOLED)
    }
