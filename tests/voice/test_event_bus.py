"""The one place through which the events of a session go."""

import asyncio

import anyio
import pytest

from realtalk_async.voice import events
from realtalk_async.voice.event_bus import Broadcast

HELLO = events.ResponseText("r1", "i1", "hello")


@pytest.fixture
def broadcast(logger):
    """One that logs to this test's folder."""
    return Broadcast(logger)


async def test_an_event_is_logged_told_and_fed(broadcast, logger):
    """In this order, and at once."""
    seen, feed = [], broadcast.feed((), 10)
    broadcast.subscribe(seen.append)
    event = events.UserTranscript("i1", "hello")
    broadcast.publish(event)
    assert seen == [event]
    assert await anext(feed) is event
    (entry,) = await logger.get_logs(component="session")
    assert entry.context == {"text": "hello"}


async def test_who_waits_is_woken_by_each_event_and_by_a_note(broadcast):
    """The condition is asked at once, and each time."""
    asked = []

    def third():
        asked.append(len(asked))
        return len(asked) == 3

    waiting = asyncio.create_task(broadcast.until(third))
    await anyio.wait_all_tasks_blocked()
    broadcast.publish(HELLO)
    await anyio.wait_all_tasks_blocked()
    assert not waiting.done()
    broadcast.note()
    with anyio.fail_after(20):
        await waiting
    assert asked == [0, 1, 2]


async def test_a_subscriber_may_leave_while_it_is_called(broadcast):
    """Nobody is left out for that, and nobody is called again."""
    seen = []

    def once(event):
        seen.append(("once", event))
        leave()

    leave = broadcast.subscribe(once)
    broadcast.subscribe(lambda event: seen.append(("always", event)))
    broadcast.publish(HELLO)
    broadcast.publish(HELLO)
    assert [who for who, _ in seen] == ["once", "always", "always"]


async def test_feeds_end_with_the_session(broadcast):
    """What waits is read first; a late one is over at once."""
    early = broadcast.feed((events.ResponseText,), 10)
    broadcast.publish(HELLO)
    broadcast.close()
    broadcast.publish(HELLO)
    assert [event async for event in early] == [HELLO]
    assert [event async for event in broadcast.feed((), 10)] == []


async def test_what_slow_readers_missed_is_counted(broadcast):
    """Of all that are still held."""
    feed = broadcast.feed((), 1)
    for _ in range(3):
        broadcast.publish(HELLO)
    assert broadcast.missed == feed.missed == 2
    del feed
    assert broadcast.missed == 0
