"""
The event bus: every event of a manager or of a session passes through one `EventBus`.

The log, the timeline, the metrics and the app are subscribers of it. Audio never
passes over the bus.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import traceback
from collections import deque
from typing import TYPE_CHECKING, Generic, Self, TypeVar
from weakref import WeakSet

from realtalk_async import arguments
from realtalk_async.events.base import BaseEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.logs import Logger

E = TypeVar("E", bound=BaseEvent)


class EventBus(Generic[E]):
    """
    Deliver each published event to all subscribers, at once and in order.

    Args:
        logger: The first subscriber: the log entry of each event goes there, and an
            ERROR entry for each subscriber that raises.
        component: The component of such an ERROR entry.
        gap_event: Makes the event that stands for the number of events which the
            reader of an `EventFeed` missed.
    """

    def __init__(
        self,
        logger: Logger,
        component: str,
        gap_event: Callable[[int], E] | None = None,
    ) -> None:
        self._logger = logger
        self._component = component
        self._gap_event = gap_event
        self._subscribers: list[Callable[[E], object]] = []
        # A weak set: an iterator that the app has dropped costs nothing.
        self._feeds: WeakSet[EventFeed[E]] = WeakSet()
        self._is_closed = False
        self.subscribe(self._log)

    def _log(self, event: E) -> None:
        entry = event.log_entry()
        if entry is not None:
            self._logger.log(*entry)

    @property
    def missed(self) -> int:
        """How many events the readers of all feeds missed because they were slow."""
        return sum(feed.missed for feed in self._feeds)

    def publish(self, event: E) -> None:
        """Deliver *event*; a subscriber that raises is logged and stays subscribed."""
        for subscriber in list(self._subscribers):
            try:
                subscriber(event)
            # The app's own code may raise anything; a CancelledError of it cancels nothing.
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
                self._log_failure(subscriber, event, error)
        for feed in list(self._feeds):
            feed.push(event)

    def _log_failure(self, subscriber: object, event: E, error: BaseException) -> None:
        context = {
            "subscriber": repr(subscriber),
            "error": repr(error),
            "traceback": "".join(traceback.format_exception(error)),
        }
        message = f"A subscriber raised on {event.kind}"
        self._logger.error(self._component, message, context)

    def subscribe(
        self, subscriber: Callable[[E], object], *kinds: type[E]
    ) -> Callable[[], None]:
        """
        Have *subscriber* called with each event, in the loop.

        Args:
            subscriber: A function that is not async.
            *kinds: Only events of these classes; all if there are none.

        Returns:
            A function that ends the subscription. Idempotent.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        _check_subscriber(subscriber)
        wanted = arguments.several("kinds", kinds, _check_kind, "classes of events")

        @functools.wraps(subscriber)
        def call_if_wanted(event: E) -> None:
            if isinstance(event, wanted):
                subscriber(event)

        subscribed = call_if_wanted if wanted else subscriber
        self._subscribers.append(subscribed)

        def unsubscribe() -> None:
            if subscribed in self._subscribers:
                self._subscribers.remove(subscribed)

        return unsubscribe

    def feed(self, kinds: tuple[type[E], ...], size: int) -> EventFeed[E]:
        """
        Return an iterator over the events from now on.

        Args:
            kinds: Only events of these classes; all if there are none.
            size: How many events may wait to be read.
        """
        feed = EventFeed(kinds, size, self._gap_event)
        if self._is_closed:
            feed.close()
        self._feeds.add(feed)
        return feed

    def close(self) -> None:
        """End each feed once its waiting events have been read. Idempotent."""
        self._is_closed = True
        for feed in list(self._feeds):
            feed.close()


class EventFeed(Generic[E]):
    """
    An async iterator over events; see `Stream.events`.

    If the reader is slow, the oldest waiting events are dropped, and an event that
    counts them takes their place. The reader slows down no other part of the app.

    Args:
        kinds: Only events of these classes; all if there are none.
        size: How many events may wait to be read.
        gap_event: Makes the event that stands for the missed events; without it they
            are only counted in `missed`.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """

    def __init__(
        self,
        kinds: tuple[type[E], ...],
        size: int,
        gap_event: Callable[[int], E] | None = None,
    ) -> None:
        arguments.integer("size", size, of="events", minimum=1)
        arguments.function("gap_event", gap_event, optional=True)
        self._kinds = arguments.several(
            "kinds", kinds, _check_kind, "classes of events"
        )
        self._size = size
        self._gap_event = gap_event
        self._waiting: deque[E] = deque()
        self._gap = 0
        self._is_closed = False
        self._wake_up = asyncio.Event()
        self.missed = 0
        """How many events the reader missed in all."""

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open"
        return (
            f"<EventFeed {state}, {len(self._waiting)} waiting, {self.missed} missed>"
        )

    def push(self, event: E) -> None:
        """Add an event if it is of a wanted kind; never waits."""
        arguments.instance("event", event, BaseEvent, "an event")
        if self._is_closed or (self._kinds and not isinstance(event, self._kinds)):
            return
        if len(self._waiting) >= self._size:
            self._waiting.popleft()
            self._gap += 1
            self.missed += 1
        self._waiting.append(event)
        self._wake_up.set()

    def close(self) -> None:
        """End the iteration once all waiting events have been read. Idempotent."""
        self._is_closed = True
        self._wake_up.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        """
        Wait for the next event.

        Raises:
            StopAsyncIteration: If the bus is closed and every event has been read.

        Cancellation: Safe; no event is lost.
        """
        while not self._waiting:
            if self._is_closed:
                raise StopAsyncIteration
            self._wake_up.clear()
            await self._wake_up.wait()
        if self._gap and self._gap_event is not None:
            gap, self._gap = self._gap, 0
            return self._gap_event(gap)
        return self._waiting.popleft()


def _check_subscriber(subscriber: object) -> None:
    allowed = "a function that is not async; an async one can read events()"
    arguments.function("subscriber", subscriber, allowed)
    call = getattr(subscriber, "__call__", None)  # noqa: B004 - the object may be callable
    if inspect.iscoroutinefunction(subscriber) or inspect.iscoroutinefunction(call):
        raise arguments.refused("subscriber", allowed, subscriber)


def _check_kind(argument: str, value: object) -> None:
    arguments.subclass(argument, value, BaseEvent, "a class of events")
