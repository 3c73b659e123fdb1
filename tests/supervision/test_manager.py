"""`ProcessManager` on real processes."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path

import pytest

from realtalk_async import events
from realtalk_async.exceptions import (
    CriticalProcessFailed,
    GaveUp,
    InvalidConfiguration,
    NotStarted,
    ProcessDead,
    ProcessStillRunning,
    SpawnFailed,
    UnknownProcess,
)
from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision import (
    TEMPORARY,
    Command,
    Ladder,
    Probe,
    ProcessManager,
    RestartPolicy,
)
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.supervision.reports.report import IncarnationReport
from realtalk_async.testing import programs
from realtalk_async.times import now_local

PIPE = asyncio.subprocess.PIPE
AT_ONCE = RestartPolicy(first_delay=0.0, max_failures=3)
NEVER_MIND = RestartPolicy("permanent", first_delay=0.0, max_failures=1e9)
SLOW = RestartPolicy(first_delay=1000.0, max_delay=1000.0, jitter=False)


@pytest.fixture
def received(manager):
    found = []
    manager.subscribe(found.append)
    return found


def listening(manager):
    found = []
    manager.subscribe(found.append)
    return found


def published(received, *kinds):
    """Return (kind, process) of the events of these kinds."""
    return [(one.kind, one.process) for one in received if one.kind in kinds]


async def settled(*processes):
    for one in processes:
        await one.wait_until_settled()


async def for_ever():
    await asyncio.Event().wait()


def records(pid):
    member = SYSTEM.processes.read(pid)
    return member is not None and member.alive


# ---- the block


async def test_the_end_of_the_block_signals_all_in_the_reverse_order_of_their_start(
    logger,
):
    async with ProcessManager(logger) as manager:
        received = listening(manager)
        for name in ("one", "two", "three"):
            await manager.start(name, programs.runs())
        assert manager.status == "running"
    stopped = published(received, "process.stop_step")
    assert [name for _, name in stopped] == ["three", "two", "one"]
    assert manager.status == "closed"
    assert {one.exit_status for one in manager.processes.values()} == {-15}
    await manager.aclose()


async def test_an_exception_of_the_block_is_raised_after_all_are_stopped(logger):
    with pytest.raises(ZeroDivisionError):
        async with ProcessManager(logger) as manager:
            one = await manager.start("one", programs.runs())
            raise ZeroDivisionError
    assert not records(one.pid)


async def test_a_manager_can_be_entered_only_once(logger):
    """Outside its block, only the queries work."""
    manager = ProcessManager(logger)
    assert manager.status == "new"
    with pytest.raises(NotStarted, match="not been entered"):
        await manager.start("one", programs.runs())
    async with manager:
        one = await manager.start("one", programs.prints("kept"))
        await one.wait()
    with pytest.raises(NotStarted, match="has been closed"):
        await manager.start("two", programs.runs())
    with pytest.raises(NotStarted):
        await one.start()
    assert await one.restart() is False
    with pytest.raises(RuntimeError, match="only once"):
        await manager.__aenter__()
    assert (
        manager.get_error_history("one")["one"].incarnations[0].stdout[0].text == "kept"
    )
    assert (await manager.check_process("one")).exit_status == 0


async def test_the_block_may_be_entered_in_one_task_and_left_in_another(logger):
    """As fixtures do."""
    loop = asyncio.get_running_loop()
    manager = ProcessManager(logger)
    await loop.create_task(manager.__aenter__())
    one = await loop.create_task(manager.start("one", programs.runs()))
    await loop.create_task(manager.__aexit__(None, None, None))
    assert not records(one.pid)


async def test_a_critical_loss_is_raised_in_the_task_that_leaves_the_block(logger):
    """Also if the task that entered it has ended."""
    loop = asyncio.get_running_loop()
    manager = ProcessManager(logger)
    await loop.create_task(manager.__aenter__())
    await manager.start("one", programs.exits(1), restart=TEMPORARY, critical=True)
    while manager.status != "failed":
        await asyncio.sleep(0)
    with pytest.raises(CriticalProcessFailed):
        await loop.create_task(manager.__aexit__(None, None, None))


async def test_two_cancellations_during_the_shutdown_leave_nothing(logger):
    """Native cancellations, which a shield of anyio does not see."""
    ladder = Ladder((signal.SIGTERM, 0.2), (signal.SIGKILL, 5.0))
    managers, started = [], []

    async def app():
        async with ProcessManager(logger) as manager:
            managers.append(manager)
            for name in ("one", "two"):
                started.append(
                    await manager.start(name, programs.ignores_sigterm(), ladder=ladder)
                )
                await started[-1].wait_for_line("ready")

    running = asyncio.ensure_future(app())
    while len(started) < 2 or started[1].state != "stopping":
        await asyncio.sleep(0.005)
    for _ in range(2):
        running.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not any(records(one.pid) for one in started)
    assert managers[0]._main_task.done()


async def test_a_cancellation_of_the_block_is_raised_after_all_are_stopped(logger):
    started = []

    async def app():
        async with ProcessManager(logger) as manager:
            started.append(await manager.start("one", programs.runs()))
            await for_ever()

    running = asyncio.ensure_future(app())
    while not started:
        await asyncio.sleep(0.005)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert running.cancelled()
    assert not records(started[0].pid)


async def test_a_loop_that_shuts_down_kills_all_children(log_path):
    """Every task is cancelled at once, so the manager cannot wait."""
    source = """
        import asyncio, sys
        from realtalk_async.logs import Logger
        from realtalk_async.supervision import ProcessManager
        from realtalk_async.testing import programs

        ready = asyncio.Event()

        async def app():
            async with ProcessManager(Logger(sys.argv[1])) as manager:
                print(manager._guard.tag)
                one = await manager.start("one", programs.ignores_sigterm())
                two = await manager.start("two", programs.daemonizes())
                await one.wait_for_line("ready")
                await two.wait_for_line("[0-9]")
                ready.set()
                await asyncio.Event().wait()

        async def main():
            global running
            running = asyncio.ensure_future(app())
            await ready.wait()

        asyncio.run(main())
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(source), str(log_path), stdout=PIPE
    )
    out, _ = await child.communicate()
    assert child.returncode == 0
    assert process_groups.find_tagged(out.decode().strip()) == []


