"""Sharing the loop: one spawn a turn, and deaths within a budget."""

import asyncio
import gc
import os
import signal
import time
import weakref

import pytest

from realtalk_async.supervision import TEMPORARY, ManagedProcess, pace
from realtalk_async.supervision.pace import Pace
from realtalk_async.testing import programs

pytestmark = pytest.mark.timeout(20)


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
    await Pace().wait_for_turn()
    assert turns.count == before


async def test_those_who_come_together_take_turns_in_order(turns):
    """No two in one turn of the loop."""
    one, spawned = Pace(), []

    async def spawn(number):
        await one.wait_for_turn()
        spawned.append((number, turns.count))

    await asyncio.gather(*map(spawn, range(20)))
    assert [number for number, _ in spawned] == list(range(20))
    assert len({turn for _, turn in spawned}) == 20


@pytest.mark.parametrize("after", range(8))
async def test_a_turn_that_is_cancelled_is_the_next_ones(after):
    """Whether it had come or not: nobody waits for ever."""
    one, spawned = Pace(), []

    async def spawn(number):
        await one.wait_for_turn()
        spawned.append(number)

    tasks = [asyncio.ensure_future(spawn(number)) for number in range(6)]
    for _ in range(after):
        await asyncio.sleep(0)
    for task in tasks[2:5]:
        task.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait(tasks)
    assert {0, 1, 5} <= set(spawned)
    await one.wait_for_turn()


async def test_time_runs_out_within_a_turn_and_is_back_in_the_next():
    """What remains has to wait until then."""
    one = Pace()
    assert one.has_time()
    assert one.has_time()
    time.sleep(2 * pace.BUDGET)  # as if by many deaths
    assert not one.has_time()
    await asyncio.sleep(0)
    assert one.has_time()


def test_each_loop_has_a_pace_of_its_own_and_takes_it_along():
    """Nothing is kept of a loop that is gone."""

    async def look():
        assert pace.pace() is pace.pace()
        return weakref.ref(pace.pace())

    first, second = asyncio.run(look()), asyncio.run(look())
    gc.collect()
    assert first() is None
    assert second() is None


async def test_deaths_that_must_wait_for_the_next_turn_are_all_seen(
    logger, monkeypatch
):
    """Without any time only one a turn is; none is forgotten."""
    monkeypatch.setattr(pace, "BUDGET", 0.0)
    processes = [
        ManagedProcess(programs.runs(), f"{n}", logger, restart=TEMPORARY)
        for n in range(5)
    ]
    for one in processes:
        await one.start()
    for one in processes:
        os.kill(one.pid, signal.SIGKILL)
    for one in processes:
        await one.wait()
    assert [one.exit_status for one in processes] == [-9] * 5
