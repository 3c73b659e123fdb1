"""
Cancellation at every step of the loop: each operation is repeated and cancelled one
turn later each time, until it ends before its cancellation. Nothing may be left behind.
"""

import asyncio
import contextlib

import pytest

from realtalk_async.events import ProcessStarted
from realtalk_async.exceptions import NotStarted
from realtalk_async.supervision import (
    Ladder,
    ManagedProcess,
    Probe,
    ProcessManager,
    RestartPolicy,
)
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.testing import programs

MOST = 400
"""Turns of the loop in which every operation here must have come to its end."""

SWIFT = Ladder((15, 5.0), (9, 5.0))


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def sweep(operation, check, *, times=1):
    """
    Run *operation* and cancel it after 1, 2, 3… turns, *times* in a row; *check* after
    each. Turns in which the operation waits for the kernel are not counted, so that a
    step of the sweep is a step of the operation.
    """
    cancelled = 0
    for count in range(1, MOST):
        task = asyncio.ensure_future(operation())
        for _ in range(count):
            await asyncio.sleep(0 if count < 50 else 0.001)
            if task.done():
                break
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([task])
        cancelled += task.cancelled()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            raise error
        await check()
        if not task.cancelled():
            break
    else:
        raise AssertionError(f"not done within {MOST} turns")
    assert cancelled >= 2, "it has been cancelled on its way"


async def group_ended(pid):
    """Wait until the kernel has removed a killed group."""
    async with asyncio.timeout(120):
        while process_groups.living_members(pid):
            await asyncio.sleep(0.001)


def other_tasks():
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.mark.parametrize("times", [1, 2])
async def test_a_manager_that_is_cancelled_at_any_step_leaves_nothing(logger, times):
    """Entering, starting, waiting for readiness, leaving."""
    pids = []
    before = other_tasks()

    async def operation():
        async with ProcessManager(logger, check_interval=0.01) as manager:
            manager.subscribe(
                lambda e: pids.append(e.pid) if isinstance(e, ProcessStarted) else None
            )
            probe = Probe.line("ready")
            await manager.start("one", programs.runs(), probes=[probe], ladder=SWIFT)
            await manager.start("two", programs.exits(0), depends_on=["one"])

    async def check():
        assert other_tasks() == before
        assert not any(map(process_groups.living_members, pids))
        pids.clear()

    await sweep(operation, check, times=times)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_process_whose_start_was_cancelled_can_be_stopped(logger, times):
    processes = []

    async def operation():
        one = ManagedProcess(
            programs.runs(), "one", logger, probes=[Probe.line("ready")], ladder=SWIFT
        )
        processes.append(one)
        await one.start()

    async def check():
        if processes:
            one = processes.pop()
            await one.stop()
            assert one.is_settled
            assert one.pid is None or not process_groups.living_members(one.pid)

    await sweep(operation, check, times=times)


async def test_a_cancelled_stop_continues(logger):
    """Only the waiting ends."""
    one = ManagedProcess(programs.runs(), "one", logger, ladder=SWIFT)

    async def operation():
        await one.stop()

    async def check():
        async with asyncio.timeout(120):
            await one._lifecycle.until(lambda: one.is_settled)
        assert not process_groups.living_members(one.pid)
        await one.start()

    await one.start()
    await sweep(operation, check)
    await one.stop()


async def test_a_cancelled_restart_continues(logger):
    """There is never more than one incarnation."""
    one = ManagedProcess(programs.exits(0), "one", logger, ladder=SWIFT)

    async def operation():
        await one.restart(programs.runs)

    async def check():
        number = one.incarnation
        await one.stop()
        assert one.incarnation == number
        living = [record.pid for record in one.get_history().incarnations]
        assert not any(process_groups.living_members(pid) for pid in living if pid)

    await one.start()
    await one._lifecycle.until(lambda: one.is_settled)
    await sweep(operation, check)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_lifecycle_task_that_is_cancelled_at_any_step_kills_its_process(
    logger, times
):
    """As when the loop shuts down."""
    owned = []
    policy = RestartPolicy(first_delay=0.0, max_failures=2)

    async def operation():
        one = ManagedProcess(
            programs.shell("(sleep 1000) & sleep 0.01; exit 1"),
            "one",
            logger,
            restart=policy,
            drain=0.0,
        )
        owned.append(one)
        one._lifecycle.begin()
        task = one._lifecycle._task
        assert task is not None
        try:
            await task  # a cancellation here cancels the task
        finally:
            await asyncio.wait([task])

    async def check():
        one = owned.pop()
        assert one.is_settled
        for record in one.get_history().incarnations:
            await group_ended(record.pid)
            assert record.capture != "open"

    await sweep(operation, check, times=times)


@pytest.mark.parametrize("what", ["wait", "follow", "wait_for_line", "receive", "send"])
async def test_a_cancelled_wait_does_not_affect_the_process(logger, what):
    script = "for n in 1 2 3 4 5 6 7 8 9; do echo $n; sleep 0.01; done; echo end; cat"
    binary = "binary" if what == "receive" else "lines"
    command = programs.shell(script, stdin=True, stdout=binary)
    one = ManagedProcess(command, "one", logger)
    await one.start()

    async def operation():
        if what == "wait":
            async with asyncio.timeout(0.1):
                await one.wait()
        elif what == "follow":
            async for line in one.follow(history=True):
                if line.text == "end":
                    return
        elif what == "wait_for_line":
            await one.wait_for_line("end")
        elif what == "send":
            await one.send(b"x" * 100)
        else:
            received = b""
            while b"\n9" not in received:
                received += await one.receive()

    async def check():
        assert one.status == "running"

    if what in {"follow", "wait_for_line", "receive"}:
        for count in (0, 1, 2, 3, 5, 8):
            task = asyncio.ensure_future(operation())
            await turns(count)
            task.cancel()
            await asyncio.wait([task])
            await check()
    else:
        for count in range(4):
            task = asyncio.ensure_future(operation())
            await turns(count)
            task.cancel()
            await asyncio.wait([task])
            await check()
    await one.stop()


async def test_a_shutdown_that_is_cancelled_at_any_step_is_completed(logger):
    """The cancellation is raised afterwards."""
    managers = []

    async def operation():
        manager = ProcessManager(logger)
        managers.append(manager)
        await asyncio.shield(asyncio.ensure_future(begin(manager)))
        await manager.aclose()

    async def begin(manager):
        await manager.__aenter__()
        with contextlib.suppress(NotStarted):  # it may be closed already
            await manager.start("one", programs.runs(), ladder=SWIFT)

    async def check():
        manager = managers.pop()
        if manager._main_task is None or not manager._main_task.done():
            await manager.aclose()
        assert manager.status == "closed"
        assert not any(
            process_groups.living_members(one.pid) for one in manager.processes.values()
        )

    await sweep(operation, check)