@pytest.mark.parametrize("interval", [0, -1.0])
async def test_an_invalid_interval_is_refused(logger, interval):
    with pytest.raises(InvalidConfiguration, match="check_interval"):
        ProcessManager(logger, check_interval=interval)


# ---- registering and starting


async def test_an_existing_process_is_registered_and_captured(manager):
    process = await asyncio.create_subprocess_exec("echo", "hi", stdout=PIPE)
    one = manager.register_process(process, "one")
    assert manager.processes["one"] is one
    await one.wait()
    assert one.get_stdout()[0].text == "hi"


async def test_the_exit_of_an_existing_process_is_noticed_without_a_watch(
    manager, monkeypatch
):
    """Its pidfd may be one descriptor too many for epoll."""

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    process = await asyncio.create_subprocess_exec("sleep", "1000")
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "add_reader", refuse)
        one = manager.register_process(process, "one")
        await asyncio.sleep(0)
    assert (await one.stop()).exit_status == -signal.SIGTERM
    assert not manager.get_error_history()["one"].errors


async def test_the_name_of_a_dead_process_is_reused_with_a_warning_and_its_history(
    manager,
):
    first = await manager.start(
        "one", programs.prints("first", status=3), restart=TEMPORARY
    )
    await settled(first)
    process = await asyncio.create_subprocess_exec("echo", "second", stdout=PIPE)
    second = manager.register_process(process, "one")
    await second.wait()
    assert manager.processes["one"] is second is not first
    [entry] = await manager.logger.get_logs(pattern="reuses the name")
    assert entry.level == "WARNING"
    history = manager.get_error_history("one")["one"]
    outputs = [record.stdout[0].text for record in history.incarnations]
    assert outputs == ["first", "second"]
    assert [record.incarnation for record in history.incarnations] == [1, 2]
    assert (second.incarnation, second.restarts) == (2, 0)


async def test_the_name_of_a_running_process_is_refused(manager):
    one = await manager.start("one", programs.runs())
    process = await asyncio.create_subprocess_exec("true")
    with pytest.raises(ProcessStillRunning, match=f"pid {one.pid}"):
        manager.register_process(process, "one")
    with pytest.raises(ProcessStillRunning):
        await manager.start("one", programs.runs())
    assert manager.processes["one"] is one
    await process.wait()


async def test_an_existing_process_needs_a_function_to_be_restarted_by_policy(manager):
    process = await asyncio.create_subprocess_exec("false")
    with pytest.raises(InvalidConfiguration, match="restart_function"):
        manager.register_process(process, "one", restart=AT_ONCE)
    one = manager.register_process(
        process, "one", restart=AT_ONCE, restart_function=programs.runs
    )
    await one._lifecycle.until(lambda: one.restarts == 1 and one.state == "running")


