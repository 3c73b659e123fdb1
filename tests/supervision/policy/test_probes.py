"""Probes: when they are asked, which answers count, and the decision."""

import asyncio
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.exceptions import InvalidConfiguration, ProcessDead
from realtalk_async.supervision import Probe
from realtalk_async.supervision.policy.probes import (
    READY_PERIOD,
    Health,
    RateMeter,
    is_too_late,
)
from realtalk_async.supervision.probing import runner as runner_module
from realtalk_async.supervision.probing.runner import ProbeRunner, stop_probes


class FakeProcess:
    """A process that probes can ask."""

    name = "mic"

    def __init__(self, silent=0.0, last=""):
        self.silent, self.last = silent, last
        self.flow = iter([(0, 0.0)])

    def silent_for(self, _stream):
        return self.silent

    def last_line(self, _stream):
        return self.last

    def bytes_received(self, _stream):
        return next(self.flow)

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


@given(st.lists(st.booleans()), st.integers(1, 5))
def test_a_probe_has_failed_after_the_given_number_of_failures_in_a_row(
    answers, threshold
):
    health = Health(Probe("x", None, failure_threshold=threshold))
    row = 0
    for well in answers:
        row = 0 if well else row + 1
        health = health.record(None if well else "no")
        assert health.failed == (row >= threshold)


async def test_the_reason_of_silence_has_its_length_and_the_last_line():
    """Scenario 24."""
    probe = Probe.silence(2.0)
    assert await probe.check(FakeProcess(silent=2.0)) is None
    assert await probe.check(FakeProcess(silent=2.25)) == (
        "silent on stdout for 2.25 s, 2 allowed"
    )
    probe = Probe.silence(2.0, "stderr")
    reason = await probe.check(FakeProcess(silent=3.0, last="buffer underrun"))
    assert reason.endswith("its last line was 'buffer underrun'")


@pytest.mark.parametrize(("seconds", "period"), [(0.01, 0.02), (2.0, 0.5), (60, 1.0)])
def test_silence_is_checked_four_times_within_its_time(seconds, period):
    """At intervals of 20 ms at least and 1 s at most."""
    assert Probe.silence(seconds).period == period


async def test_a_process_is_ready_at_its_line_and_not_if_it_dies_before():
    """Scenario 22."""
    probe = Probe.line("^listening")
    assert probe.purpose == "readiness"
    assert await decision(probe, FakeProcess(last="listening on 80")) is True
    assert "exit status 1" in await decision(probe, FakeProcess(last="x"))
    with pytest.raises(re.error):
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


@pytest.mark.parametrize(
    ("period", "late", "expected"),
    [(1.0, 0.4, False), (1.0, 0.6, True), (0.02, 0.09, False), (0.02, 0.11, True)],
)
def test_a_late_answer_does_not_count(period, late, expected):
    """Later than half a period and 0.1 s."""
    assert is_too_late(Probe("x", None, period=period), late) is expected


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


@pytest.mark.parametrize(
    "arguments",
    [{"period": 0}, {"timeout": 0}, {"grace": -1}, {"failure_threshold": 0}],
)
def test_an_invalid_probe_is_refused_with_its_name(arguments):
    with pytest.raises(InvalidConfiguration, match="'x'"):
        Probe("x", None, **arguments)


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


def test_readiness_is_asked_often_before_it_is_reached_and_once_a_second_afterwards():
    probe = Probe.call(print, purpose="readiness", period=0.1)
    health = Health(probe)
    assert health.pause == 0.1
    assert health.record(None).pause == READY_PERIOD
    assert health.record(None).record("no").pause == 0.1
    assert Health(Probe.call(print, period=0.1)).record(None).pause == 0.1
    assert (
        Health(Probe.call(print, purpose="readiness", period=9.0)).record(None).pause
        == 9.0
    )


async def test_a_readiness_line_is_asked_for_only_until_it_is_printed():
    """It cannot be lost."""
    told = []
    async with asyncio.timeout(120):
        await new_runner(Probe.line("^ready"), told, FakeProcess(last="ready")).run()
    assert told == [("ready",)]


@given(
    st.lists(st.tuples(st.floats(0.01, 0.5), st.integers(0, 1000)), min_size=1),
    st.floats(0.5, 3.0),
)
def test_a_rate_agrees_with_counting_by_hand(steps, window):
    """Over at least one window, and less than one window and one reading."""
    meter = RateMeter(window, gap=1.0)
    now, total, readings = 0.0, 0, []
    for pause, brought in steps:
        now, total = now + pause, total + brought
        rate = meter.read(total, now)
        readings.append((now, total))
        before = [one for one in readings if one[0] <= now - window]
        if not before:
            assert rate is None
            continue
        began, had = before[-1]
        assert rate == pytest.approx((total - had) / (now - began))


def test_a_rate_is_measured_anew_after_the_event_loop_was_late():
    """The lateness may have delayed the reads."""
    meter = RateMeter(1.0, gap=0.5)
    assert [meter.read(0, now) for now in (0.0, 0.5)] == [None] * 2
    assert meter.read(100, 1.0) == 100.0
    assert meter.read(100, 1.75) is None
    assert [meter.read(100, now) for now in (2.0, 2.5)] == [None] * 2
    assert meter.read(300, 2.75) == 200.0


async def test_the_reason_of_a_slow_stream_has_its_rate():
    """Each incarnation is measured for itself."""
    probe = Probe.rate(48_000, window=1.0)
    assert (probe.period, probe.purpose, probe.grace) == (0.25, "liveness", 3.0)
    for _ in range(2):
        process, check = FakeProcess(), probe.begin()
        process.flow = iter([(0, 10.0), (100, 10.5), (30_000, 11.0)])
        assert [await check(process) for _ in range(3)] == [
            None,
            None,
            "30000 bytes/s on stdout over the last 1 s, at least 48000 expected",
        ]
    for rate, window in ((0, 1.0), (1, 0.0)):
        with pytest.raises(InvalidConfiguration, match="bytes/s"):
            Probe.rate(rate, window=window)
