"""The end of a manager: its order, its bound, and what happens to the rest."""

from __future__ import annotations

import asyncio
import time

import pytest

from realtalk_async import CriticalProcessFailed, Ladder, ProcessManager, events
from realtalk_async.events import Cause
from realtalk_async.supervision.coordination import background
from realtalk_async.supervision.coordination.shutdown import Shutdown
from realtalk_async.testing import programs

PATIENT = Ladder(("TERM", 60))


def listening(manager):
    """Return the list of all events from now on."""
    received = []
    manager.subscribe(received.append)
    return received


def order(received):
    """Return the first signals and the ends, in their order."""
    kinds = {"process.stop_step": "signal", "process.stopped": "end"}
    return [(kinds[e.kind], e.process) for e in received if e.kind in kinds]


async def until_ready(*processes):
    for one in processes:
        await one.wait_for_line("ready", timeout=30)


async def for_ever():
    await asyncio.Event().wait()


# ---- order


async def test_independent_children_end_at_the_same_time(logger):
    async with ProcessManager(logger) as manager:
        names = [f"c{number}" for number in range(8)]
        await until_ready(
            *[await manager.start(name, programs.cleans_up(0.5)) for name in names]
        )
        received, began = listening(manager), time.monotonic()
    assert time.monotonic() - began < 2, "the sum of all is 4 s"
    signals = [name for what, name in order(received) if what == "signal"]
    assert signals == names[::-1]


async def test_a_child_ends_after_all_that_depend_on_it(logger):
    async with ProcessManager(logger) as manager:
        needs = {"db": [], "cache": [], "api": ["db", "cache"], "web": ["api"]}
        needs["mic"] = []
        for name, some in needs.items():
            slow = programs.cleans_up(0.1)
            await until_ready(await manager.start(name, slow, depends_on=some))
        received = listening(manager)
    found = order(received)
    assert found[:2] == [("signal", "mic"), ("signal", "web")]
    for name, some in needs.items():
        for need in some:
            assert found.index(("end", name)) < found.index(("signal", need))


async def test_a_dependant_that_has_ended_keeps_the_order_of_those_behind_it(logger):
    async with ProcessManager(logger) as manager:
        await manager.start("a", programs.runs())
        await manager.start("b", programs.runs(), depends_on=["a"])
        await manager.start("c", programs.cleans_up(0.1), depends_on=["b"])
        await until_ready(manager.processes["c"])
        await manager.stop("b")
        received = listening(manager)
    assert order(received) == [
        ("signal", "c"),
        ("end", "c"),
        ("signal", "a"),
        ("end", "a"),
    ]


async def test_a_task_is_cancelled_after_the_first_signals_of_later_processes(logger):
    async with ProcessManager(logger) as manager:
        received = listening(manager)

        async def notes_its_end():
            try:
                await for_ever()
            finally:
                received.append("cancelled")

        await manager.start_task("link", notes_its_end)
        for name in ("player", "recorder"):
            await until_ready(await manager.start(name, programs.cleans_up(0.2)))
        received.clear()
    kinds = [getattr(event, "kind", event) for event in received]
    assert kinds[:3] == ["process.stop_step", "process.stop_step", "cancelled"]


async def test_a_critical_loss_ends_the_others_at_the_same_time(logger):
    began = 0.0
    with pytest.raises(CriticalProcessFailed):
        async with ProcessManager(logger) as manager:
            slow = [
                await manager.start(f"c{n}", programs.cleans_up(0.5)) for n in range(8)
            ]
            await until_ready(*slow)
            began = time.monotonic()
            await manager.start(
                "lost", programs.exits(1), critical=True, restart="temporary"
            )
            await for_ever()
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("how", ["exception", "cancellation"])
async def test_a_block_that_ends_otherwise_ends_all_at_the_same_time(logger, how):
    async def block():
        async with ProcessManager(logger) as manager:
            slow = [
                await manager.start(f"c{n}", programs.cleans_up(0.3)) for n in range(8)
            ]
            await until_ready(*slow)
            if how == "exception":
                raise KeyError(how)
            asyncio.get_running_loop().call_soon(task.cancel)
            await for_ever()

    began = time.monotonic()
    task = asyncio.ensure_future(block())
    with pytest.raises((KeyError, asyncio.CancelledError)):
        await task
    assert time.monotonic() - began < 2, "the sum of all is 2.4 s"


