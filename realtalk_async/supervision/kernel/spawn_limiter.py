"""
At most one spawn in each turn of the event loop.

A spawn takes about a millisecond. Two hundred spawns in one turn of the loop would delay
everything else in it, such as a 20 ms audio frame.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque


class SpawnLimiter:
    """Gives the turns of one event loop to spawns, in order of arrival."""

    def __init__(self) -> None:
        self._is_taken = False
        self._queue: deque[asyncio.Future[None]] = deque()

    async def wait_for_turn(self) -> None:
        """
        Wait for a turn of the loop that has no other spawn.

        Returns at once, without a turn of the loop, if no other spawn is under way.

        Cancellation: Safe; the place in the queue is given up.
        """
        loop = asyncio.get_running_loop()
        if self._is_taken:
            place = loop.create_future()
            self._queue.append(place)
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._next()  # the turn had come, but the caller does not use it
                raise
        else:
            self._is_taken = True
        loop.call_soon(self._next)

    def _next(self) -> None:
        """Give the turn to the next waiting spawn, if there is one."""
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._is_taken = False


_limiters: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, SpawnLimiter] = (
    weakref.WeakKeyDictionary()
)


def get_spawn_limiter() -> SpawnLimiter:
    """Return the limiter of the running loop."""
    loop = asyncio.get_running_loop()
    found = _limiters.get(loop)
    if found is None:
        found = _limiters[loop] = SpawnLimiter()
    return found
