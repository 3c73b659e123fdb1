"""`leak_report`: resources that outlived their child."""

import asyncio
import os
import signal
import threading

from realtalk_async.supervision import Probe, ProcessManager
from realtalk_async.supervision.kernel.exit_waiter import THREAD_NAME
from realtalk_async.supervision.kernel.leaks import IncarnationResources, find_leaks
from realtalk_async.testing import programs


async def test_neither_running_nor_ended_children_are_leaks(logger):
    async with ProcessManager(logger) as manager:
        await manager.start("forks", programs.forks(3))
        await manager.start("pipes", programs.echoes())
        await (await manager.start("dead", programs.exits(0))).wait_until_settled()
        await manager.start_task("task", asyncio.Event().wait)
        assert not await manager.leak_report()
    report = await manager.leak_report()
    assert not report
    assert str(report) == "nothing is left"
    assert set(map(tuple, report.to_dict().values())) == {()}


async def test_a_daemon_in_another_session_is_found_by_its_tag(manager):
    """A manager without a guard has no tag."""
    one = await manager.start("one", programs.daemonizes())
    line = await one.wait_for_line("^[0-9]+")
    report = await manager.leak_report()
    [escapee] = report.escapees
    assert escapee.startswith(f"pid {line.text} (")
    assert str(report) == f"escapees: {escapee}"
    os.kill(int(line.text), signal.SIGKILL)


async def test_a_probe_that_ignores_its_cancellation_is_a_leaked_task_until_it_ends(
    manager, monkeypatch
):
    monkeypatch.setattr(
        "realtalk_async.supervision.probing.runner.CANCEL_TIMEOUT", 0.01
    )
    release, asked = asyncio.Event(), asyncio.Event()

    async def ignores_cancellation():
        asked.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    probe = Probe.call(ignores_cancellation, purpose="readiness")
    starting = asyncio.ensure_future(
        manager.start("one", programs.runs(), probes=[probe])
    )
    await asked.wait()
    await manager.stop("one")
    await starting
    assert (await manager.leak_report()).tasks == (
        "one: probe ignores_cancellation of one",
    )
    release.set()
    while await manager.leak_report():
        await asyncio.sleep(0.005)


async def test_group_members_and_descriptors_are_reported_with_their_incarnation(
    manager,
):
    """Another process may reuse the number of either."""
    one = await manager.start("one", programs.forks(1))
    await one.wait_for_line("ready")
    over = IncarnationResources("mic#2", one.pid, is_over=True, descriptors=(7,))
    report = find_leaks([over], "")
    assert len(report.children) == 2
    assert all(child.endswith(", of mic#2") for child in report.children)
    assert report.descriptors == ("mic#2: 7",)
    anew = IncarnationResources("other#1", one.pid, is_over=False, descriptors=(8,))
    assert find_leaks([over, anew], "").children == ()


async def test_a_thread_that_waits_for_children_is_a_leak_if_there_are_none():
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name=THREAD_NAME)
    thread.start()
    try:
        assert find_leaks([], "").threads == (THREAD_NAME,)
        assert not find_leaks([IncarnationResources("one#1", 12345, is_over=False)], "")
    finally:
        done.set()
        thread.join()
