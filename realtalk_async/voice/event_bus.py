"""
What happens in a session, told to all who want to know: the log, the app, the waiting.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakSet

from realtalk_async.voice.event_iterator import EventFeed
from realtalk_async.voice.log_entries import SESSION, narrate

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.logs import Logger
    from realtalk_async.voice.events import VoiceEvent


class Broadcast:
    """
    The one place through which all events of a session go.

    Args:
        logger: Where they are logged.
    """

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._subscribers: list[Callable[[VoiceEvent], object]] = []
        # An iterator that nobody holds any more costs nothing.
        self._feeds: WeakSet[EventFeed] = WeakSet()
        self._news = asyncio.Event()
        self._is_closed = False

    @property
    def missed(self) -> int:
        """How many events the readers of feeds were too slow for."""
        return sum(feed.missed for feed in self._feeds)

    # --- Telling ------------------------------------------------------------------

    def publish(self, event: VoiceEvent) -> None:
        """Log an event, tell the subscribers, and wake who waits for news."""
        line = narrate(event)
        if line is not None:
            self._logger.log(*line)
        for callback in list(self._subscribers):
            try:
                callback(event)
            except Exception as error:  # noqa: BLE001 - whatever the app's code raises
                self._complain(callback, event, error)
        for feed in list(self._feeds):
            feed.push(event)
        self.note()

    def _complain(self, callback: object, event: VoiceEvent, error: Exception) -> None:
        context = {"callback": repr(callback), "error": repr(error)}
        self._logger.error(SESSION, f"A subscriber raised on {event.kind}", context)

    def close(self) -> None:
        """End all feeds, once they are read. Idempotent."""
        self._is_closed = True
        for feed in list(self._feeds):
            feed.close()
        self.note()

    # --- Listening ----------------------------------------------------------------

    def subscribe(self, callback: Callable[[VoiceEvent], object]) -> Callable[[], None]:
        """Have *callback* called with each event; return what ends that."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe

    def feed(self, kinds: tuple[type[VoiceEvent], ...], size: int) -> EventFeed:
        """Return the events from here on, as an iterator; see `Stream.events`."""
        feed = EventFeed(kinds, size)
        if self._is_closed:
            feed.close()
        self._feeds.add(feed)
        return feed

    # --- Waiting ------------------------------------------------------------------

    def note(self) -> None:
        """Wake all who wait for something that may have become true."""
        self._news.set()
        self._news = asyncio.Event()

    async def news(self) -> None:
        """Wait for the next thing that happens."""
        await self._news.wait()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* is true; it is asked after each thing that happens."""
        while not condition():
            await self.news()
