"""Rows 17 and 18 of the scenarios: a thousand runs leave nothing behind and lose nothing."""

import asyncio
import gc
import os

from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision import TEMPORARY, Command, ManagedProcess
from realtalk_async.testing import leaks


async def run_many(times, job, at_once=20):
    """Run something so many times, some at once, because most of it is waiting."""
    left = iter(range(times))

    async def worker():
        for _ in left:
            await job()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())


def what_there_is(logger):
    """Return the number of descriptors without the log's, of tasks, threads, and objects."""
    gc.collect()
    log = os.stat(logger.path)
    descriptors = sum(
        not os.path.samestat(os.fstat(number), log) for number in SYSTEM.descriptors()
    )
    threads = len(leaks.take_inventory().threads)
    return (descriptors, len(asyncio.all_tasks()), threads), len(gc.get_objects())


async def test_a_thousand_starts_and_stops_leave_nothing(logger):
    async def cycle():
        one = ManagedProcess(Command("sleep", "1000"), "one", logger)
        await one.start()
        await one.stop()

    await run_many(60, cycle)
    before, objects = what_there_is(logger)
    await run_many(1000, cycle)
    after, more = what_there_is(logger)
    assert after == before
    assert more - objects < 2000


async def test_a_thousand_bursts_before_an_exit_are_captured_whole(logger):
    numbers = [str(n) for n in range(1000)]
    whole = []

    async def burst():
        one = ManagedProcess(
            Command("seq", "0", "999"), "one", logger, restart=TEMPORARY
        )
        await one.start()
        await one.wait()
        assert list(one.get_stdout().texts()) == numbers
        whole.append(one)
        await one.wait_until_settled()

    await run_many(1000, burst)
    assert len(whole) == 1000
    assert [line.text for line in whole[0].get_stdout()] == numbers
