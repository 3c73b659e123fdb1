"""`SpawnLimiter`: one spawn in each turn of the event loop."""

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


async def test_a_single_spawn_does_not_wait(turns):
    before = turns.count
    await SpawnLimiter().wait_for_turn()
    assert turns.count == before


async def test_simultaneous_spawns_happen_in_order_one_each_turn(turns):
    one, spawned = SpawnLimiter(), []

    async def spawn(number):
        await one.wait_for_turn()
        spawned.append((number, turns.count))

    await asyncio.gather(*map(spawn, range(20)))
    assert [number for number, _ in spawned] == list(range(20))
    assert len({turn for _, turn in spawned}) == 20


@pytest.mark.parametrize("after", range(8))
async def test_a_cancelled_spawn_passes_its_turn_to_the_next(after):
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


def test_each_loop_has_its_own_limiter_and_frees_it_at_its_end():
    async def look():
        assert spawn_limiter.get_spawn_limiter() is spawn_limiter.get_spawn_limiter()
        return weakref.ref(spawn_limiter.get_spawn_limiter())

    first, second = asyncio.run(look()), asyncio.run(look())
    gc.collect()
    assert first() is None
    assert second() is None
