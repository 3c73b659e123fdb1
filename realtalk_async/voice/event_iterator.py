"""
The events of a session as an async iterator, for a reader of any speed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Self

from realtalk_async.voice.events import EventsMissed

if TYPE_CHECKING:
    from realtalk_async.voice.events import VoiceEvent


class EventFeed:
    """
    Events from the moment of its making on; see `Stream.events`.

    A reader that is too slow misses the oldest ones, and is told how many by an
    `EventsMissed` in their place: it slows nobody.

    Args:
        kinds: Only events of these classes; all if there is none.
        size: How many may wait to be read.
    """

    def __init__(self, kinds: tuple[type[VoiceEvent], ...], size: int) -> None:
        self._kinds = kinds
        self._size = size
        self._waiting: deque[VoiceEvent] = deque()
        self._gap = 0
        self._is_closed = False
        self._news = asyncio.Event()
        self.missed = 0
        """How many events were missed in all."""

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open"
        return (
            f"<EventFeed {state}, {len(self._waiting)} waiting, {self.missed} missed>"
        )

    def push(self, event: VoiceEvent) -> None:
        """Add an event, if it is wanted; never waits."""
        if self._is_closed or (self._kinds and not isinstance(event, self._kinds)):
            return
        if len(self._waiting) >= self._size:
            self._waiting.popleft()
            self._gap += 1
            self.missed += 1
        self._waiting.append(event)
        self._news.set()

    def close(self) -> None:
        """End the iteration once all that waits has been read. Idempotent."""
        self._is_closed = True
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> VoiceEvent:
        """
        Wait for the next event.

        Raises:
            StopAsyncIteration: If the session has ended and all was read.

        Cancellation: Safe; no event is lost.
        """
        while not self._waiting:
            if self._is_closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        if self._gap:
            gap, self._gap = self._gap, 0
            return EventsMissed(gap)
        return self._waiting.popleft()
