"""The condition of a session's event bus."""

import asyncio

import anyio

from realtalk_async.voice.event_bus import SessionEventBus
from realtalk_async.voice.events import ResponseText


async def test_a_waiting_task_evaluates_its_condition_after_each_change(logger):
    bus = SessionEventBus(logger)
    evaluated = []

    def third():
        evaluated.append(len(evaluated))
        return len(evaluated) == 3

    waiting = asyncio.create_task(bus.wait_until(third))
    await anyio.wait_all_tasks_blocked()
    bus.publish(ResponseText("r1", "i1", "hello"))
    await anyio.wait_all_tasks_blocked()
    assert not waiting.done()
    bus.notify()
    with anyio.fail_after(120):
        await waiting
    assert evaluated == [0, 1, 2]
