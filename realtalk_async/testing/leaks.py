"""Leak checks: children, file descriptors, threads and tasks that a test leaves behind."""

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

SETTLE_TIME = 2.0
"""Seconds that resources have to go away after a test."""

SETTLE_TURNS = 20
"""Turns of the event loop that a cancelled task has to end after a test."""

POOL_THREADS = ("AnyIO", "asyncio_")
"""Name prefixes of threads that an event loop keeps in a pool and joins when it closes."""


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources of this process at one moment, each described uniquely."""

    children: frozenset[str]
    descriptors: frozenset[str]
    threads: frozenset[str]

    def new_since(self, before: Resources) -> list[str]:
        """Return one line for each resource that was not there *before*."""
        return [
            f"{kind}: {one}"
            for kind, now, then in (
                ("child", self.children, before.children),
                ("descriptor", self.descriptors, before.descriptors),
                ("thread", self.threads, before.threads),
            )
            for one in sorted(now - then)
        ]


def take_inventory(*, ignore: Collection[int] = ()) -> Resources:
    """Return the resources of this process, except the descriptors in *ignore*."""
    return Resources(
        frozenset(_children()), frozenset(_descriptors(ignore)), frozenset(_threads())
    )


def find_leaks(before: Resources, *, ignore: Collection[int] = ()) -> list[str]:
    """
    Return one line for each resource that is left since *before*.

    Blocks until nothing is left, at most for 2 s.

    Args:
        before: The resources at the start of the test.
        ignore: Descriptors that may stay open.
    """
    deadline = time.monotonic() + SETTLE_TIME
    while left := take_inventory(ignore=ignore).new_since(before):
        if time.monotonic() > deadline:
            return left
        gc.collect()  # unreachable objects are no leak, but may still hold a descriptor
        time.sleep(0.01)
    return []


def check_tasks(
    test: Callable[..., Awaitable[object]],
) -> Callable[..., Awaitable[object]]:
    """Wrap an async test so that it fails if it leaves a task running."""

    @functools.wraps(test)
    async def checked(*args: Any, **kwargs: Any) -> object:  # noqa: ANN401 - any test's
        if not _has_loop():  # the test runs in another library, such as trio
            return await test(*args, **kwargs)
        before = asyncio.all_tasks()
        result = await test(*args, **kwargs)
        for _ in range(SETTLE_TURNS):
            if asyncio.all_tasks() <= before:
                return result
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - before
        raise AssertionError(describe("tasks", [repr(task) for task in left]))

    return checked


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def describe(kind: str, left: list[str]) -> str:
    """Return the failure message for leaked resources: ``kind`` is a plural noun."""
    return "\n".join([f"the test left {kind} behind:", *left])


def _children() -> set[str]:
    if not _has_children():  # most tests: the search reads a file of each process
        return set()
    me = os.getpid()
    mine = (
        int(one) for one in os.listdir("/proc") if one.isdigit() and _parent(one) == me
    )
    return {str(one) for pid in mine if (one := process_groups.read_process(pid))}


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _parent(pid: str) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _descriptors(ignore: Collection[int]) -> set[str]:
    found: set[str] = set()
    for number in os.listdir("/proc/self/fd"):
        if int(number) in ignore:
            continue
        try:
            found.add(f"{number} → {os.readlink(f'/proc/self/fd/{number}')}")
        except OSError:
            continue  # the descriptor that listed the folder
    return found


def _threads() -> set[str]:
    return {
        f"{one.name} ({one.ident})"
        for one in threading.enumerate()
        if not one.name.startswith(POOL_THREADS)
    }
