"""The event bus, and the iterators over its events."""

import asyncio

import anyio
import pytest

from realtalk_async.event_bus import EventBus, EventFeed
from realtalk_async.voice.events import (
    EventsMissed,
    ResponseStarted,
    ResponseText,
    UserTranscript,
)


def text(number):
    return ResponseText("r1", "i1", str(number))


async def test_a_feed_yields_events_in_order_and_ends_when_it_is_closed():
    feed = EventFeed((), 10)
    for number in range(3):
        feed.push(text(number))
    feed.close()
    feed.push(text(3))
    assert [event async for event in feed] == [text(0), text(1), text(2)]
    with pytest.raises(StopAsyncIteration):
        await anext(feed)


async def test_events_of_other_kinds_do_not_fill_the_queue_of_a_feed():
    feed = EventFeed((ResponseStarted,), 1)
    for event in (ResponseStarted("r1"), text(1), text(2)):
        feed.push(event)
    assert await anext(feed) == ResponseStarted("r1")
    assert feed.missed == 0


async def test_a_slow_reader_gets_the_number_of_missed_events_in_their_place():
    feed = EventFeed((), 2, EventsMissed)
    for number in range(5):
        feed.push(text(number))
    feed.close()
    assert [event async for event in feed] == [EventsMissed(3), text(3), text(4)]
    assert feed.missed == 3
    assert "3 missed" in repr(feed)


async def test_a_waiting_reader_is_woken_by_an_event_and_by_the_end():
    feed = EventFeed((), 2, EventsMissed)
    reader = asyncio.create_task(anext(feed))
    await anyio.wait_all_tasks_blocked()
    feed.push(text(1))
    with anyio.fail_after(120):
        assert await reader == text(1)

    async def read_all():
        return [event async for event in feed]

    rest = asyncio.create_task(read_all())
    await anyio.wait_all_tasks_blocked()
    feed.close()
    with anyio.fail_after(120):
        assert await rest == []


async def test_a_cancelled_reader_loses_no_event():
    feed = EventFeed((), 2, EventsMissed)
    with anyio.move_on_after(0):
        await anext(feed)
    feed.push(text(1))
    assert await anext(feed) == text(1)


HELLO = ResponseText("r1", "i1", "hello")


@pytest.fixture
def bus(logger):
    return EventBus(logger, "session", EventsMissed)


async def test_an_event_reaches_the_log_the_subscribers_and_the_feeds(bus, logger):
    seen, feed = [], bus.feed((), 10)
    bus.subscribe(seen.append)
    event = UserTranscript("i1", "hello")
    bus.publish(event)
    assert seen == [event]
    assert await anext(feed) is event
    (entry,) = await logger.get_logs(component="session")
    assert entry.context == {"text": "hello"}


async def test_a_subscriber_that_raises_is_logged_and_called_again(bus, logger):
    seen = []

    def fail(event):
        seen.append(event)
        raise ValueError("mistake of the app")

    bus.subscribe(fail)
    bus.publish(HELLO)
    bus.publish(HELLO)
    assert seen == [HELLO, HELLO]
    entries = await logger.get_logs(level="ERROR", component="session")
    assert ["mistake of the app" in entry.context["error"] for entry in entries] == [
        True,
        True,
    ]


async def test_a_subscriber_may_unsubscribe_while_it_is_called(bus):
    seen = []

    def once(event):
        seen.append(("once", event))
        unsubscribe()

    unsubscribe = bus.subscribe(once)
    bus.subscribe(lambda event: seen.append(("always", event)))
    bus.publish(HELLO)
    bus.publish(HELLO)
    assert [name for name, _ in seen] == ["once", "always", "always"]
    unsubscribe()  # idempotent


async def test_a_closed_bus_ends_its_feeds_after_their_last_event(bus):
    early = bus.feed((ResponseText,), 10)
    bus.publish(HELLO)
    bus.close()
    bus.publish(HELLO)
    assert [event async for event in early] == [HELLO]
    assert [event async for event in bus.feed((), 10)] == []


async def test_the_bus_counts_what_the_readers_of_live_feeds_missed(bus):
    feed = bus.feed((), 1)
    for _ in range(3):
        bus.publish(HELLO)
    assert bus.missed == feed.missed == 2
    del feed
    assert bus.missed == 0