async def test_a_stop_of_many_children_leaves_turns_to_others():
    turns, stops, most = 0, 0, 0

    class Child:
        is_settled = True

        async def stop(self):
            nonlocal stops
            stops += 1
            until = time.perf_counter() + 0.0001
            while time.perf_counter() < until:
                pass

    children = {f"c{n}": Child() for n in range(2000)}
    task = asyncio.create_task(Shutdown(children, lambda _: (), lambda _: True).run())
    while not task.done():
        before = stops
        await asyncio.sleep(0)
        most, turns = max(most, stops - before), turns + 1
    assert stops == 2000
    assert most < 400, f"{most} of 2000 in one turn"


# ---- bound


async def test_what_is_left_at_the_timeout_is_killed_and_named(logger, survivors):
    async with ProcessManager(logger, shutdown_timeout=0.3) as manager:
        await manager.start("need", programs.ignores_sigterm(), ladder=PATIENT)
        await manager.start(
            "stubborn", programs.ignores_sigterm(), depends_on=["need"], ladder=PATIENT
        )
        await manager.start("quick", programs.runs())
        await until_ready(*manager.processes.values())
        received, began = listening(manager), time.monotonic()
        pids = [one.pid for one in manager.processes.values()]
    assert time.monotonic() - began < 3
    assert [survivors(pid) for pid in pids] == [[], [], []]
    [late] = [e for e in received if isinstance(e, events.ShutdownTimedOut)]
    assert late.seconds == 0.3
    assert [one.split("'")[1] for one in late.left] == ["need", "stubborn"]
    assert str(pids[0]) in late.left[0]
    [entry] = await logger.get_logs(pattern="did not end within 0.3 s")
    assert entry.level == "ERROR"
    assert len(entry.context["left"]) == 2
    assert manager.processes["stubborn"].get_status().cause == Cause.ESCALATED
    states = {name: str(one.state) for name, one in manager.get_statuses().items()}
    assert states == dict.fromkeys(states, "exited")


async def test_a_shutdown_in_time_reports_nothing(logger):
    async with ProcessManager(logger, shutdown_timeout=30) as manager:
        await until_ready(await manager.start("one", programs.runs()))
        received = listening(manager)
    assert not [e for e in received if isinstance(e, events.ShutdownTimedOut)]


async def test_a_timeout_of_zero_kills_at_once(logger):
    async with ProcessManager(logger, shutdown_timeout=0) as manager:
        one = await manager.start("one", programs.ignores_sigterm(), ladder=PATIENT)
        await until_ready(one)
        began = time.monotonic()
    assert time.monotonic() - began < 3
    assert one.get_status().exit_status == -9


@pytest.mark.parametrize("how", ["task", "background"])
async def test_work_that_ignores_its_cancellation_is_left_behind(
    logger, how, monkeypatch
):
    monkeypatch.setattr(background, "KILL_WAIT", 0.1)
    monkeypatch.setattr("realtalk_async.supervision.supervisor.KILL_WAIT", 0.1)
    go = asyncio.Event()

    async def ignores():
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    async with ProcessManager(logger, shutdown_timeout=0.2) as manager:
        received = listening(manager)
        if how == "task":
            await manager.start_task("deaf", ignores)
        else:
            manager.run_in_background(ignores())
            await asyncio.sleep(0)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    go.set()
    if how == "task":
        [late] = [e for e in received if isinstance(e, events.ShutdownTimedOut)]
        assert "'deaf'" in late.left[0]
    else:
        [failed] = [e for e in received if isinstance(e, events.CallbackFailed)]
        assert "ignored its cancellation" in failed.reason


async def test_a_child_that_cannot_be_killed_does_not_delay_the_end(
    logger, monkeypatch
):
    """Also if its ladder has further steps."""
    monkeypatch.setattr("realtalk_async.supervision.supervisor.KILL_WAIT", 0.2)
    async with ProcessManager(logger, shutdown_timeout=0.2) as manager:
        one = await manager.start("one", programs.ignores_sigterm(), ladder=PATIENT)
        await until_ready(one)
        running = one._lifecycle.record.running
        send = running.signal
        monkeypatch.setattr(running, "signal", lambda number: None)
        monkeypatch.setattr(running, "kill_now", lambda: None)
        began = time.monotonic()
        manager.subscribe(
            lambda event: (
                asyncio.get_running_loop().call_later(0.5, send, 9)
                if isinstance(event, events.ShutdownTimedOut)
                else None
            )
        )
    assert time.monotonic() - began < 2
