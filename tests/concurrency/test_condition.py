"""Waiting until a condition is true."""

import asyncio

import pytest

from realtalk_async.concurrency.condition import Condition, LightEvent


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_all_waiting_tasks_are_woken_when_the_condition_is_true():
    changes, values = Condition(), []
    waiting = [
        asyncio.ensure_future(changes.wait_until(lambda: len(values) >= 2))
        for _ in range(3)
    ]
    for done in (False, True):
        await turns()
        values.append(1)
        changes.notify()
        await turns()
        assert [task.done() for task in waiting] == [done] * 3


async def test_a_true_condition_is_not_waited_for():
    """Not even for one turn of the loop."""
    with pytest.raises(StopIteration):
        Condition().wait_until(lambda: True).send(None)


async def test_a_cancelled_task_does_not_cancel_the_other_waiting_tasks():
    """They share one future."""
    changes = Condition()
    one, two = (asyncio.ensure_future(changes.wait()) for _ in range(2))
    await turns()
    one.cancel()
    await turns()
    assert not two.done()
    changes.notify()
    await two
    changes.notify()


async def test_a_light_event_can_be_set_awaited_and_cleared():
    """As `asyncio.Event`."""
    flag = LightEvent()
    waiting = asyncio.ensure_future(flag.wait())
    await turns()
    assert not waiting.done()
    flag.set()
    flag.clear()
    await waiting
    assert not flag.is_set()
    flag.set()
    with pytest.raises(StopIteration):
        flag.wait().send(None)
