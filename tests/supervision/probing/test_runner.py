"""`ProbeRunner`: when probes are asked, and which answers count."""

import asyncio
import re
import time

import pytest

from realtalk_async.exceptions import InvalidConfiguration, ProcessDead
from realtalk_async.supervision import Probe
from realtalk_async.supervision.probing import runner as runner_module
from realtalk_async.supervision.probing.runner import ProbeRunner, stop_probes


class FakeProcess:
    """A process that probes can ask."""

    name = "mic"

    def __init__(self, silent=0.0, last=""):
        self.silent, self.last = silent, last

    def silent_for(self, _stream):
        return self.silent

    def last_line(self, _stream):
        return self.last

    async def wait_for_line(self, pattern, _timeout):
        if re.search(pattern, self.last):
            return
        raise ProcessDead(self.name, "wait for it", "exit status 1")


def new_runner(probe, told, process=None):
    """Return a runner of the probe; each report is (what, reason, seconds)."""
    return ProbeRunner(
        probe,
        process or FakeProcess(),
        on_ready=lambda: told.append(("ready",)),
        on_unready=lambda reason: told.append(("unready", reason)),
        on_unhealthy=lambda *decision: told.append(("unwell", *decision)),
        on_error=print,
    )


async def decision(probe, process=None):
    """Run a probe until it decides: True for ready, the reason for failed."""
    told = []
    question = asyncio.ensure_future(new_runner(probe, told, process).run())
    async with asyncio.timeout(120):
        while not told:
            await asyncio.sleep(0)
    await stop_probes([question])
    [(what, *rest)] = told
    return True if what == "ready" else rest[0]


async def test_a_process_is_ready_at_its_line_and_not_if_it_dies_before():
    """Scenario 22."""
    probe = Probe.line("^listening")
    assert probe.purpose == "readiness"
    assert await decision(probe, FakeProcess(last="listening on 80")) is True
    assert "exit status 1" in await decision(probe, FakeProcess(last="x"))
    with pytest.raises(InvalidConfiguration):
        Probe.line("(")


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (True, None),
        (None, None),
        (False, "answer returned False"),
        (0, "answer returned 0"),
        (ValueError("odd"), "ValueError: odd"),
    ],
)
async def test_a_probe_function_succeeds_with_true_or_none(kind, answer, reason):
    """An exception or any other result is the reason of a failure."""

    def answer_now():
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def answer_later():
        await asyncio.sleep(0)
        return answer_now()

    function = answer_now if kind == "sync" else answer_later
    function.__name__ = "answer"
    probe = Probe.call(function, purpose="readiness", failure_threshold=1)
    assert await decision(probe) == (reason or True)


async def test_a_probe_that_hangs_is_cancelled_and_counts_as_a_failure():
    probe_runners = []

    async def hang():
        probe_runners.append(1)
        await asyncio.Event().wait()

    probe = Probe.call(hang, period=0.01, timeout=0.02, failure_threshold=3)
    assert await decision(probe) == "no answer within 0.02 s"
    # A try during which the event loop was late does not count.
    assert len(probe_runners) >= 3


async def test_a_suspended_host_resets_failures_and_grace(monkeypatch):
    """B3."""
    probe_runners, asleep = [], [0.0]
    monkeypatch.setattr(
        "realtalk_async.supervision.probing.runner._suspended_time", lambda: asleep[0]
    )
    loop = asyncio.get_running_loop()

    def fails():
        probe_runners.append(loop.time())
        if len(probe_runners) == 1:
            asleep[0] += 3600.0
        return False

    probe = Probe.call(fails, period=0.01, grace=0.2, failure_threshold=2)
    assert await decision(probe) == "fails returned False"
    assert len(probe_runners) == 3, "one before, and two in a row after it"
    assert probe_runners[1] - probe_runners[0] >= 0.2


async def test_a_check_with_state_begins_anew_after_the_host_was_suspended(monkeypatch):
    """What it measured before the suspension says nothing about the time after it."""
    asleep, begun, checks = [0.0], [], []
    monkeypatch.setattr(
        "realtalk_async.supervision.probing.runner._suspended_time", lambda: asleep[0]
    )

    def make_check():
        begun.append(len(checks))

        async def check(_process):
            checks.append(1)
            asleep[0] += 3600.0 * (len(checks) == 2)
            return None if len(checks) < 4 else "over"

        return check

    probe = Probe("x", make_check(), period=0.01, make_check=make_check)
    begun.clear()
    assert await decision(probe) == "over"
    assert begun == [0, 2]


async def test_the_time_of_suspension_does_not_change_while_the_host_runs():
    before = runner_module._suspended_time()
    assert before >= -0.001
    assert runner_module._suspended_time() == pytest.approx(before, abs=0.05)


