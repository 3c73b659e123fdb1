"""The event bus of a voice session, with a condition for tasks that wait for a change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from realtalk_async.event_bus import EventBus
from realtalk_async.voice.events import SESSION, EventsMissed, VoiceEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.logs import Logger


class SessionEventBus(EventBus[VoiceEvent]):
    """
    The bus of one session.

    Args:
        logger: The log of the session.
    """

    def __init__(self, logger: Logger) -> None:
        super().__init__(logger, SESSION, EventsMissed)
        self._changed = asyncio.Event()

    def publish(self, event: VoiceEvent) -> None:
        """Deliver *event*, then wake all tasks that wait for a change."""
        super().publish(event)
        self.notify()

    def close(self) -> None:
        """End all feeds once they are read, and wake all waiting tasks."""
        super().close()
        self.notify()

    def notify(self) -> None:
        """Wake all tasks that wait for a change of the session's state."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for_change(self) -> None:
        """Wait until `notify` is called the next time."""
        await self._changed.wait()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* is true; it is evaluated after each change."""
        while not condition():
            await self.wait_for_change()
