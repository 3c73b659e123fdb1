"""Sharing the loop: one spawn a turn, and deaths within a budget."""

import asyncio
import gc
import os
import signal
import time
import weakref
from functools import partial
from itertools import pairwise

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


async def test_deeds_that_take_long_are_spread_over_turns_in_order(turns):
    """As many as there is time for in each, and one at least."""
    one, done = Pace(), []

    def deed(number, seconds):
        time.sleep(seconds)
        done.append((number, turns.count))

    shares = (2, 2, 0, 0, 2, 0)
    for number, share in enumerate(shares):
        one.take_turn(partial(deed, number, share * pace.BUDGET))
    assert [number for number, _ in done] == [0]
    while len(done) < len(shares):
        await asyncio.sleep(0)
    assert [number for number, _ in done] == list(range(len(shares)))
    for (number, turn), (_, following) in pairwise(done):
        assert turn < following or shares[number] == 0


async def test_a_deed_that_fails_keeps_nobody_waiting():
    """It is its own trouble."""
    one, done, troubles = Pace(), [], []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: troubles.append(context["exception"]))
    one.take_turn(lambda: time.sleep(2 * pace.BUDGET))
    one.take_turn(lambda: 1 / 0)
    one.take_turn(lambda: done.append(True))
    while not done:
        await asyncio.sleep(0)
    assert [type(one) for one in troubles] == [ZeroDivisionError]


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
