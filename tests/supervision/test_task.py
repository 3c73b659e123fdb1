"""Coroutines that are supervised like processes."""

import asyncio

import pytest

from realtalk_async import events
from realtalk_async.exceptions import (
    CriticalProcessFailed,
    InvalidConfiguration,
    NotStarted,
    ProcessDead,
    ProcessStillRunning,
    UnknownProcess,
)
from realtalk_async.supervision import (
    PERMANENT,
    TEMPORARY,
    ProcessManager,
    RestartPolicy,
    task,
)
from realtalk_async.testing import programs

AT_ONCE = RestartPolicy(first_delay=0.0, max_failures=3)


async def for_ever():
    await asyncio.Event().wait()


async def settled(one):
    """Wait until it is not called again."""
    assert (await one.wait_until_settled()).status == "dead"


def kinds(received):
    return [event.kind for event in received]


@pytest.fixture
def received(manager):
    found = []
    manager.subscribe(found.append)
    return found


async def test_a_task_runs_until_it_is_stopped(manager):
    one = await manager.start_task("link", for_ever)
    assert (one.state, one.get_status().status, one.restarts) == (
        "running",
        "running",
        0,
    )
    assert manager.tasks["link"] is one
    assert "link" not in manager.processes
    status = await manager.stop("link")
    assert (status.status, status.state, status.cause) == (
        "dead",
        "exited",
        "stopped by us",
    )
    assert await one.stop() == status
    assert "link exited" in repr(one)


async def test_a_task_that_raises_is_called_again(manager, received):
    calls = []

    async def fails_twice():
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionError(f"lost {len(calls)}")
        await for_ever()

    one = await manager.start_task("link", fails_twice, restart=AT_ONCE)
    await one._lifecycle.until(lambda: one.restarts == 2)
    assert one.state == "running"
    failed = [event for event in received if isinstance(event, events.TaskFailed)]
    assert [event.reason for event in failed] == [
        "ConnectionError: lost 1",
        "ConnectionError: lost 2",
    ]
    assert "fails_twice" in failed[0].traceback
    [first, _] = await manager.logger.get_logs(level="ERROR", component="link")
    assert first.context["reason"] == "ConnectionError: lost 1"


async def test_a_task_that_always_fails_is_given_up_and_the_manager_is_degraded(
    manager, received
):
    async def fails():
        raise OSError("no")

    one = await manager.start_task("link", fails, restart=AT_ONCE)
    await settled(one)
    assert (one.state, one.restarts) == ("fatal", 3)
    assert isinstance(one.error, OSError)
    assert "failure score 4.0 exceeds 3" in manager.degraded["link"]
    assert manager.status == "degraded"
    assert kinds(received)[-2:] == ["process.given_up", "manager.degraded"]


@pytest.mark.parametrize(
    ("policy", "calls"), [(None, 1), (TEMPORARY, 1), (PERMANENT, 3)]
)
async def test_a_task_that_returns_has_succeeded(manager, policy, calls):
    """A permanent task is called again nevertheless."""
    called = []

    async def returns():
        called.append(1)
        if len(called) >= 3:
            await for_ever()

    options = {} if policy is None else {"restart": policy}
    if policy is PERMANENT:
        options = {"restart": RestartPolicy("permanent", first_delay=0.0)}
    one = await manager.start_task("job", returns, **options)
    while not (one.is_settled or len(called) == 3):
        await asyncio.sleep(0)
    assert len(called) == calls
    assert not manager.degraded


async def test_a_task_is_not_called_again_after_a_fatal_exception(manager):
    """Such as a refused key."""

    async def refused():
        raise PermissionError("bad key")

    one = await manager.start_task("link", refused, fatal=(PermissionError,))
    await settled(one)
    assert one.restarts == 0
    assert "which is listed as fatal" in one.get_status().reason


async def test_the_loss_of_a_critical_task_stops_all_others(logger):
    async def fails():
        raise OSError("no")

    with pytest.raises(CriticalProcessFailed, match="link"):
        async with ProcessManager(logger) as manager:
            one = await manager.start("one", programs.runs())
            await manager.start_task("link", fails, restart=TEMPORARY, critical=True)
            await for_ever()
    assert one.exit_status == -15


async def test_a_stop_ends_a_backoff(manager):
    async def fails():
        raise OSError

    slow = RestartPolicy(first_delay=1000.0, max_delay=1000.0, jitter=False)
    one = await manager.start_task("link", fails, restart=slow)
    await one._lifecycle.until(lambda: one.state == "backoff")
    status = await one.stop()
    assert status.state == "exited"
    assert "while waiting" in status.reason
    assert one.restarts == 0


async def test_an_exception_during_a_stop_is_recorded(manager):
    async def raises_at_the_end():
        try:
            await for_ever()
        finally:
            raise ValueError("while closing")

    one = await manager.start_task("link", raises_at_the_end)
    await one.stop()
    assert one.state == "exited"
    assert str(one.error) == "while closing"


async def test_a_task_that_ignores_its_cancellation_does_not_delay_the_shutdown(
    manager, monkeypatch
):
    monkeypatch.setattr(task, "CANCEL_TIMEOUT", 0.05)
    release = asyncio.Event()

    async def stuck():
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    one = await manager.start_task("stuck", stuck)
    status = await one.stop()
    release.set()
    await asyncio.sleep(0)
    assert "did not end within 0.05 s" in status.reason


