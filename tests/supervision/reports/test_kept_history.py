"""The newest part of the past is kept whole; what is older is counted."""

import asyncio
import gc
from datetime import UTC, datetime, timedelta

import pytest

from realtalk_async.events import Cause
from realtalk_async.exceptions import InvalidConfiguration, NotStarted, UnknownProcess
from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision import (
    TEMPORARY,
    Command,
    History,
    ManagedProcess,
    ProcessManager,
    RestartPolicy,
)
from realtalk_async.supervision.lifecycle.record import IncarnationRecord
from realtalk_async.supervision.process import MAX_REFUSALS
from realtalk_async.supervision.reports.kept_history import (
    MOST_CHANGES,
    NONE_EARLIER,
    Earlier,
    count_excess,
)

ALWAYS = RestartPolicy("permanent", first_delay=0.0, max_failures=1e9)
NOW = datetime(2026, 11, 1, tzinfo=UTC)


async def read(logger, text):
    """Return the messages of the log that contain *text*."""
    return [one.message for one in await logger.get_logs(pattern=text)]


async def run_dead(manager, *names, **options):
    """Run commands to their ends, one after the other."""
    for name in names:
        await manager.start(name, Command("true"), restart=TEMPORARY, **options)
        await manager.processes[name].wait_until_settled()


async def restarted_until(manager, number, script):
    """Run a script that fails, until so many incarnations have begun; then stop it."""
    process = await manager.start("c", Command("sh", "-c", script), restart=ALWAYS)
    async with asyncio.timeout(120):
        while process.incarnation < number:
            await process.wait()
            await asyncio.sleep(0)
    await manager.stop("c")
    return process


# ---- incarnations of one name


@pytest.mark.parametrize(
    ("history", "sizes", "excess"),
    [
        (History(), [9] * 100, 0),
        (History(), [9] * 102, 2),
        (History(output=10), [4, 4, 4, 0], 1),
        (History(output=10), [4, 4, 2, 0], 0),
        (History(output=10), [100, 100, 0], 1),  # that which ended last is kept
        (History(output=1), [100, 0], 0),
        (History(incarnations=2, output=10), [4, 4, 4, 0], 2),
        (History(None, None, None), [9] * 5000, 0),
    ],
)
def test_the_oldest_incarnations_beyond_a_limit_are_not_kept(history, sizes, excess):
    assert count_excess(history, len(sizes), sizes.__getitem__) == excess


async def test_output_beyond_the_limit_is_forgotten(logger):
    """The incarnations that wrote it are counted."""
    limit = History(output=100_000)
    async with ProcessManager(logger, history=limit) as manager:
        script = "yes | head -c 30000; yes | head -c 10000 >&2; exit 3"
        process = await restarted_until(manager, 12, script)
    kept = len(manager.get_error_history()["c"].incarnations)
    assert 2 <= kept <= 4
    buffers = process._capture.buffers.values()
    assert sum(one.size - one.kept_from for one in buffers) <= 100_000 + 40_000
    said = await read(logger, "100000 bytes of output")
    assert len(said) == 1
    assert "the newest 100 incarnations and 100000 bytes of output" in said[0]


async def test_restarts_beyond_the_limit_are_counted(logger):
    """Their output becomes one gap line with the number of its bytes."""
    async with ProcessManager(logger, history=History(incarnations=5)) as manager:
        script = 'echo "life $$"; echo err >&2; exit 3'
        process = await restarted_until(manager, 12, script)
    history = manager.get_error_history()["c"]
    assert len(history.incarnations) == 5
    assert history.incarnations[0].incarnation == process.incarnation - 4
    count = process.incarnation - 5
    assert (history.earlier.count, history.earlier.failed) == (count, count)
    assert history.earlier.causes == {"failed": count}
    assert history.earlier.since < history.earlier.until
    assert len(history.attempts) <= 5
    assert history.attempts[0].after >= history.incarnations[0].incarnation
    gap, *kept = process.get_stderr()
    assert gap.gap == 4 * count
    assert [line.text for line in kept] == ["err"] * (len(kept))
    assert f"{count} earlier incarnations" in str(history)
    assert history.to_dict()["earlier"]["count"] == count
    assert len(await read(logger, "newest 5 incarnations")) == 1


async def test_runs_under_one_name_beyond_the_limit_are_counted(logger):
    """Once, every object stayed for ever, with the descriptors of its output."""
    async with ProcessManager(logger, history=History(incarnations=5)) as manager:
        descriptors = set()
        for number in range(12):
            await manager.create_subprocess_exec("echo", "hi")
            await manager.processes["echo"].wait_until_settled()
            if number > 5:
                descriptors.add(len(SYSTEM.descriptors()))
        history = manager.get_error_history("echo")["echo"]
        gc.collect()
        assert len(descriptors) == 1
        assert len(manager._registry.all_ever) == 5
        found = [one for one in gc.get_objects() if type(one) is ManagedProcess]
        assert len(found) == 5
    assert [one.incarnation for one in history.incarnations] == [8, 9, 10, 11, 12]
    assert history.earlier.causes == {"finished": 7}
    assert len(await read(logger, "newest 5 incarnations")) == 1


async def test_calls_of_a_task_beyond_the_limit_are_counted(logger):
    calls = 0

    async def fails():
        nonlocal calls
        calls += 1
        if calls == 9:
            await asyncio.Event().wait()
        raise ValueError(calls)

    async with ProcessManager(logger, history=History(incarnations=2)) as manager:
        task = await manager.start_task("t", fails, restart=ALWAYS)
        async with asyncio.timeout(120):
            while calls < 9:
                await asyncio.sleep(0)
        history = task.get_history()
        assert [one.incarnation for one in history.incarnations] == [8, 9]
        assert history.earlier.causes == {"failed": 7}


