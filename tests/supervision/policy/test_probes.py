"""Probes: what is asked, when an answer counts, and the verdict."""

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
from realtalk_async.supervision.probing import runner as asking_module
from realtalk_async.supervision.probing.runner import ProbeRunner, stop_probes


class Asked:
    """A process that can be asked."""

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


def asking(probe, told, process=None):
    """Return the asking of a probe; what it tells is (what, reason, seconds)."""
    return ProbeRunner(
        probe,
        process or Asked(),
        on_ready=lambda: told.append(("ready",)),
        on_unready=lambda reason: told.append(("unready", reason)),
        on_unhealthy=lambda *decision: told.append(("unwell", *decision)),
    )


async def decision(probe, process=None):
    """Ask until something is told: True for ready, the reason for not well."""
    told = []
    question = asyncio.ensure_future(asking(probe, told, process).run())
    async with asyncio.timeout(120):
        while not told:
            await asyncio.sleep(0)
    await stop_probes([question])
    [(what, *rest)] = told
    return True if what == "ready" else rest[0]


@given(st.lists(st.booleans()), st.integers(1, 5))
def test_the_verdict_falls_with_so_many_failures_in_a_row(answers, threshold):
    """Counted by hand."""
    health = Health(Probe("x", None, failure_threshold=threshold))
    row = 0
    for well in answers:
        row = 0 if well else row + 1
        health = health.record(None if well else "no")
        assert health.failed == (row >= threshold)


async def test_silence_is_told_with_its_length_and_the_last_line():
    """Scenario 24."""
    probe = Probe.silence(2.0)
    assert await probe.check(Asked(silent=2.0)) is None
    assert await probe.check(Asked(silent=2.25)) == (
        "silent on stdout for 2.25 s, 2 allowed"
    )
    probe = Probe.silence(2.0, "stderr")
    reason = await probe.check(Asked(silent=3.0, last="buffer underrun"))
    assert reason.endswith("its last line was 'buffer underrun'")


@pytest.mark.parametrize(("seconds", "period"), [(0.01, 0.02), (2.0, 0.5), (60, 1.0)])
def test_silence_is_asked_for_four_times_in_its_time(seconds, period):
    """But not more often than every 20 ms, nor less than every second."""
    assert Probe.silence(seconds).period == period


async def test_a_line_makes_ready_and_a_death_before_it_does_not():
    """Scenario 22."""
    probe = Probe.line("^listening")
    assert probe.purpose == "readiness"
    assert await decision(probe, Asked(last="listening on 80")) is True
    assert "exit status 1" in await decision(probe, Asked(last="x"))
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
async def test_a_function_of_the_app_answers_or_raises(kind, answer, reason):
    """True or None is well; whatever it raises is a reason."""

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


async def test_no_verdict_falls_for_a_while_after_the_host_was_suspended(monkeypatch):
    """B3: what failed before is forgotten, and the grace begins anew."""
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


async def test_how_long_the_host_was_suspended_is_known():
    """It does not change while nobody suspends it."""
    before = asking_module._suspended_time()
    assert before >= -0.001
    assert asking_module._suspended_time() == pytest.approx(before, abs=0.05)


async def test_one_good_answer_forgives_what_was_before():
    """Only failures in a row are a verdict."""
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
    task = loop.create_task(asking(probe, []).run())
    while not probe_runners:
        await asyncio.sleep(0.005)
    assert await stop_probes([task]) == set()
    assert time.monotonic() - began >= 0.1


async def test_no_verdict_falls_while_our_own_loop_was_late():
    """Scenario 25: what was found meanwhile may be ours."""
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
def test_a_question_that_came_too_late_says_nothing(period, late, expected):
    """By more than half a period, and more than 0.1 s."""
    assert is_too_late(Probe("x", None, period=period), late) is expected


async def test_a_question_that_swallows_cancellation_is_left_behind_and_counted(
    monkeypatch,
):
    """It must not hold up the end of the process."""
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
def test_a_probe_that_makes_no_sense_is_refused(arguments):
    """With its name."""
    with pytest.raises(InvalidConfiguration, match="'x'"):
        Probe("x", None, **arguments)


async def test_a_verdict_tells_how_long_ago_all_was_well():
    """Since the last good answer, or since the last sign that the probe knows of."""
    loop, told = asyncio.get_running_loop(), []
    began, well = loop.time(), []

    def function():
        if len(well) < 3:
            well.append(loop.time())
            return True
        return False

    probe = Probe.call(function, period=0.02, failure_threshold=3)
    async with asyncio.timeout(120):
        await asking(probe, told).run()
    [(_, _, after)] = told
    assert 0.04 <= after <= loop.time() - well[-1] <= loop.time() - began
    silent = Asked()
    silent.silent = 7.0
    async with asyncio.timeout(120):
        await asking(Probe.silence(0.1, grace=0), told, silent).run()
    assert told[-1][2] == 7.0


async def test_readiness_is_asked_on_and_its_loss_is_told_before_the_verdict(
    monkeypatch,
):
    """Scenario 23: each change is told, and so many failures in a row are a verdict."""
    monkeypatch.setattr("realtalk_async.supervision.policy.probes.READY_PERIOD", 0.0)
    answers = iter([False, True, True, False, True, False, False, False])
    probe = Probe.call(
        lambda: next(answers), purpose="readiness", period=0.01, failure_threshold=3
    )
    told = []
    async with asyncio.timeout(120):
        await asking(probe, told).run()
    assert [what for what, *_ in told] == [
        "ready",
        "unready",
        "ready",
        "unready",
        "unwell",
    ]


def test_one_that_is_ready_is_left_in_peace():
    """Eager while somebody waits for it, once a second when it is ready."""
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


async def test_a_line_that_was_printed_is_not_asked_for_again():
    """It cannot be lost."""
    told = []
    async with asyncio.timeout(120):
        await asking(Probe.line("^ready"), told, Asked(last="ready")).run()
    assert told == [("ready",)]


@given(
    st.lists(st.tuples(st.floats(0.01, 0.5), st.integers(0, 1000)), min_size=1),
    st.floats(0.5, 3.0),
)
def test_a_rate_is_what_counting_by_hand_says(steps, window):
    """Over at least one window, and less than one reading more."""
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


def test_a_rate_is_measured_anew_after_our_own_loop_was_late():
    """What was not read meanwhile may be our own fault."""
    meter = RateMeter(1.0, gap=0.5)
    assert [meter.read(0, now) for now in (0.0, 0.5)] == [None] * 2
    assert meter.read(100, 1.0) == 100.0
    assert meter.read(100, 1.75) is None
    assert [meter.read(100, now) for now in (2.0, 2.5)] == [None] * 2
    assert meter.read(300, 2.75) == 200.0


async def test_a_slow_stream_is_told_with_its_rate():
    """Each incarnation is measured for itself."""
    probe = Probe.rate(48_000, window=1.0)
    assert (probe.period, probe.purpose, probe.grace) == (0.25, "liveness", 3.0)
    for _ in range(2):
        process, check = Asked(), probe.begin()
        process.flow = iter([(0, 10.0), (100, 10.5), (30_000, 11.0)])
        assert [await check(process) for _ in range(3)] == [
            None,
            None,
            "30000 bytes/s on stdout over the last 1 s, at least 48000 expected",
        ]
    for rate, window in ((0, 1.0), (1, 0.0)):
        with pytest.raises(InvalidConfiguration, match="bytes/s"):
            Probe.rate(rate, window=window)