async def test_a_success_resets_the_count_of_failures():
    answers = iter([False, False, True, False, False, False])
    probe = Probe.call(lambda: next(answers), period=0.01)
    await decision(probe)
    assert next(answers, "all used") == "all used"


async def test_a_liveness_probe_waits_for_its_grace():
    """An audio program may be silent at first."""
    began, loop = time.monotonic(), asyncio.get_running_loop()
    probe_runners = []
    probe = Probe.call(
        lambda: probe_runners.append(loop.time()),
        period=0.01,
        grace=0.1,
        failure_threshold=1,
    )
    task = loop.create_task(new_runner(probe, []).run())
    while not probe_runners:
        await asyncio.sleep(0.005)
    assert await stop_probes([task]) == set()
    assert time.monotonic() - began >= 0.1


async def test_failures_during_a_late_event_loop_do_not_count():
    """Scenario 25: the lateness may have caused them."""
    answers = []

    async def stalls_us_once():
        if not answers:
            answers.append("late")
            time.sleep(0.5)
            await asyncio.sleep(10)
        answers.append("in time")
        return len(answers) < 4

    probe = Probe.call(stalls_us_once, period=0.02, timeout=0.2, failure_threshold=1)
    assert await decision(probe) == "stalls_us_once returned False"
    assert answers == ["late", "in time", "in time", "in time"]


async def test_a_probe_that_ignores_its_cancellation_is_abandoned_and_counted(
    monkeypatch,
):
    """It must not delay the end of the process."""
    monkeypatch.setattr(
        "realtalk_async.supervision.probing.runner.CANCEL_TIMEOUT", 0.05
    )
    release = asyncio.Event()

    async def stuck():
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    task = asyncio.get_running_loop().create_task(stuck())
    await asyncio.sleep(0)
    assert await stop_probes([task]) == {task}
    release.set()
    await task
    assert await stop_probes([]) == set()


async def test_a_failure_has_the_seconds_since_the_last_sign_of_life():
    """A sign is the last success, or the last sign that the probe itself knows."""
    loop, told = asyncio.get_running_loop(), []
    began, well = loop.time(), []

    def function():
        if len(well) < 3:
            well.append(loop.time())
            return True
        return False

    probe = Probe.call(function, period=0.02, failure_threshold=3)
    async with asyncio.timeout(120):
        await new_runner(probe, told).run()
    [(_, _, after)] = told
    assert 0.04 <= after <= loop.time() - well[-1] <= loop.time() - began
    silent = FakeProcess()
    silent.silent = 7.0
    async with asyncio.timeout(120):
        await new_runner(Probe.silence(0.1, grace=0), told, silent).run()
    assert told[-1][2] == 7.0


async def test_lost_readiness_is_reported_before_the_failure(
    monkeypatch,
):
    """Scenario 23: each change is reported; the given number of failures in a row decides."""
    monkeypatch.setattr("realtalk_async.supervision.policy.probes.READY_PERIOD", 0.0)
    answers = iter([False, True, True, False, True, False, False, False])
    probe = Probe.call(
        lambda: next(answers), purpose="readiness", period=0.01, failure_threshold=3
    )
    told = []
    async with asyncio.timeout(120):
        await new_runner(probe, told).run()
    assert [what for what, *_ in told] == [
        "ready",
        "unready",
        "ready",
        "unready",
        "unwell",
    ]


async def test_a_readiness_line_is_asked_for_only_until_it_is_printed():
    """It cannot be lost."""
    told = []
    async with asyncio.timeout(120):
        await new_runner(Probe.line("^ready"), told, FakeProcess(last="ready")).run()
    assert told == [("ready",)]


async def test_a_readiness_probe_is_fast_until_it_passes_and_then_keeps_its_period():
    asked = []

    def is_up():
        asked.append(time.monotonic())
        return len(asked) > 3

    probe = Probe.call(is_up, purpose="readiness", period=60, failure_threshold=2)
    told = []
    runner = new_runner(probe, told)
    task = asyncio.ensure_future(runner.run())
    async with asyncio.timeout(20):
        while not told:
            await asyncio.sleep(0.01)
    assert told == [("ready",)], "three failures in one period count as one"
    assert asked[-1] - asked[0] < 10
    assert runner.due - asked[-1] > 50
    await stop_probes([task])


async def test_failures_before_readiness_count_once_a_period():
    asked = []

    def is_up():
        asked.append(time.monotonic())
        return False

    probe = Probe.call(is_up, purpose="readiness", period=0.5, failure_threshold=3)
    assert "is_up" in await decision(probe)
    assert asked[-1] - asked[0] >= 1.0
    assert len(asked) > 3