async def test_each_stop_returns_even_if_a_start_follows_at_once(manager):
    one = await manager.start_task("link", for_ever)

    async def stop_and_start():
        await one.stop()
        return await one.start()

    async with asyncio.timeout(120):
        started, _ = await asyncio.gather(stop_and_start(), one.stop())
    assert (started.state, one.state, one.restarts) == ("running", "running", 1)


async def test_a_task_that_does_not_end_is_not_replaced(logger, monkeypatch):
    """Two incarnations would run otherwise, after a restart of the whole group."""
    monkeypatch.setattr(task, "CANCEL_TIMEOUT", 0.05)
    release, calls = asyncio.Event(), []

    async def stuck():
        calls.append(1)
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with ProcessManager(logger, strategy="one_for_all") as manager:
        await manager.start("server", programs.runs(), restart=AT_ONCE)
        one = await manager.start_task("stuck", stuck, restart=AT_ONCE)
        manager.processes["server"].send_signal(9)
        await settled(one)
        release.set()
        assert (one.state, len(calls)) == ("fatal", 1)
        assert "so no other incarnation is started" in manager.degraded["stuck"]


async def test_a_task_may_stop_itself(manager):
    async def stops_itself():
        await manager.stop("link")

    one = await manager.start_task("link", stops_itself)
    await settled(one)
    assert one.state == "exited"


async def test_a_task_waits_for_its_dependencies(manager):
    """And a process may depend on a task."""
    await manager.start("server", programs.runs())
    one = await manager.start_task("link", for_ever, depends_on=["server"])
    after = await manager.start("player", programs.runs(), depends_on=["link"])
    assert (one.state, after.state) == ("running", "running")
    await one.stop()
    with pytest.raises(ProcessDead, match="link"):
        await manager.start("other", programs.runs(), depends_on=["link"])


async def test_a_task_whose_dependency_is_dead_is_not_called(manager):
    group_ended = await manager.start("server", programs.exits(0), restart=TEMPORARY)
    await group_ended._lifecycle.until(lambda: group_ended.is_settled)
    called = []
    with pytest.raises(ProcessDead, match="'server' is dead"):
        await manager.start_task(
            "link", lambda: called.append(1), depends_on=["server"]
        )
    assert not called
    assert "server" in manager.degraded["link"]


async def test_a_task_that_waits_for_its_dependency_can_be_stopped(manager):
    slow = RestartPolicy(first_delay=1000.0, max_delay=1000.0, jitter=False)
    server = await manager.start("server", programs.exits(1), restart=slow)
    while server.state != "backoff":
        await asyncio.sleep(0.005)
    called = []
    starting = asyncio.ensure_future(
        manager.start_task("link", lambda: called.append(1), depends_on=["server"])
    )
    while "link" not in manager.tasks:
        await asyncio.sleep(0)
    await manager.stop("link")
    assert (await starting).state == "exited"
    assert not called


async def test_a_wrong_call_raises_an_error_of_this_package(manager, logger):
    with pytest.raises(InvalidConfiguration, match="async function"):
        await manager.start_task("x", 42)
    with pytest.raises(UnknownProcess):
        await manager.start_task("x", for_ever, depends_on=["unknown"])
    await manager.start_task("x", for_ever)
    with pytest.raises(ProcessStillRunning):
        await manager.start_task("x", for_ever)
    with pytest.raises(InvalidConfiguration, match="is a task"):
        await manager.restart_process("x")
    with pytest.raises(NotStarted):
        await ProcessManager(logger).start_task("x", for_ever)


async def test_the_health_checks_include_tasks(manager):
    one = await manager.start_task("link", for_ever)
    statuses = await manager.check_processes()
    assert statuses["link"].last_checked is not None
    assert (await manager.check_process("link")).uptime >= 0
    assert one.name == "link"


async def test_a_manager_that_is_cancelled_leaves_no_task(logger):
    """A loop that shuts down waits for no task."""
    ended = []

    async def notes_its_end():
        try:
            await for_ever()
        finally:
            ended.append(1)

    async def app():
        async with ProcessManager(logger) as manager:
            await manager.start_task("link", notes_its_end)
            manager._main_task.cancel()
            await for_ever()

    running = asyncio.ensure_future(app())
    while not ended:
        await asyncio.sleep(0.005)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_the_history_contains_the_exception_of_each_incarnation(manager):
    """The traceback is its stderr."""
    tries = []

    async def connect():
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionResetError("hung up")

    policy = RestartPolicy(first_delay=0.0)
    task = await manager.start_task("net", connect, restart=policy)
    await task._lifecycle.until(lambda: task.is_settled)
    [history] = manager.get_error_history("net").values()
    assert [record.cause for record in history.incarnations] == ["failed"] * 2 + [
        "finished"
    ]
    assert [attempt.after for attempt in history.attempts] == [1, 2]
    report = history.failures[0]
    assert report.last_lines[-1].text == "ConnectionResetError: hung up"
    assert report.command.startswith("async test_the_history")
    assert "hung up" in str(report)
    assert history.to_dict()["exit_statuses"] == [None] * 3
    assert "net" in manager.get_error_history()


async def test_the_events_of_a_task_that_raised_tell_what_happened(manager, received):
    """It was not refused a spawn: it failed, twice, and was called again."""
    calls = 0

    async def fails_twice():
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ValueError(calls)
        await asyncio.Event().wait()

    await manager.start_task("task", fails_twice, restart=AT_ONCE)
    async with asyncio.timeout(120):
        while calls < 3:
            await asyncio.sleep(0)
    await manager.stop("task")
    told = [kind for kind in kinds(received) if kind != "process.exited"]
    assert told == ["task.failed", "process.restart_scheduled"] * 2
