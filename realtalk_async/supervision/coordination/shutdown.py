"""
The end of all children of a manager: ordered by their dependencies, and bounded.

A child is stopped when all children that depend on it have ended. Children that do not
depend on each other are stopped at the same time, and their first signals are sent in the
reverse order of their start.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Protocol

from realtalk_async.concurrency.condition import Condition
from realtalk_async.concurrency.time_slice import TimeSlice

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

KILL_WAIT = 2.0
"""Seconds that killed children have to end; a child can take longer only in the kernel."""


class Child(Protocol):
    """A process or task that can be stopped."""

    @property
    def is_settled(self) -> bool:
        """Whether it is dead and will not be restarted automatically."""
        ...

    def stop(self) -> Coroutine[None, None, object]:
        """Stop it, and wait for its end."""
        ...


class Shutdown:
    """
    The stop of several children.

    Args:
        children: The children by name, in the order of their start.
        needs: Returns the names that a child depends on.
        gets_signal: Returns whether the stop of a child begins with a signal. Any other
            child, such as a task, ends at once when its stop is requested: it waits for
            the first signals of the children that were started after it.
    """

    def __init__(
        self,
        children: Mapping[str, Child],
        needs: Callable[[str], Iterable[str]],
        gets_signal: Callable[[str], bool],
    ) -> None:
        self._children = children
        self._gets_signal = gets_signal
        self._needs = {
            name: [need for need in dict.fromkeys(needs(name)) if need in children]
            for name in children
        }
        self._dependants = dict.fromkeys(children, 0)
        """The number of dependants of each child that have not ended."""
        for some in self._needs.values():
            for need in some:
                self._dependants[need] += 1
        self._unsignalled: set[str] = set()
        """The children whose stop was requested and that have got no signal yet."""
        self._signalled = Condition()

    @property
    def left(self) -> tuple[str, ...]:
        """The names of the children that have not ended."""
        return tuple(n for n, one in self._children.items() if not one.is_settled)

    def note(self, name: str) -> None:
        """Record that a child got its first signal, or has ended."""
        if self._unsignalled:
            self._unsignalled.discard(name)
            self._signalled.notify()

    async def run(self) -> None:
        """Stop all children; a few per turn of the event loop."""
        time_slice = TimeSlice()
        async with asyncio.TaskGroup() as tasks:
            free = [name for name, count in self._dependants.items() if not count]
            for name in reversed(free):
                if self._children[name].is_settled:
                    pass
                elif self._gets_signal(name):
                    self._unsignalled.add(name)
                else:
                    await self._signalled.wait_until(lambda: not self._unsignalled)
                tasks.create_task(self._stop(name, tasks))
                await time_slice.yield_if_over()

    async def _stop(self, name: str, tasks: asyncio.TaskGroup) -> None:
        """Stop one child, then those that no other child needs any more."""
        await self._children[name].stop()
        self.note(name)
        for need in self._needs[name]:
            self._dependants[need] -= 1
            if not self._dependants[need]:
                tasks.create_task(self._stop(need, tasks))


async def at_once(works: Iterable[Coroutine[None, None, object]]) -> None:
    """Run coroutines at the same time; a few begin per turn of the event loop."""
    time_slice = TimeSlice()
    async with asyncio.TaskGroup() as tasks:
        for work in works:
            tasks.create_task(work)
            await time_slice.yield_if_over()


async def within(seconds: float, work: Coroutine[None, None, None]) -> bool:
    """Run *work* for at most *seconds*, then cancel it; return whether it was done."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        await asyncio.wait([task], timeout=None if seconds == math.inf else seconds)
        if not task.done():
            return False
        task.result()
        return True
    finally:
        if task.cancel():
            await asyncio.wait([task])
