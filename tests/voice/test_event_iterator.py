"""Events for a reader of any speed."""

import asyncio

import anyio
import pytest

from realtalk_async.voice.event_iterator import EventFeed
from realtalk_async.voice.events import EventsMissed, ResponseStarted, ResponseText


def text(number):
    """Return an event that can be told from others."""
    return ResponseText("r1", "i1", str(number))


async def test_events_come_in_order_and_end_with_the_session():
    """All that was told before the end is read."""
    feed = EventFeed((), 10)
    for number in range(3):
        feed.push(text(number))
    feed.close()
    feed.push(text(3))
    assert [event async for event in feed] == [text(0), text(1), text(2)]
    with pytest.raises(StopAsyncIteration):
        await anext(feed)


async def test_only_the_wanted_kinds_come():
    """The others do not even fill the queue."""
    feed = EventFeed((ResponseStarted,), 1)
    for event in (ResponseStarted("r1"), text(1), text(2)):
        feed.push(event)
    assert await anext(feed) == ResponseStarted("r1")
    assert feed.missed == 0


async def test_a_slow_reader_is_told_how_much_it_missed():
    """The oldest are dropped, and counted where they were."""
    feed = EventFeed((), 2)
    for number in range(5):
        feed.push(text(number))
    feed.close()
    assert [event async for event in feed] == [EventsMissed(3), text(3), text(4)]
    assert feed.missed == 3
    assert "3 missed" in repr(feed)


async def test_a_reader_that_waits_is_woken():
    """By an event, and by the end."""
    feed = EventFeed((), 2)
    reader = asyncio.create_task(anext(feed))
    await anyio.wait_all_tasks_blocked()
    feed.push(text(1))
    with anyio.fail_after(20):
        assert await reader == text(1)

    async def read_all():
        return [event async for event in feed]

    rest = asyncio.create_task(read_all())
    await anyio.wait_all_tasks_blocked()
    feed.close()
    with anyio.fail_after(20):
        assert await rest == []


async def test_a_cancelled_reader_loses_nothing():
    """The next one gets it."""
    feed = EventFeed((), 2)
    with anyio.move_on_after(0):
        await anext(feed)
    feed.push(text(1))
    assert await anext(feed) == text(1)