async def test_start_returns_a_running_process_with_all_its_options(manager):
    ladder = Ladder((signal.SIGINT, 1.0))
    one = await manager.start(
        "one", programs.runs(), restart=AT_ONCE, ladder=ladder, max_size=100
    )
    assert (one.state, one.policy, one.ladder) == ("running", AT_ONCE, ladder)
    assert one.max_size == 100
    assert list(manager.processes) == ["one"]
    with pytest.raises(TypeError):
        manager.processes["two"] = one
    await manager.stop("one")
    assert one.exit_status == -2


async def test_a_process_is_started_when_its_dependencies_are_ready(manager, received):
    server = programs.shell("read line; echo ready; exec sleep 1000", stdin=True)
    starting = asyncio.ensure_future(
        manager.start("server", server, probes=[Probe.line("ready")])
    )
    while "server" not in manager.processes:
        await asyncio.sleep(0)
    client = asyncio.ensure_future(
        manager.start("client", programs.runs(), depends_on=["server"])
    )
    while not manager.processes["server"].pid:
        await asyncio.sleep(0)
    while manager.processes["client"].reason != "waiting for its dependencies":
        await asyncio.sleep(0)
    await manager.processes["server"].send(b"\n")
    await asyncio.gather(starting, client)
    order = published(received, "process.started", "process.ready")
    assert order == [
        ("process.started", "server"),
        ("process.ready", "server"),
        ("process.started", "client"),
    ]


async def test_a_process_whose_dependency_is_dead_is_not_started(manager):
    one = await manager.start("server", programs.exits(3), restart=TEMPORARY)
    await settled(one)
    with pytest.raises(ProcessDead, match=r"'server' is dead.*exit status 3"):
        await manager.start("client", programs.runs(), depends_on=["server"])
    assert manager.processes["client"].pid is None
    assert "server" in manager.degraded["client"]


async def test_a_cycle_of_dependencies_is_refused(manager):
    await manager.start("a", programs.runs())
    await manager.start("b", programs.runs(), depends_on=["a"])
    await manager.start("c", programs.runs(), depends_on=["b"])
    await manager.stop("a")
    with pytest.raises(InvalidConfiguration, match="'a' cannot depend on 'c'"):
        await manager.start("a", programs.runs(), depends_on=["c"])
    assert manager.processes["a"].status == "dead"
    with pytest.raises(UnknownProcess):
        await manager.start("d", programs.runs(), depends_on=["unknown"])
    with pytest.raises(InvalidConfiguration, match=r"Command\.shell\('sleep'\)"):
        await manager.start("d", "sleep")


async def test_a_refused_start_raises_and_leaves_nothing(manager):
    with pytest.raises(SpawnFailed, match="no-such-program"):
        await manager.start("one", Command("no-such-program"), restart=TEMPORARY)
    with pytest.raises(SpawnFailed, match="not on PATH"):
        await manager.start("many", Command("no-such-program"), restart=SLOW)
    assert manager.processes["many"].state == "fatal"
    with pytest.raises(SpawnFailed, match="no such file"):
        await manager.start("two", Command("/no/such/program"), restart=SLOW)
    two = manager.processes["two"]
    assert (two.state, two.incarnation, two.pid) == ("fatal", 1, None)
    with pytest.raises(GaveUp, match="exit status 1"):
        await manager.start(
            "three", programs.exits(1), restart=TEMPORARY, probes=[Probe.line("ready")]
        )


async def test_a_process_whose_start_was_cancelled_is_stopped_with_all_others(manager):
    starting = asyncio.ensure_future(
        manager.start("one", programs.runs(), probes=[Probe.line("never")])
    )
    while "one" not in manager.processes or not manager.processes["one"].pid:
        await asyncio.sleep(0.005)
    starting.cancel()
    await asyncio.wait([starting])
    assert manager.processes["one"].state == "starting"
    await manager.aclose()
    assert not records(manager.processes["one"].pid)


# ---- checking


async def test_one_process_or_all_can_be_checked(manager):
    await manager.start("one", programs.runs())
    two = await manager.start("two", programs.exits(0))
    await settled(two)
    statuses = await manager.check_processes()
    assert {name: one.status for name, one in statuses.items()} == {
        "one": "running",
        "two": "dead",
    }
    assert all(one.last_checked for one in statuses.values())
    assert (await manager.check_process("two")).exit_status == 0
    assert manager.get_statuses().keys() == statuses.keys()


