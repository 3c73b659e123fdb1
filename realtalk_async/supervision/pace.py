"""
Sharing the loop: how much of one turn of it spawns, reads and deaths may take. An edge.

Two hundred children that are started together, or a thousand that die together, are each
a matter of a millisecond or less; all in one turn of the loop they would be felt by
everything else in it, such as a 20 ms audio frame.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BUDGET = 0.002
"""
Seconds of one turn of the loop that may be spent on reads and deaths: a tenth of a frame.
"""


class Pace:
    """The share of one loop's turns that supervision takes."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._spawning = False
        self._queue: deque[asyncio.Future[None]] = deque()
        self._deeds: deque[Callable[[], object]] = deque()

    def take_turn(self, deed: Callable[[], object]) -> None:
        """
        Do *deed* now, or in a later turn of the loop if there is no time left in this one.

        In the order of asking, so that nobody waits for ever: one a turn at least.
        """
        if not self._deeds and self._has_time():
            deed()
            return
        if not self._deeds:
            asyncio.get_running_loop().call_soon(self._go_on)
        self._deeds.append(deed)

    def _go_on(self) -> None:
        try:
            while self._deeds and self._has_time():
                self._deeds.popleft()()
        finally:
            if self._deeds:
                asyncio.get_running_loop().call_soon(self._go_on)

    def _has_time(self) -> bool:
        """Return whether there is time left in this turn: for one deed at least."""
        now = time.monotonic()
        if self._began is None:
            self._began = now
            asyncio.get_running_loop().call_soon(self._begin_turn)
            return True
        return now - self._began < BUDGET

    def _begin_turn(self) -> None:
        self._began = None

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


def pace() -> Pace:
    """Return the pace of the running loop."""
    loop = asyncio.get_running_loop()
    found = _paces.get(loop)
    if found is None:
        found = _paces[loop] = Pace()
    return found
