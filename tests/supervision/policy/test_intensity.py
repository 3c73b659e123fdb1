"""The limit of restarts of all processes together: as numbers, and with real processes."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async import events
from realtalk_async.exceptions import (
    GaveUp,
    InvalidConfiguration,
    TooManyRestarts,
)
from realtalk_async.supervision import (
    IncarnationReport,
    ProcessManager,
    RestartPolicy,
)
from realtalk_async.supervision.policy.intensity import Intensity
from realtalk_async.testing import programs

FOR_EVER = RestartPolicy(first_delay=0.0, max_failures=1e9)


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(0, 5), st.integers(1, 40))
def test_the_limit_is_exceeded_exactly_when_counting_by_hand_says_so(
    pauses, most, window
):
    """Restarts older than the window do not count."""
    intensity, now, moments = Intensity(most, window), 0, []
    for pause in pauses:
        now += pause
        moments.append(now)
        recent = [one for one in moments if one > now - window]
        assert bool(intensity.add("one", now)) == (len(recent) > most)
        assert intensity.within(now) == len(recent)


def test_without_a_limit_nothing_is_counted():
    intensity = Intensity(None, 1.0)
    assert [intensity.add("one", 0.0) for _ in range(100)] == [""] * 100
    assert intensity.within(0.0) == 0


def test_the_message_has_the_number_of_restarts_of_each_process():
    """The process with the most restarts comes first."""
    intensity = Intensity(2, 10.0)
    for name, now in (("mic", 1.0), ("player", 2.0)):
        assert intensity.add(name, now) == ""
    assert intensity.add("player", 4.5) == (
        "3 restarts in 3.5 s ('player' 2, 'mic' 1), more than max_restarts=2 in 10 s; "
        "fix the programs or raise max_restarts"
    )


async def test_too_many_restarts_of_all_processes_end_the_app_in_order(logger):
    """Each is within its own limit, and none is critical."""
    received = []
    with pytest.raises(TooManyRestarts) as caught:
        async with ProcessManager(logger, max_restarts=3, window=1000) as manager:
            manager.subscribe(received.append)
            await manager.start("well", programs.runs())
            for name in ("one", "two"):
                await manager.start(name, programs.exits(7), restart=FOR_EVER)
            await asyncio.sleep(1000)
    error = caught.value
    assert isinstance(error, GaveUp)
    assert (error.restarts, error.max_restarts, error.window) == (4, 3, 1000)
    assert isinstance(error.report, IncarnationReport)
    assert (error.report.exit_status, error.name in {"one", "two"}) == (7, True)
    assert "exit status 7" in str(error)
    assert "more than max_restarts=3 in 1000 s" in str(error)
    [shutdown] = [one for one in received if isinstance(one, events.ShutdownStarted)]
    assert shutdown.process == error.name
    assert manager.status == "failed"
    assert manager.processes[error.name].state == "fatal"
    assert manager.processes["well"].get_status().cause == "stopped by us"
    restarts = sum(one.restarts for one in manager.processes.values())
    assert restarts == 3


async def test_restarts_that_the_app_requests_do_not_count(logger):
    """Neither of processes nor of tasks."""
    async with ProcessManager(logger, max_restarts=0) as manager:
        one = await manager.start("one", programs.runs(), restart=FOR_EVER)
        await one.stop()
        assert await one.restart()
        await one.restart_with_group("a test")
        await one.wait_until_running()
        assert one.incarnation == 3
    with pytest.raises(TooManyRestarts, match="'task' 1"):
        async with ProcessManager(logger, max_restarts=0) as manager:
            await manager.start_task("task", fails, restart=FOR_EVER)
            await asyncio.sleep(1000)


async def fails():
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"max_restarts": -1}, "max_restarts must be"),
        ({"max_restarts": 1, "window": 0}, "window must be"),
    ],
)
async def test_an_invalid_limit_is_refused(logger, arguments, said):
    with pytest.raises(InvalidConfiguration, match=said):
        ProcessManager(logger, **arguments)
