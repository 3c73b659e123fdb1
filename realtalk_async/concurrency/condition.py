"""Waiting for something to become true, without polling and without missing it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Condition:
    """Wakes all who wait for a condition, whenever something has changed."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    def notify(self) -> None:
        """Let all who wait look again."""
        if self._next is not None and not self._next.done():
            self._next.set_result(None)

    async def wait(self) -> None:
        """Wait for the next change."""
        if self._next is None or self._next.done():
            self._next = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._next)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds; it is asked at once and at every change."""
        while not condition():
            await self.wait()


class LightEvent:
    """A yes or no that can be waited for: an `asyncio.Event` that costs little memory."""

    __slots__ = ("_changed", "_is_set")

    def __init__(self) -> None:
        self._changed = Condition()
        self._is_set = False

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake all who wait."""
        self._is_set = True
        self._changed.notify()

    def clear(self) -> None:
        """Set it back."""
        self._is_set = False

    async def wait(self) -> None:
        """Wait until it is set; those who wait see it also if it is set back at once."""
        if not self._is_set:
            await self._changed.wait()
