"""Leak checks: children, file descriptors, threads and tasks that a test leaves behind."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import sys
import threading
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeAlias

from realtalk_async.operating_system import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

SETTLE_TIME = 2.0
"""Seconds that resources have to go away after a test."""

SETTLE_TURNS = 20
"""Turns of the event loop that a cancelled task has to end after a test."""

POOL_THREADS = ("AnyIO", "asyncio_")
"""Name prefixes of threads that an event loop keeps in a pool and joins when it closes."""


STAYING_THREADS = ("tqdm._monitor.TMonitor",)
"""Classes of threads that their libraries start once and keep until the process ends."""

MAX_COMMAND = 200
"""Characters of a child's command line in the message."""

ChildId: TypeAlias = tuple[int, int]
"""A child's pid and start time, in clock ticks from boot."""


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources of this process at one moment, each described uniquely."""

    children: Mapping[ChildId, str]
    """Descriptions; the state, which changes, is no part of the identity."""
    descriptors: frozenset[str]
    threads: frozenset[str]

    def new_since(self, before: Resources) -> list[str]:
        """Return one line for each resource that was not there *before*."""
        found = [
            f"child: {self.children[one]}"
            for one in sorted(self.children.keys() - before.children.keys())
        ]
        for kind, now, then in (
            ("descriptor", self.descriptors, before.descriptors),
            ("thread", self.threads, before.threads),
        ):
            found += [f"{kind}: {one}" for one in sorted(now - then)]
        return found


def take_inventory(*, ignore: Collection[int] = ()) -> Resources:
    """Return the resources of this process, except the descriptors in *ignore*."""
    return Resources(
        _children(), frozenset(_descriptors(ignore)), frozenset(_threads())
    )


def find_leaks(
    before: Resources, *, ignore: Collection[int] = (), allowed: Collection[str] = ()
) -> list[str]:
    """
    Return one line for each resource that is left since *before*.

    Blocks until nothing is left, at most for 2 s.

    Args:
        before: The resources at the start of the test.
        ignore: Descriptors that may stay open.
        allowed: Patterns as of `fnmatch` of what may stay, each for one line of the
            result, or for the program of a child or the name of a thread alone.
    """
    deadline = time.monotonic() + SETTLE_TIME
    while left := [
        one
        for one in take_inventory(ignore=ignore).new_since(before)
        if not _is_allowed(one, allowed)
    ]:
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


def _is_allowed(line: str, allowed: Collection[str]) -> bool:
    described = line.partition(": ")[2]
    program, _, _ = described.rpartition(" (pid ")
    texts = line, described, program, described.rpartition(" (")[0]
    return any(fnmatchcase(text, one) for text in texts for one in allowed)


def _children() -> dict[ChildId, str]:
    if not SYSTEM.has_children():  # most tests: the search reads a file of each process
        return {}
    me, tracker = os.getpid(), _resource_tracker()
    found: dict[ChildId, str] = {}
    for child in SYSTEM.processes.children(me):
        if child.pid != tracker:
            command = " ".join(SYSTEM.processes.command(child.pid))[:MAX_COMMAND]
            found[child.pid, child.start] = f"{command or child.name} ({child})"
    return found


def _resource_tracker() -> int | None:
    """Return the pid of multiprocessing's helper, which runs until this process ends."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    tracker = getattr(module, "_resource_tracker", None)
    pid: int | None = getattr(tracker, "_pid", None)
    return pid


def _resource_tracker_descriptor() -> int | None:
    module = sys.modules.get("multiprocessing.resource_tracker")
    tracker = getattr(module, "_resource_tracker", None)
    descriptor: int | None = getattr(tracker, "_fd", None)
    return descriptor


def _descriptors(ignore: Collection[int]) -> set[str]:
    found: set[str] = set()
    tracker = _resource_tracker_descriptor()
    for number, file in SYSTEM.descriptors().items():
        if number not in ignore and number != tracker:
            found.add(f"{number} → {file}")
    return found


def _threads() -> set[str]:
    return {
        f"{one.name} ({one.ident})"
        for one in threading.enumerate()
        if not one.name.startswith(POOL_THREADS)
        and f"{type(one).__module__}.{type(one).__qualname__}" not in STAYING_THREADS
    }