async def test_an_unknown_name_is_a_warning_and_an_error_with_the_known_names(manager):
    await manager.start("mic", programs.runs())
    for ask in (manager.check_process, manager.stop, manager.restart_process):
        with pytest.raises(
            UnknownProcess, match="no process named 'mike'; known: 'mic'"
        ):
            await ask("mike")
    with pytest.raises(KeyError):
        manager.get_error_history("mike")
    entries = await manager.logger.get_logs(level="WARNING", component="manager")
    assert len(entries) == 4
    assert entries[0].context == {"known": ["mic"]}


# ---- history


async def test_the_history_contains_each_incarnation_of_each_process(manager):
    one = await manager.start("one", programs.prints("x", status=1), restart=AT_ONCE)
    two = await manager.start("two", programs.exits(0))
    await settled(one, two)
    history = manager.get_error_history()
    assert history["one"].exit_statuses == [1, 1, 1, 1]
    assert [record.stdout[0].text for record in history["one"].incarnations] == [
        "x"
    ] * 4
    assert [attempt.succeeded for attempt in history["one"].attempts] == [True] * 3
    assert list(history.filter(failed=True)) == ["one"]
    later = history.filter(since=now_local() + timedelta(hours=1))
    assert later["one"].incarnations == ()
    assert list(manager.get_error_history("two")) == ["two"]
    json.dumps(history.to_dict())


# ---- restarting


async def test_a_process_is_restarted_by_name(manager, received):
    one = await manager.start("one", programs.exits(1), restart=TEMPORARY)
    await settled(one)
    assert await manager.restart_process("one", programs.runs) is True
    assert one.incarnation == 2
    assert await manager.restart_process("one") is False
    assert ("process.restarted", "one") in published(received, "process.restarted")


async def test_a_recovery_function_receives_the_report(manager):
    """So the next incarnation can continue from the state of the last one."""

    async def resume(report):
        position = report.stdout[-1].text
        return programs.shell(f"echo resumed at {position}; exec sleep 1000")

    one = await manager.start(
        "one", programs.prints("42", status=1), restart=AT_ONCE, recover=resume
    )
    line = await _line_of_life(one, 2)
    assert line.text == "resumed at 42"


async def _line_of_life(one, number):
    await one._lifecycle.until(lambda: one.incarnation == number)
    return await one.wait_for_line("")


@pytest.mark.parametrize("kind", ["raises", "hangs", "returns nonsense"])
async def test_the_command_is_run_again_if_the_recovery_function_fails(
    manager, received, kind, monkeypatch
):
    monkeypatch.setattr(
        "realtalk_async.supervision.lifecycle.app_callbacks.CALLBACK_TIMEOUT", 0.05
    )

    async def recover():
        if kind == "raises":
            raise ZeroDivisionError
        if kind == "hangs":
            await for_ever()
        return 42

    one = await manager.start(
        "one", programs.exits(1), restart=RestartPolicy(max_failures=1), recover=recover
    )
    await settled(one)
    assert one.incarnation == 2
    assert [name for _, name in published(received, "callback.failed")] == ["one"]


# ---- health checks


async def test_all_are_checked_periodically(manager):
    one = await manager.start("one", programs.runs())
    seen = set()
    while len(seen) < 3:
        await asyncio.sleep(0.01)
        seen.add(one.last_checked)


@pytest.mark.parametrize("kind", ["hangs", "raises", "swallows its cancellation"])
async def test_a_probe_that_hangs_or_raises_affects_only_its_own_process(
    manager, received, kind
):
    """That process is restarted by its policy."""
    release = asyncio.Event()

    async def misbehaves():
        if kind == "raises":
            raise ZeroDivisionError("in the probe")
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                if kind == "hangs":
                    raise

    probe = Probe.call(misbehaves, period=0.02, timeout=0.05, failure_threshold=1)
    neighbour = await manager.start("neighbour", programs.runs())
    one = await manager.start("one", programs.runs(), restart=AT_ONCE, probes=[probe])
    if (
        kind == "swallows its cancellation"
    ):  # it never ends, but its process can be stopped
        await asyncio.sleep(0.1)
        await manager.stop("one")
        assert published(received, "callback.failed") == [("callback.failed", "one")]
    else:
        await one._lifecycle.until(lambda: one.restarts == 1)
        failed = next(
            event for event in received if event.kind == "process.probe_failed"
        )
        reason = "ZeroDivisionError" if kind == "raises" else "no answer within 0.05 s"
        assert reason in failed.reason
        assert one.get_history().incarnations[0].cause == "ended by us: unhealthy"
    assert (neighbour.status, neighbour.restarts) == ("running", 0)
    release.set()