async def test_without_limits_everything_is_kept(logger):
    async with ProcessManager(logger, history=None) as manager:
        for _ in range(3):
            await manager.create_subprocess_exec("echo", "hi")
            await manager.processes["echo"].wait_until_settled()
        assert len(manager.get_error_history()["echo"].incarnations) == 3
    assert manager.get_error_history()["echo"].earlier == NONE_EARLIER


# ---- names


async def test_dead_names_beyond_the_limit_are_forgotten(logger):
    """What is forgotten is counted; the log says so once."""
    async with ProcessManager(logger, history=History(names=3)) as manager:
        await manager.start("alive", Command("sleep", "1000"))
        await run_dead(manager, *(f"n{number}" for number in range(10)))
        await manager.start("last", Command("sleep", "1000"))
        assert list(manager.processes) == ["alive", "n7", "n8", "n9", "last"]
        history = manager.get_error_history()
        assert history.forgotten_names == 7
        assert history.forgotten.causes == {"finished": 7}
        assert "7 dead names" in str(history)
        assert history.filter(failed=True).forgotten_names == 7
        with pytest.raises(UnknownProcess):
            manager.get_error_history("n0")
        await run_dead(manager, "n0")  # the name is free
        assert manager.processes["n0"].incarnation == 1
    assert len(await read(logger, "newest 3 names")) == 1


async def test_a_forgotten_process_is_not_started_again(logger):
    """Nobody would stop it at the end of the manager."""
    async with ProcessManager(logger, history=History(names=1)) as manager:
        await run_dead(manager, "first")
        first = manager.processes["first"]
        await run_dead(manager, "second", "third")
        assert await first.restart() is False
        with pytest.raises(NotStarted, match="forgotten"):
            await first.start()
        assert first.get_history().exit_statuses == [0]


async def test_a_name_that_another_process_needs_is_kept(logger):
    async with ProcessManager(logger, history=History(names=1)) as manager:
        await manager.start("server", Command("sleep", "1000"))
        await manager.start("user", Command("sleep", "1000"), depends_on=["server"])
        await manager.stop("server")
        await run_dead(manager, "a", "b", "c")
        assert set(manager.processes) == {"server", "user", "c"}
        await manager.restart_process("server")
        await manager.stop("user")
        await run_dead(manager, "d", "e")
        assert set(manager.processes) == {"server", "e"}


async def test_nothing_else_remembers_a_forgotten_name(logger):
    async with ProcessManager(logger, history=History(names=1)) as manager:
        await run_dead(manager, "critical", critical=True)
        failing = Command("sh", "-c", "exit 1")
        once = RestartPolicy("transient", first_delay=0.0, max_failures=1)
        await manager.start("given up", failing, restart=once)
        await manager.processes["given up"].wait_until_settled()
        assert set(manager.degraded) == {"given up"}
        await run_dead(manager, "a", "b", "c")
        assert manager.critical == {}
        assert manager.degraded == {}
        supervisor = manager._supervisor
        assert supervisor.order._needs == {}
        assert len(supervisor.registry._settled) <= 2


# ---- other growth


async def test_refused_restarts_beyond_the_limit_are_forgotten(logger):
    async with ProcessManager(logger) as manager:
        process = await manager.start("c", Command("sleep", "1000"))
        for _ in range(MAX_REFUSALS + 5):
            assert await process.restart() is False
        assert len(process.get_history().errors) == MAX_REFUSALS


@pytest.mark.parametrize("count", [1, MOST_CHANGES, MOST_CHANGES + 1, 5 * MOST_CHANGES])
def test_a_timeline_keeps_its_first_and_its_newest_changes(count):
    """A probe that flaps for a month must not fill the memory."""
    record = IncarnationRecord(1, "c")
    for number in range(count):
        record.mark(f"change {number}", NOW + timedelta(seconds=number))
    changes = [what for _, what in record.timeline]
    assert len(changes) == min(count, MOST_CHANGES)
    assert (changes[0], changes[-1]) == ("change 0", f"change {count - 1}")
    assert record.timeline == sorted(record.timeline, key=lambda one: one[0])
    notes = [what for what in changes if what.endswith("left out)")]
    missing = count - MOST_CHANGES + 1
    assert notes == ([f"({missing} changes left out)"] if missing > 1 else [])


def test_counts_add_up():
    one = Earlier.of(Cause.FAILED, 2.0, NOW, NOW + timedelta(seconds=2))
    other = Earlier.of(Cause.FINISHED, 1.0, NOW - timedelta(days=1), None)
    both = one + other + one
    assert (both.count, both.failed, both.uptime) == (3, 2, 5.0)
    assert both.causes == {"failed": 2, "finished": 1}
    assert (both.since, both.until) == (other.since, one.until)
    assert NONE_EARLIER + one == one
    assert not NONE_EARLIER
    assert str(both).startswith("3 earlier incarnations")
    assert both.to_dict()["until"] == one.until.isoformat()


@pytest.mark.parametrize("field", ["incarnations", "names"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "100", True])
def test_limits_are_whole_numbers_from_one_on(field, value):
    with pytest.raises(InvalidConfiguration, match=field):
        History(**{field: value})


async def test_a_manager_takes_a_history(logger):
    with pytest.raises(InvalidConfiguration, match="history"):
        ProcessManager(logger, history=100)
