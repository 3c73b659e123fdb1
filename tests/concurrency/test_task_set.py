"""`TaskSet`: tasks that end before their owner does."""

import asyncio

import pytest

from realtalk_async.concurrency.task_set import TaskSet


async def for_ever():
    await asyncio.Event().wait()


async def test_closing_cancels_all_tasks_and_waits_for_their_end():
    ended = []

    async def slow():
        try:
            await for_ever()
        finally:
            await asyncio.sleep(0.01)
            ended.append(1)

    task_set = TaskSet(print)
    tasks = [task_set.add(slow(), "slow") for _ in range(3)]
    await asyncio.sleep(0)
    await task_set.aclose()
    assert ended == [1, 1, 1]
    assert all(task.cancelled() for task in tasks)
    await task_set.aclose()


async def test_closing_also_waits_for_a_task_that_a_cancelled_task_starts():
    task_set, born = TaskSet(print), []

    async def begets():
        try:
            await for_ever()
        finally:
            born.append(task_set.add(for_ever(), "child"))

    born.append(task_set.add(begets(), "parent"))
    await asyncio.sleep(0)
    await task_set.aclose()
    assert [task.cancelled() for task in born] == [True, True]


async def test_an_exception_is_reported_at_once_and_raised_at_the_end():
    """The other tasks go on until then; the first exception is raised."""
    told = []
    task_set = TaskSet(lambda: told.append(1))

    async def fails(error):
        raise error

    other = task_set.add(for_ever(), "other")
    await asyncio.wait([task_set.add(fails(OSError("first")), "one")])
    await asyncio.wait([task_set.add(fails(ValueError("second")), "two")])
    assert told == [1, 1]
    assert not other.done()
    with pytest.raises(OSError, match="first"):
        await task_set.aclose()
    assert other.cancelled()


async def test_ended_tasks_are_released():
    task_set = TaskSet(print)
    await task_set.add(asyncio.sleep(0), "short")
    await asyncio.sleep(0)
    assert not task_set._tasks
