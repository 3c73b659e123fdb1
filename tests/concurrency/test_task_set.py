"""Tasks that end no later than the one who runs them."""

import asyncio

import pytest

from realtalk_async.concurrency.task_set import Crew

pytestmark = pytest.mark.timeout(20)


async def for_ever():
    await asyncio.Event().wait()


async def test_closing_cancels_all_and_waits_for_their_end():
    """Also for what they do in the end."""
    ended = []

    async def slow():
        try:
            await for_ever()
        finally:
            await asyncio.sleep(0.01)
            ended.append(1)

    crew = Crew(print)
    tasks = [crew.add(slow(), "slow") for _ in range(3)]
    await asyncio.sleep(0)
    await crew.aclose()
    assert ended == [1, 1, 1]
    assert all(task.cancelled() for task in tasks)
    await crew.aclose()


async def test_one_that_begins_another_while_it_ends_is_waited_for_as_well():
    """Nobody is left."""
    crew, born = Crew(print), []

    async def begets():
        try:
            await for_ever()
        finally:
            born.append(crew.add(for_ever(), "child"))

    born.append(crew.add(begets(), "parent"))
    await asyncio.sleep(0)
    await crew.aclose()
    assert [task.cancelled() for task in born] == [True, True]


async def test_a_failure_is_told_at_once_and_raised_at_the_end():
    """The others go on until then; the first failure is the one that counts."""
    told = []
    crew = Crew(lambda: told.append(1))

    async def fails(error):
        raise error

    other = crew.add(for_ever(), "other")
    await asyncio.wait([crew.add(fails(OSError("first")), "one")])
    await asyncio.wait([crew.add(fails(ValueError("second")), "two")])
    assert told == [1, 1]
    assert not other.done()
    with pytest.raises(OSError, match="first"):
        await crew.aclose()
    assert other.cancelled()


async def test_those_who_end_by_themselves_are_forgotten():
    """Thousands come and go."""
    crew = Crew(print)
    await crew.add(asyncio.sleep(0), "short")
    await asyncio.sleep(0)
    assert not crew._tasks
