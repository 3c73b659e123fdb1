"""Calls of the app's restart functions: late results are ended."""

import asyncio
import threading

import pytest

from realtalk_async.supervision.kernel import process_groups
from realtalk_async.supervision.lifecycle.app_callbacks import (
    StartRefused,
    call_app_function,
)
from realtalk_async.testing import programs


async def wait_until_dead(process):
    """Wait until it is dead and its pipes are closed."""
    async with asyncio.timeout(120):
        await process.wait()


async def test_a_process_that_a_thread_returns_too_late_is_ended():
    """The call was cancelled; no lifecycle would supervise the process."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    called, go_on, made = threading.Event(), threading.Event(), []

    def slow():
        called.set()
        go_on.wait(120)
        making = asyncio.run_coroutine_threadsafe(programs.runs()(), loop)
        made.append(making.result(10))
        return made[0]

    asking = asyncio.ensure_future(
        call_app_function(slow, None, "function", stopped=stopped)
    )
    await asyncio.to_thread(called.wait, 10)
    stopped.set()
    with pytest.raises(StartRefused, match="stopped meanwhile"):
        await asking
    go_on.set()
    while not made:
        await asyncio.sleep(0.001)
    await wait_until_dead(made[0])


async def test_a_process_of_a_function_that_ignores_its_cancellation_is_ended():
    """With its whole group."""
    stopped, go_on, made = asyncio.Event(), asyncio.Event(), []

    async def stuck():
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            await go_on.wait()
        made.append(await programs.forks(2)())
        await made[0].stdout.readline()
        return made[0]

    asking = asyncio.ensure_future(
        call_app_function(stuck, None, "function", stopped=stopped)
    )
    await asyncio.sleep(0)
    stopped.set()
    with pytest.raises(StartRefused, match="stopped meanwhile"):
        await asking
    go_on.set()
    while not made:
        await asyncio.sleep(0.001)
    await wait_until_dead(made[0])
    while process_groups.living_members(made[0].pid):
        await asyncio.sleep(0.001)


async def test_a_process_that_is_returned_in_time_lives():
    def quick():
        return programs.runs()

    command = await call_app_function(quick, None, "function", stopped=asyncio.Event())
    process = await call_app_function(
        command, None, "function", stopped=asyncio.Event()
    )
    assert process == command == programs.runs()
