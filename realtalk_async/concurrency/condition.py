"""Wait for a condition without polling and without missing a change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Condition:
    """Wakes all waiting tasks whenever the state has changed."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        # None while no task waits: thousands of children have several conditions each.
        self._waiting: dict[asyncio.Future[None], None] | None = None

    def notify(self) -> None:
        """Wake all waiting tasks."""
        if self._waiting is None:
            return
        waiting, self._waiting = self._waiting, None
        for one in waiting:
            if not one.done():
                one.set_result(None)

    async def wait(self) -> None:
        """Wait for the next change."""
        # A future of its own for each task: a shielded common one would cost another turn
        # of the loop.
        changed = asyncio.get_running_loop().create_future()
        waiting = self._waiting = self._waiting or {}
        waiting[changed] = None
        try:
            await changed
        finally:  # a cancelled wait leaves nothing behind
            waiting.pop(changed, None)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* returns True; it is called now and after each change."""
        while not condition():
            await self.wait()


class LightEvent:
    """An `asyncio.Event` that costs little memory."""

    __slots__ = ("_changed", "_is_set")

    def __init__(self) -> None:
        self._changed = Condition()
        self._is_set = False

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set the event, and wake all waiting tasks."""
        self._is_set = True
        self._changed.notify()

    def clear(self) -> None:
        """Reset the event."""
        self._is_set = False

    async def wait(self) -> None:
        """Wait until the event is set; a reset right after it does not lose the wake-up."""
        if not self._is_set:
            await self._changed.wait()

    async def is_set_within(self, seconds: float) -> bool:
        """Wait for at most *seconds*; return whether it was set."""
        try:
            async with asyncio.timeout(seconds):
                await self.wait()
        except TimeoutError:
            return False
        return True
