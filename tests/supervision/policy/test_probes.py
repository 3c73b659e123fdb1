"""Probes: periods, the count of failures, and the rate of a stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision import Probe
from realtalk_async.supervision.policy.probes import (
    READY_PERIOD,
    Health,
    RateMeter,
    is_too_late,
)


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


@given(st.lists(st.booleans()), st.integers(1, 5))
def test_a_probe_has_failed_after_the_given_number_of_failures_in_a_row(
    answers, threshold
):
    health = Health(Probe("x", print, failure_threshold=threshold))
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


@pytest.mark.parametrize(
    ("period", "late", "expected"),
    [(1.0, 0.4, False), (1.0, 0.6, True), (0.02, 0.09, False), (0.02, 0.11, True)],
)
def test_a_late_answer_does_not_count(period, late, expected):
    """Later than half a period and 0.1 s."""
    assert is_too_late(Probe("x", print, period=period), late) is expected


def test_a_long_period_allows_no_later_answer_than_the_timeout_does():
    probe = Probe("x", print, period=10, timeout=1)
    assert is_too_late(probe, 0.6)
    assert not is_too_late(probe, 0.4)


@pytest.mark.parametrize(
    "arguments",
    [{"period": 0}, {"timeout": 0}, {"grace": -1}, {"failure_threshold": 0}],
)
def test_an_invalid_probe_is_refused_with_its_name(arguments):
    with pytest.raises(InvalidConfiguration, match="'x'"):
        Probe("x", print, **arguments)


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


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 1000)), min_size=1),
    st.integers(50, 300),
)
def test_a_rate_agrees_with_counting_by_hand(steps, window):
    """Over at least one window, and less than one window and one reading."""
    meter = RateMeter(window, period=50)
    now, total, readings = 0, 0, []
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


def rates(readings, window=4, period=1):
    """Return the result of each reading of a meter; a reading is a time and a total."""
    meter = RateMeter(window, period)
    return [meter.read(total, now) for now, total in readings]


def flow(times, per_second):
    """Return the readings of a constant stream at these times."""
    return [(now, now * per_second) for now in times]


LATE_TIMES = [0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20]
"""Every second reading is late by two periods: never two in a row are on time."""


def test_a_rate_is_measured_although_the_loop_is_late_again_and_again():
    """Late gaps lengthen the window, and do not begin it anew."""
    measured = rates(flow(LATE_TIMES, 10))
    assert measured[:7] == [None] * 7, "so far the loop was on time for 3 s"
    assert measured[7:] == [10.0] * 4


@pytest.mark.parametrize("late", [3, 10, 1000])
def test_a_loop_that_was_late_does_not_make_a_healthy_process_slow(late):
    """It wrote less meanwhile because its pipe was full."""
    times, total = [0], [0]
    for number in range(30):
        pause = late if number % 3 == 0 else 1
        times.append(times[-1] + pause)
        total.append(total[-1] + 10 * min(pause, 2))  # the pipe holds 20
    measured = rates(list(zip(times, total, strict=True)))
    assert {rate for rate in measured if rate is not None} == {10.0}


def test_what_a_late_reading_left_unread_does_not_make_a_process_slow():
    """The reading at 5 is 1 s late and leaves 10 bytes; the next one is too late."""
    readings = [*flow([0, 1, 2, 3], 10), (5, 40), (15, 70), (16, 80)]
    assert rates(readings)[-1] == 10.0


def test_a_burst_that_is_read_while_the_loop_is_late_counts():
    """The rate over all gaps is then the higher one."""
    readings = [(0, 0), (1, 0), (2, 0), (6, 60), (7, 60), (8, 60)]
    assert rates(readings)[-1] == 60 / 8


def test_the_memory_of_a_meter_is_bounded_while_the_loop_is_always_late():
    meter = RateMeter(4, 1)
    meter.read(0, 0)
    meter.read(0, 1)
    for number in range(1, 1000):
        assert meter.read(number, 10 * number) is None
    assert len(meter._gaps) == 2


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
    with pytest.raises(InvalidConfiguration, match="bytes_per_second must be"):
        Probe.rate(0)
    with pytest.raises(InvalidConfiguration, match="window must be"):
        Probe.rate(1, window=0.0)