# ---- degraded, critical


async def test_the_manager_is_degraded_until_a_process_that_was_given_up_runs_again(
    manager, received
):
    other = await manager.start("other", programs.runs())
    one = await manager.start("one", programs.exits(1), restart=AT_ONCE)
    await settled(one)
    assert one.state == "fatal"
    assert manager.status == "degraded"
    assert "failure score 4.0 exceeds 3" in manager.degraded["one"]
    assert other.status == "running"
    assert published(received, "manager.degraded") == [("manager.degraded", "one")]
    [entry] = await manager.logger.get_logs(pattern="Going on without one")
    assert entry.level == "WARNING"
    one.reset()
    assert await manager.restart_process("one", programs.runs)
    assert (manager.status, dict(manager.degraded)) == ("running", {})


async def test_a_critical_loss_stops_all_others_and_is_raised(logger):
    with pytest.raises(CriticalProcessFailed) as caught:
        async with ProcessManager(logger) as manager:
            received = listening(manager)
            for name in ("one", "two"):
                await manager.start(name, programs.runs())
            await manager.start(
                "three",
                programs.prints("my last word", status=7),
                restart=AT_ONCE,
                critical=True,
            )
            await manager.start("four", programs.runs())
            await for_ever()
    order = published(received, "manager.shutdown", "process.stop_step")
    assert order == [
        ("manager.shutdown", "three"),
        ("process.stop_step", "four"),
        ("process.stop_step", "two"),
        ("process.stop_step", "one"),
    ], "the first signals go out in the reverse order of the start"
    assert len(published(received, "process.stopped")) == 3
    assert caught.value.name == "three"
    assert str(caught.value).startswith(
        "my last word; gave up on 'three': exit status 7"
    )
    report = caught.value.report
    assert isinstance(report, IncarnationReport)
    assert report.last_lines[0].text == "my last word"
    assert manager.status == "failed"
    given_up = next(event for event in received if event.kind == "process.given_up")
    assert given_up.critical is True
    assert asyncio.current_task().cancelling() == 0, "only the block is cancelled"


async def test_an_exception_of_the_block_is_the_cause_of_a_critical_loss(logger):
    with pytest.raises(CriticalProcessFailed) as caught:
        async with ProcessManager(logger) as manager:
            one = await manager.start(
                "one", programs.exits(1), restart=TEMPORARY, critical=True
            )
            try:
                await for_ever()
            finally:
                await one.send(b"x")
    assert isinstance(caught.value.__cause__, ProcessDead)


async def test_a_critical_process_that_cannot_be_started_ends_the_block(logger):
    with pytest.raises(CriticalProcessFailed, match="no-such-program"):
        async with ProcessManager(logger) as manager:
            await manager.start(
                "one", Command("no-such-program"), restart=TEMPORARY, critical=True
            )


async def test_a_critical_loss_cancels_only_the_block(logger):
    """The cancellation does not reach the task that awaits the app."""

    async def app():
        async with ProcessManager(logger) as manager:
            await manager.start(
                "one", programs.exits(1), restart=TEMPORARY, critical=True
            )
            await for_ever()

    async with asyncio.timeout(120):
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(app())
        except* CriticalProcessFailed as failures:
            assert len(failures.exceptions) == 1
    await asyncio.sleep(0)


async def test_a_cancellation_by_the_app_during_a_critical_loss_is_raised(logger):
    managers = []

    async def app():
        async with ProcessManager(logger) as manager:
            managers.append(manager)
            await manager.start(
                "one", programs.exits(1), restart=TEMPORARY, critical=True
            )
            await for_ever()

    running = asyncio.ensure_future(app())
    while not managers or managers[0].status != "failed":
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_no_process_is_restarted_while_the_manager_closes(logger):
    ladder = Ladder((signal.SIGTERM, 0.3), (signal.SIGKILL, 5.0))
    async with ProcessManager(logger) as manager:
        one = await manager.start("one", programs.runs(), restart=NEVER_MIND)
        two = await manager.start("two", programs.ignores_sigterm(), ladder=ladder)
        await two.wait_for_line("ready")
        closing = asyncio.ensure_future(manager.aclose())
        await two._lifecycle.until(lambda: two.state == "stopping")
        os.kill(one.pid, signal.SIGKILL)
        await closing
    assert (one.incarnation, one.restarts) == (1, 0)


