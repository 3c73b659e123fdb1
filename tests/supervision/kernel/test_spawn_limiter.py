"""Sharing the loop: one spawn a turn."""

import asyncio
import gc
import weakref

import pytest

from realtalk_async.supervision.kernel import spawn_limiter
from realtalk_async.supervision.kernel.spawn_limiter import SpawnLimiter


class Turns:
    """Counts the turns of the loop."""

    def __init__(self):
        self.count = 0
        self._go_on = True
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self):
        self.count += 1
        if self._go_on:
            asyncio.get_running_loop().call_soon(self._turn)

    def stop(self):
        self._go_on = False


@pytest.fixture
async def turns():
    counter = Turns()
    yield counter
    counter.stop()


async def test_who_is_alone_does_not_wait(turns):
    """Not even for one turn."""
    before = turns.count
    await SpawnLimiter().wait_for_turn()
    assert turns.count == before


async def test_those_who_come_together_take_turns_in_order(turns):
    """No two in one turn of the loop."""
    one, spawned = SpawnLimiter(), []

    async def spawn(number):
        await one.wait_for_turn()
        spawned.append((number, turns.count))

    await asyncio.gather(*map(spawn, range(20)))
    assert [number for number, _ in spawned] == list(range(20))
    assert len({turn for _, turn in spawned}) == 20


@pytest.mark.parametrize("after", range(8))
async def test_a_turn_that_is_cancelled_is_the_next_ones(after):
    """Whether it had come or not: nobody waits for ever."""
    one, spawned = SpawnLimiter(), []

    async def spawn(number):
        await one.wait_for_turn()
        spawned.append(number)

    tasks = [asyncio.ensure_future(spawn(number)) for number in range(6)]
    for _ in range(after):
        await asyncio.sleep(0)
    for task in tasks[2:5]:
        task.cancel()
    async with asyncio.timeout(120):
        await asyncio.wait(tasks)
    assert {0, 1, 5} <= set(spawned)
    await one.wait_for_turn()


def test_each_loop_has_a_pace_of_its_own_and_takes_it_along():
    """Nothing is kept of a loop that is gone."""

    async def look():
        assert spawn_limiter.get_spawn_limiter() is spawn_limiter.get_spawn_limiter()
        return weakref.ref(spawn_limiter.get_spawn_limiter())

    first, second = asyncio.run(look()), asyncio.run(look())
    gc.collect()
    assert first() is None
    assert second() is None
