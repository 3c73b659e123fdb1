"""Waiting for something to become true, without polling and without missing it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Changes:
    """Wakes all who wait for a condition, whenever something has changed."""

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    def tell(self) -> None:
        """Let all who wait look again."""
        if self._next is not None and not self._next.done():
            self._next.set_result(None)

    async def wait(self) -> None:
        """Wait for the next change."""
        if self._next is None or self._next.done():
            self._next = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._next)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds; it is asked at once and at every change."""
        while not condition():
            await self.wait()