# ---- events


async def test_each_step_is_an_event_and_a_log_entry(manager, received):
    one = await manager.start("one", programs.exits(3), restart=AT_ONCE)
    await settled(one)
    round_of_one = [
        "process.exited",
        "process.restart_scheduled",
        "process.started",
        "process.restarted",
    ]
    assert [event.kind for event in received if event.process == "one"] == [
        "process.started",
        *round_of_one * 3,
        "process.exited",
        "process.given_up",
        "manager.degraded",
    ]
    entries = await manager.logger.get_logs(component="one")
    assert [entry.message for entry in entries][:4] == [
        "Process started",
        "Process died unexpectedly",
        "Restart scheduled",
        "Process started",
    ]
    assert "failure score 1.0 of 3" in entries[2].context["reason"]


async def test_a_subscriber_that_raises_is_logged_and_called_again(manager, received):
    called = []

    def bad(event):
        called.append(event)
        raise ZeroDivisionError

    unsubscribe = manager.subscribe(bad)
    one = await manager.start("one", programs.exits(0))
    await settled(one)
    assert (
        len(called) == len([event for event in received if event.process == "one"]) == 2
    )
    errors = await manager.logger.get_logs(level="ERROR", component="manager")
    assert "ZeroDivisionError" in errors[0].context["error"]
    unsubscribe()
    unsubscribe()
    await manager.restart_process("one", programs.runs)
    assert len(called) == 2


async def test_a_subscriber_may_stop_a_process_when_it_has_died(manager):
    stops = []

    def stop(event):
        if isinstance(event, events.ProcessExited):
            stops.append(asyncio.ensure_future(manager.stop(event.process)))

    manager.subscribe(stop)
    one = await manager.start("one", programs.exits(1), restart=SLOW)
    await settled(one)
    assert (await stops[0]).state == "exited"
    assert one.incarnation == 1


# ---- create_subprocess_exec and create_subprocess_shell


