"""What a manager shows to people: lines about events, a table, the text of the output."""

from __future__ import annotations

import io

import pytest

from realtalk_async import Command, RestartPolicy, events
from realtalk_async.exceptions import (
    InvalidConfiguration,
    ProcessDead,
    SpawnFailed,
    UnknownProcess,
)
from realtalk_async.testing import programs


async def test_printed_events_tell_a_start_and_a_stop_in_one_line_each(manager):
    shown = io.StringIO()
    end = manager.print_events(shown)
    await manager.start("one", programs.runs())
    await manager.stop("one")
    started, stopped = shown.getvalue().splitlines()
    assert " one: Process started (" in started
    assert " one: Process stopped (SIGTERM)" in stopped
    end()
    await manager.start("two", programs.runs())
    assert "two" not in shown.getvalue()


async def test_printed_events_tell_the_last_words_of_a_death(manager):
    shown = io.StringIO()
    manager.print_events(shown)
    dies = Command.shell("echo the disk is full >&2; exit 3")
    one = await manager.start("one", dies, restart="temporary")
    await one.wait_until_settled()
    assert "the disk is full" in shown.getvalue()


async def test_statuses_print_as_a_table(manager):
    one = await manager.start("a-long-name", programs.runs())
    await manager.start("b", programs.runs())
    await manager.stop("b")
    head, first, second = str(manager.process_status()).splitlines()
    assert head.split() == ["NAME", "STATE", "PID", "UP", "RESTARTS", "REASON"]
    assert first.split()[:3] == ["a-long-name", "running", str(one.pid)]
    assert second.split()[:3] == ["b", "exited", "-"]
    assert first.index("running") == second.index("exited") == head.index("STATE")
    assert list(manager.process_status()) == list(manager.get_statuses())


async def test_captured_output_prints_as_its_text(manager):
    says = Command.shell("echo one; echo two; printf three")
    one = await manager.start("one", says, restart="temporary")
    await one.wait_until_settled()
    assert str(one.get_stdout()) == "one\ntwo\nthree"
    assert str(one.get_stderr()) == ""


async def test_a_subscriber_gets_the_kinds_that_it_asks_for(manager):
    seen = []
    end = manager.subscribe(seen.append, events.ProcessStarted)
    feed = manager.events(events.ProcessStarted)
    await manager.start("one", programs.runs())
    await manager.stop("one")
    assert [one.kind for one in seen] == ["process.started"]
    assert await anext(feed) is seen[0]
    end()
    await manager.start("two", programs.runs())
    assert len(seen) == 1
    with pytest.raises(InvalidConfiguration, match=r"kinds\[0\]"):
        manager.subscribe(seen.append, "process.started")


async def test_an_async_subscriber_is_refused(manager):
    class Subscriber:
        async def __call__(self, event):
            raise AssertionError

    for subscriber in (Subscriber(), Subscriber().__call__):
        with pytest.raises(InvalidConfiguration, match=r"events\(\)"):
            manager.subscribe(subscriber)


async def test_the_traceback_of_a_subscriber_that_raises_is_logged(
    manager, logger, log_path
):
    def fails(event):
        raise ZeroDivisionError(event.kind)

    manager.subscribe(fails, events.ProcessStarted)
    await manager.start("one", programs.runs())
    await logger.flush()
    text = log_path.read_text()
    assert "Traceback" in text
    assert "in fails" in text


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_restart_stops_a_running_process_and_starts_it(manager, restart):
    one = await manager.start("one", programs.runs(), restart=restart)
    before = one.pid
    status = await manager.restart("one")
    assert (status.state, status.incarnation) == ("running", 2)
    assert status.pid != before
    await manager.stop("one")
    assert (await manager.restart("one")).incarnation == 3


async def test_restart_says_why_a_process_was_not_started(manager, tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    await manager.start("one", [program], restart="temporary")
    program.unlink()
    with pytest.raises(ProcessDead, match="No such file"):
        await manager.restart("one")
    with pytest.raises(UnknownProcess):
        await manager.restart("two")


async def test_a_restart_by_hand_clears_the_failure_score(manager):
    policy = RestartPolicy("permanent", max_failures=1, first_delay=0.0)
    one = await manager.start("one", programs.exits(1), restart=policy)
    await one.wait_until_settled()
    lives = one.incarnation
    await one.restart()
    await one.wait_until_settled()
    assert one.incarnation == 2 * lives


async def test_a_program_that_disappears_later_is_tried_again(
    manager, tmp_path, monkeypatch
):
    program = tmp_path / "our-program"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    policy = RestartPolicy("permanent", max_failures=3, first_delay=0.3, jitter=False)
    one = await manager.start("one", ["our-program"], restart=policy)
    program.unlink()
    await one.wait_until_settled()
    assert one.incarnation == 4
    with pytest.raises(SpawnFailed, match="not on PATH"):
        await manager.start("two", ["our-program"], restart=policy)


def test_delays_that_contradict_each_other_are_refused():
    with pytest.raises(InvalidConfiguration, match="raise max_delay"):
        RestartPolicy("permanent", first_delay=60)
    assert RestartPolicy("permanent", first_delay=60, max_delay=60).delay(1, 1) <= 60
