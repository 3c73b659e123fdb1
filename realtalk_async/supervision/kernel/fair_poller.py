"""
Many descriptors behind one, so that a burst of events does not block the event loop.

If a thousand children exit together, or ten flood their pipes, the loop would call all
readers in one turn, and a 20 ms audio frame would wait for them. The poller calls them in
turns, within a share of each turn of the loop; a descriptor also costs a third of the
memory.
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
"""Seconds of one turn of the loop for all callbacks: a tenth of an audio frame."""


class FairPoller:
    """
    Calls functions when descriptors of one loop are readable.

    They take turns, longest wait first; a call must be short. On systems without epoll
    the loop itself makes all calls, in one turn.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._weak_loop = weakref.ref(loop)
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._epoll: select.epoll | None = None

    def add(self, descriptor: int, callback: Callable[[], object]) -> None:
        """
        Call *callback* again and again while *descriptor* is readable.

        Raises:
            OSError: If the system can watch no further descriptor.
        """
        if not hasattr(select, "epoll"):
            self._loop.add_reader(descriptor, callback)
            return
        if self._epoll is None:
            epoll = select.epoll()
            self._loop.add_reader(epoll.fileno(), self._poll)
            self._epoll = epoll
        self._callbacks[descriptor] = callback
        try:
            self._epoll.register(descriptor, select.EPOLLIN)
        except OSError:
            del self._callbacks[descriptor]
            self._close_if_unused()
            raise

    def remove(self, descriptor: int) -> None:
        """
        Stop watching a descriptor; call this before closing it.

        Idempotent; harmless for a descriptor that `add` has refused.
        """
        if self._epoll is None:
            self._loop.remove_reader(descriptor)
            return
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._epoll is not None and not self._callbacks:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = self._weak_loop()
        assert loop is not None  # the owners of the descriptors hold a reference
        return loop

    def _poll(self) -> None:
        """Call one callback after the other while there is time, at least one."""
        deadline = time.monotonic() + BUDGET
        # One event per poll: the kernel then moves that descriptor to the end of its queue.
        while self._epoll and (ready := self._epoll.poll(0, 1)):
            self._callbacks[ready[0][0]]()
            if time.monotonic() > deadline:
                return  # the others are still readable in the next turn of the loop


_pollers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, FairPoller] = (
    weakref.WeakKeyDictionary()
)


def get_fair_poller() -> FairPoller:
    """Return the poller of the running loop."""
    loop = asyncio.get_running_loop()
    found = _pollers.get(loop)
    if found is None:
        found = _pollers[loop] = FairPoller(loop)
    return found