async def test_create_subprocess_exec_returns_a_supervised_process_of_asyncio(manager):
    process = await manager.create_subprocess_exec(
        "cat", name="copy", stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert isinstance(process, asyncio.subprocess.Process)
    assert manager.processes["copy"].process is process
    assert await process.communicate(b"hello") == (b"hello", b"")
    assert await process.wait() == process.returncode == 0
    assert manager.processes["copy"].get_stdout()[0].raw == b"hello"


async def test_a_shell_line_is_named_after_its_first_word(manager):
    """With a number if that name is in use."""
    one = await manager.create_subprocess_shell("sleep 1000 && :")
    two = await manager.create_subprocess_shell(b"/bin/sleep 1000 && :")
    assert list(manager.processes) == ["sleep", "sleep-2"]
    one.terminate()
    two.kill()
    assert (await one.wait(), await two.wait()) == (-15, -9)
    with pytest.raises(ProcessLookupError):
        one.send_signal(15)
    await settled(*manager.processes.values())
    await manager.create_subprocess_shell("sleep 1000")
    assert list(manager.processes) == ["sleep-2", "sleep"], "the name is free again"


@pytest.mark.parametrize(
    "options",
    [
        {"env": {"A": "1"}},
        {"cwd": "/tmp"},
        {"cwd": Path("/tmp")},
        {"limit": 4},
        {"stdin": subprocess.DEVNULL},
        {"start_new_session": True},
        {"process_group": 0},
        {"umask": 0o77, "close_fds": True, "restore_signals": True},
        {"universal_newlines": False, "shell": False, "bufsize": 0, "text": None},
    ],
    ids=str,
)
async def test_every_argument_of_asyncio_is_accepted(manager, options):
    program = (Path("/bin/sh"), "-c", b"echo ${A:-none}; pwd")
    mine = await manager.create_subprocess_exec(*program, stdout=PIPE, **options)
    theirs = await asyncio.create_subprocess_exec(*program, stdout=PIPE, **options)
    assert (await mine.communicate())[0] == (await theirs.communicate())[0]
    assert manager.processes["sh"].process is mine


async def test_file_objects_and_descriptors_are_accepted_as_streams(manager, tmp_path):
    """Their output is not captured."""
    (tmp_path / "in").write_text("from a file")
    with (tmp_path / "in").open() as source, (tmp_path / "out").open("w") as sink:
        process = await manager.create_subprocess_exec(
            "cat", stdin=source, stdout=sink.fileno(), stderr=subprocess.STDOUT
        )
        assert await process.communicate() == (None, None)
    assert (tmp_path / "out").read_text() == "from a file"
    assert list(manager.processes["cat"].get_stdout()) == []


@pytest.mark.parametrize("how", ["kill", "stop"])
@pytest.mark.parametrize(
    "streams",
    [
        {"stdout": subprocess.DEVNULL},
        {"stderr": subprocess.DEVNULL},
        {"stdin": subprocess.DEVNULL, "stdout": PIPE, "stderr": subprocess.STDOUT},
        {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT},
    ],
    ids=str,
)
async def test_a_child_without_all_pipes_ends_and_restarts(manager, streams, how):
    """Regression: a KeyError ended the manager and all other children."""
    received = []
    manager.subscribe(received.append)
    other = await manager.start("other", programs.runs())
    await manager.create_subprocess_exec("sleep", "1000", **streams)
    one = manager.processes["sleep"]
    await getattr(one, how)()
    assert await one.restart()
    await getattr(one, how)()
    states = one.state, other.state, manager.status
    assert states == ("exited", "running", "running")
    assert not [e for e in received if isinstance(e, events.InternalError)]


async def test_output_without_a_pipe_is_captured(manager):
    """It would go to the app's own terminal otherwise."""
    process = await manager.create_subprocess_shell("echo out; echo err >&2", name="x")
    assert process.stdout is None
    await manager.processes["x"].wait()
    assert manager.processes["x"].get_stderr()[0].text == "err"


@pytest.mark.parametrize(
    ("program", "options", "error"),
    [
        ("no-such-program", {}, FileNotFoundError),
        ("true", {"cwd": "/no/such/dir"}, FileNotFoundError),
        ("/etc/passwd", {}, PermissionError),
        ("true", {"text": True}, ValueError),
        ("true", {"preexec_fn": print}, ValueError),
    ],
)
async def test_the_errors_have_the_types_of_asyncio(manager, program, options, error):
    with pytest.raises(error):
        await manager.create_subprocess_exec(program, **options)


async def test_a_slow_reader_loses_nothing_and_does_not_block_the_child(manager):
    command = programs.bursts(200_000)
    process = await manager.create_subprocess_exec(*command.argv, name="x", stdout=PIPE)
    await manager.processes["x"].wait()
    lines = 0
    while line := await process.stdout.readline():
        assert line == b"%d\n" % lines
        lines += 1
    assert lines == 200_000


async def test_a_stream_writer_of_asyncio_reaches_the_child(manager):
    process = await manager.create_subprocess_exec("wc", "-c", stdin=PIPE, stdout=PIPE)
    for _ in range(20):
        process.stdin.write(b"x" * 100_000)
        await process.stdin.drain()
    process.stdin.close()
    await process.stdin.wait_closed()
    assert int(await process.stdout.read()) == 2_000_000


async def test_a_program_that_exits_at_once_still_has_its_streams(manager):
    for _ in range(20):
        process = await manager.create_subprocess_exec(
            "true", stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        assert await process.communicate(b"x" * 100_000) == (b"", b"")
        assert process.returncode == 0


async def test_a_reader_gets_end_of_file_when_the_manager_closes(logger):
    async with ProcessManager(logger) as manager:
        process = await manager.create_subprocess_exec(
            *programs.runs().argv, name="x", stdout=PIPE
        )
        reading = asyncio.ensure_future(process.stdout.read())
    assert await reading in {b"ready\n", b""}


async def test_processes_that_are_started_together_have_different_names(manager):
    processes = await asyncio.gather(
        *(manager.create_subprocess_exec("sleep", "1000") for _ in range(10))
    )
    assert len({process.pid for process in processes}) == 10
    assert len(manager.processes) == 10


async def test_a_restart_by_policy_makes_a_new_process_of_asyncio(manager):
    process = await manager.create_subprocess_exec("false", restart=NEVER_MIND)
    one = manager.processes["false"]
    await one._lifecycle.until(lambda: one.restarts == 2)
    assert one.process is not process
    assert process.returncode == 1


# ---- daemons, later starts, kill


async def test_a_daemon_that_left_its_session_is_ended_and_logged(logger):
    async with ProcessManager(logger) as manager:
        one = await manager.start("one", programs.daemonizes())
        pid = int((await one.wait_for_line("[0-9]+")).text)
        assert records(pid)
    assert not records(pid)
    [entry] = await logger.get_logs(pattern="had left their session")
    assert str(pid) in entry.context["escapees"][0]


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all"])
async def test_the_order_holds_after_a_dependency_was_registered_again(
    logger, strategy
):
    async with ProcessManager(logger, strategy=strategy) as manager:
        for name, needs in (("need", ()), ("user", ("need",)), ("other", ())):
            await manager.start(
                name, programs.runs(), depends_on=needs, restart=AT_ONCE
            )
        await manager.stop("need")
        await manager.start("need", programs.runs(), restart=AT_ONCE)
        os.kill(manager.processes["user"].pid, signal.SIGKILL)
        async with asyncio.timeout(120):
            user = manager.processes["user"]
            await user._lifecycle.until(lambda: user.restarts == 1)
            for one in manager.processes.values():
                await one.wait_until_running()
        received = listening(manager)
    stopped = published(received, "process.stop_step")
    assert [name for _, name in stopped] == ["other", "user", "need"]


async def test_kill_ends_the_whole_group_at_once_and_no_restart_follows(
    manager, received
):
    one = await manager.start("one", programs.forks(2), restart=NEVER_MIND)
    await one.wait_for_line("ready")
    status = await one.kill()
    assert (status.state, status.exit_status) == ("exited", -9)
    assert status.cause == "stopped by us"
    steps = [event for event in received if isinstance(event, events.StopStep)]
    assert [(step.step, step.members) for step in steps] == [("SIGKILL", 3)]
    assert process_groups.living_members(one.pid) == []
    assert (await one.kill()).state == "exited"
    assert await one.restart(), "and it can be brought back"


async def test_the_forecast_of_the_next_start_is_exact_when_it_is_scheduled(manager):
    """A subscriber sees it with 0.00 s elapsed."""
    next_starts = []
    manager.subscribe(
        lambda event: (
            next_starts.append(manager.explain("one").next[0])
            if isinstance(event, events.RestartScheduled)
            else None
        )
    )
    slow = RestartPolicy(first_delay=500, max_delay=500, jitter=False)
    for _ in range(2):
        one = await manager.start("one", programs.exits(1), restart=slow)
        await one._lifecycle.until(lambda one=one: one.state == "backoff")
        await one.stop()
    assert [line[:15] for line in next_starts] == ["starts again in"] * 2


async def test_a_backoff_that_ends_during_the_shutdown_starts_nothing(logger):
    brief = RestartPolicy(first_delay=0.1, max_delay=0.1, jitter=False)
    calls = []

    async def fails():
        calls.append(1)
        raise ZeroDivisionError

    async with ProcessManager(logger) as manager:
        slow = programs.cleans_up(0.4)
        one = await manager.start("one", programs.exits(1), restart=brief)
        task = await manager.start_task("task", fails, restart=brief)
        late = await manager.start("late", slow)
        await late.wait_for_line("ready")
        await one._lifecycle.until(lambda: one.state == "backoff")
        await task._lifecycle.until(lambda: task.state == "backoff")
        records = one.incarnation, len(calls)
    assert (one.incarnation, len(calls)) == records
    assert (one.state, task.state) == ("exited", "exited")


async def test_wait_until_settled_includes_later_starts_and_restarts(manager):
    async def starts_another():
        await manager.start("other", programs.exits(0))

    await manager.start("one", programs.exits(3), restart=AT_ONCE)
    await manager.start_task("task", starts_another)
    statuses = await manager.wait_until_settled()
    assert {name: str(one.state) for name, one in statuses.items()} == {
        "one": "fatal",
        "task": "exited",
        "other": "exited",
    }


async def test_a_reset_restores_the_full_number_of_failures(manager):
    """A process that was given up stays dead until it is restarted."""
    twice = RestartPolicy(first_delay=0.0, max_failures=2, decay=1e9)
    one = await manager.start("one", programs.exits(1), restart=twice)
    assert (await one.wait_until_settled()).incarnation == 3
    one.reset()
    assert one.state == "fatal"
    await one.start()
    assert (await one.wait_until_settled()).incarnation == 6
    await one.restart()
    assert (await one.wait_until_settled()).incarnation == 9, "it resets the score too"

    async def fails():
        raise ZeroDivisionError

    task = await manager.start_task("task", fails, restart=twice)
    assert (await task.wait_until_settled()).incarnation == 3
    task.reset()
    await task.start()
    assert (await task.wait_until_settled()).incarnation == 6
