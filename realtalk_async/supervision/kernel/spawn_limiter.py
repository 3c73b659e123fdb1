"""
Sharing the loop: one spawn in each turn of it. An edge.

Two hundred children that are started together are each a matter of a millisecond; all in
one turn of the loop they would be felt by everything else in it, such as a 20 ms audio
frame.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque


class Pace:
    """The share of one loop's turns that supervision takes."""

    def __init__(self) -> None:
        self._spawning = False
        self._queue: deque[asyncio.Future[None]] = deque()

    async def wait_for_turn(self) -> None:
        """
        Wait until this turn of the loop is free for a spawn: one a turn, in order.

        Returns at once, without a turn of the loop, if nobody else spawns now.

        Cancellation: Safe; the place in the queue is given up.
        """
        loop = asyncio.get_running_loop()
        if self._spawning:
            place = loop.create_future()
            self._queue.append(place)
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._next()  # it was our turn, and we do not use it
                raise
        else:
            self._spawning = True
        loop.call_soon(self._next)

    def _next(self) -> None:
        """Let the next one spawn, or note that nobody waits."""
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._spawning = False


_paces: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Pace] = (
    weakref.WeakKeyDictionary()
)


def get_spawn_limiter() -> Pace:
    """Return the pace of the running loop."""
    loop = asyncio.get_running_loop()
    found = _paces.get(loop)
    if found is None:
        found = _paces[loop] = Pace()
    return found
