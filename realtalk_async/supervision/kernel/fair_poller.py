"""
Many descriptors behind one, so that a crowd of them does not hold the loop. An edge.

A thousand children that die together, or ten that flood, would each be dealt with in the
same turn of the loop, and be felt by everything else in it, such as a 20 ms audio frame.
Here they take turns, within a share of each turn; and one costs a third of the memory.
"""

from __future__ import annotations

import asyncio
import select
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BUDGET = 0.002
"""Seconds of one turn of the loop that may be spent on them: a tenth of a frame."""


class Watch:
    """
    Calls functions when descriptors of one loop are readable.

    They take turns, those who wait longest first; a call is to be short. On systems
    without epoll it is the loop itself that calls, all of them in one turn.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._calls: dict[int, Callable[[], object]] = {}
        self._epoll: select.epoll | None = None

    def add(self, descriptor: int, call: Callable[[], object]) -> None:
        """
        Have *call* called, again and again, while *descriptor* is readable.

        Raises:
            OSError: If the system can watch no further descriptor.
        """
        if not hasattr(select, "epoll"):
            self._of_loop().add_reader(descriptor, call)
            return
        if self._epoll is None:
            epoll = select.epoll()
            self._of_loop().add_reader(epoll.fileno(), self._take_turns)
            self._epoll = epoll
        self._epoll.register(descriptor, select.EPOLLIN)
        self._calls[descriptor] = call

    def remove(self, descriptor: int) -> None:
        """
        Watch a descriptor no longer; to be called before it is closed.

        Idempotent; also for one that could not be added.
        """
        if self._epoll is None:
            self._of_loop().remove_reader(descriptor)
            return
        if self._calls.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
        if not self._calls:
            self._of_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _of_loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop()
        assert loop is not None  # whoever has something watched holds it
        return loop

    def _take_turns(self) -> None:
        """Call one after the other while there is time: one at least."""
        deadline = time.monotonic() + BUDGET
        # One at a time: whom the system has told of goes to the end of its queue.
        while self._epoll and (ready := self._epoll.poll(0, 1)):
            self._calls[ready[0][0]]()
            if time.monotonic() > deadline:
                return  # the rest is still readable in the next turn of the loop


_watches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Watch] = (
    weakref.WeakKeyDictionary()
)


def watch() -> Watch:
    """Return the watch of the running loop."""
    loop = asyncio.get_running_loop()
    found = _watches.get(loop)
    if found is None:
        found = _watches[loop] = Watch(loop)
    return found
