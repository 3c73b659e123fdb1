"""
One coroutine for many descriptors, so that a burst of events does not block the loop.

If a thousand children exit together, or ten flood their pipes, a reader per descriptor would
run a thousand callbacks in one turn of the loop, and a 20 ms audio frame would wait for them.
The coroutine of a `FairPoller` handles a few descriptors in each turn, in turns. It also costs
less memory than a task for each descriptor.

Each loop has two: one reads the output of all children, the other waits for their exits.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from realtalk_async.operating_system import SYSTEM

if TYPE_CHECKING:
    from realtalk_async.operating_system import Readiness

READ_TIME = 0.0005
"""
Seconds of one turn of the loop for reading output: a fortieth of an audio frame. A task
that sleeps is delayed by two turns: that of its timer, and its own.
"""

EXITS = 8
"""
Exits that are handled in one turn of the loop. With all exits in one turn, 300 children that
are killed at once delay the loop by about a quarter more (tests/benchmarks/README.md).
"""

BATCH_DELAY = 0.001
"""
Seconds before the next read of a steady flow that does not fill its pipe. If a child
flushes every line, an immediate read brings one line; a read a millisecond later brings
many lines at the same cost.
"""

OnError = Callable[[BaseException], object]
"""Told of an error of this package in the supervision of one child."""


class Watched(NamedTuple):
    """What happens when a descriptor is readable."""

    handle: Callable[[], bool | None]
    on_error: OnError


class FairPoller:
    """
    Handles the descriptors of one loop when they are readable; a handler must be short.

    A handler that returns True is called again after `BATCH_DELAY`, any other as soon as its
    descriptor is readable. A handler that raises is called no more; its owner is told.

    Args:
        loop: The loop.
        name: The name of the task.
        most: Handlers to call in one turn of the loop.
        seconds: Seconds of one turn of the loop after which no other handler is called.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        *,
        most: int | None = None,
        seconds: float = READ_TIME,
    ) -> None:
        self._weak_loop = weakref.ref(loop)
        self._name = name
        self._most = most
        self._seconds = seconds
        self._watched: dict[int, Watched] = {}
        self._ready: deque[int] = deque()
        """Readable descriptors that wait for their turn."""
        self._delayed: dict[int, float] = {}
        """Descriptors to handle at a time, in monotonic seconds; the earliest is first."""
        self._readiness: Readiness | None = None
        self._task: asyncio.Task[None] | None = None
        self._woken: asyncio.Future[None] | None = None

    def add(
        self, descriptor: int, handle: Callable[[], bool | None], on_error: OnError
    ) -> None:
        """
        Call *handle* again and again while *descriptor* is readable.

        Raises:
            OSError: If the system can watch no further descriptor.
        """
        watched = Watched(handle, on_error)
        self._watched[descriptor] = watched
        try:
            self._register(descriptor)
        except OSError:
            del self._watched[descriptor]
            if not self._watched:
                self._close()
            raise
        self._start_if_needed()

    def add_again(
        self, descriptor: int, handle: Callable[[], bool | None], on_error: OnError
    ) -> None:
        """
        Watch a descriptor that was removed for a while.

        A child that runs must not be lost then: while the system can watch no further
        descriptor, *handle* is called every `BATCH_DELAY`.
        """
        try:
            self.add(descriptor, handle, on_error)
        except OSError:
            self._watched[descriptor] = Watched(handle, on_error)
            self._delayed[descriptor] = time.monotonic() + BATCH_DELAY
            self._start_if_needed()
            self._wake()

    def _register(self, descriptor: int) -> None:
        """
        Watch a descriptor.

        Raises:
            OSError: If the system can watch no further descriptor.
        """
        if self._readiness is None:
            self._readiness = SYSTEM.make_readiness(self._loop, self._wake)
        self._readiness.watch(descriptor)

    def remove(self, descriptor: int) -> None:
        """
        Stop watching a descriptor; call this before closing it.

        Idempotent; harmless for a descriptor that `add` has refused.
        """
        was_watched = self._watched.pop(descriptor, None) is not None
        is_delayed = self._delayed.pop(descriptor, None) is not None
        if was_watched and not is_delayed and self._readiness is not None:
            self._readiness.unwatch(descriptor)
        if not self._watched:
            self._close()
            self._wake()  # the task ends

    # ---- the task

    async def _run(self) -> None:
        """Handle descriptors until none is left."""
        while self._watched:
            await self._wait_for_work()
            deadline, left = time.monotonic() + self._seconds, self._most
            while left != 0 and (descriptor := self._take()) >= 0:
                self._handle(descriptor)
                left = None if left is None else left - 1
                if time.monotonic() > deadline:
                    break

    async def _wait_for_work(self) -> None:
        """Wait until a descriptor is readable or due; a turn of the loop at least."""
        if self._ready:
            await asyncio.sleep(0)
            return
        self._woken = self._loop.create_future()
        timer = None
        if self._delayed:
            wait = next(iter(self._delayed.values())) - time.monotonic()
            timer = self._loop.call_later(max(0.0, wait), self._wake)
        try:
            await self._woken
        finally:
            self._woken = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def _take(self) -> int:
        """Return the next descriptor to handle; -1 if none is ready or due."""
        if not self._ready:
            if self._readiness is not None and self._watched:
                self._ready.extend(self._readiness.readable())
            now = time.monotonic()
            self._ready.extend(one for one, due in self._delayed.items() if due <= now)
        return self._ready.popleft() if self._ready else -1

    def _handle(self, descriptor: int) -> None:
        """Call one handler; tell its owner if it raises."""
        watched = self._watched.get(descriptor)
        if watched is None:
            return  # removed since it was found readable
        try:
            is_delayed = watched.handle()
        except Exception as error:  # noqa: BLE001 - an error belongs to its owner
            self.remove(descriptor)
            watched.on_error(error)
        else:
            if self._watched.get(descriptor) is watched:
                self._delay(descriptor, is_delayed=is_delayed is True)

    def _delay(self, descriptor: int, *, is_delayed: bool) -> None:
        """Watch a descriptor by time or when it is readable, as its handler wants."""
        was_delayed = self._delayed.pop(descriptor, None) is not None
        if was_delayed and not is_delayed:
            try:
                self._register(descriptor)
            except OSError:  # the system can watch no further descriptor
                is_delayed = True
        if is_delayed:
            self._delayed[descriptor] = time.monotonic() + BATCH_DELAY
        if is_delayed and not was_delayed:
            assert self._readiness is not None
            self._readiness.unwatch(descriptor)

    # ---- the life of the task

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = self._weak_loop()
        assert loop is not None  # the owners of the descriptors hold a reference
        return loop

    def _start_if_needed(self) -> None:
        if self._watched and self._task is None and not self._loop.is_closed():
            self._task = self._loop.create_task(self._run(), name=self._name)
            self._task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not self._watched:
            return
        if not task.cancelled() and (error := task.exception()) is not None:
            for descriptor, watched in list(self._watched.items()):
                self.remove(descriptor)
                watched.on_error(error)
        else:
            # Code that cancels all tasks must not stop the supervision. At the end of the
            # loop, which cancels all tasks too, nothing is watched a turn later.
            loop = self._loop
            loop.call_soon(loop.call_soon, self._start_if_needed)

    def _close(self) -> None:
        self._ready.clear()
        self._delayed.clear()
        if self._readiness is not None:
            self._readiness.close()
            self._readiness = None


class LoopPollers(NamedTuple):
    """The two pollers of a loop."""

    output: FairPoller
    exits: FairPoller


_pollers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopPollers] = (
    weakref.WeakKeyDictionary()
)


def get_pollers() -> LoopPollers:
    """Return the pollers of the running loop."""
    loop = asyncio.get_running_loop()
    found = _pollers.get(loop)
    if found is None:
        found = _pollers[loop] = LoopPollers(
            FairPoller(loop, "realtalk-async output reader"),
            FairPoller(loop, "realtalk-async exit watcher", most=EXITS),
        )
    return found
