from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.supervision import Cause
from realtalk_async.voice.audio.diagnostics import (
    RETRY_WINDOW,
    TEMPORARY_PROBLEMS,
    RateMonitor,
    RetryWindow,
    advise,
    diagnose,
)
from realtalk_async.voice.events import DeviceProblem


def report(cause=Cause.FAILED, exit_status=1, sign=None):
    """Return the fields of a report that a diagnosis needs."""
    sign = sign and SimpleNamespace(kind=sign)
    return SimpleNamespace(cause=cause, exit_status=exit_status, sign=sign)


@pytest.mark.parametrize(
    ("last", "problem"),
    [
        (report(sign="device busy"), DeviceProblem.BUSY),
        (report(sign="no sound server"), DeviceProblem.SERVER_GONE),
        (report(sign="no such device"), DeviceProblem.MISSING),
        (report(sign="out of memory"), DeviceProblem.DIED),
        (report(Cause.FINISHED, 0), DeviceProblem.SERVER_GONE),
        (report(Cause.UNHEALTHY, -15), DeviceProblem.LOST),
        (report(Cause.FAILED, -9), DeviceProblem.DIED),
    ],
)
def test_exit_of_a_device_program_is_diagnosed(last, problem):
    """sox and ffmpeg exit with 0 when the sound server ends."""
    assert diagnose(last, is_device=True) is problem
    assert advise(problem)


def test_own_command_that_exits_with_0_has_died():
    """Such a command need not use a sound server."""
    assert diagnose(report(Cause.FINISHED, 0), is_device=False) is DeviceProblem.DIED


def test_wrong_rate_is_distinguished_from_silence():
    """The supervisor ends the program in both cases."""
    unwell = report(Cause.UNHEALTHY, -15)
    assert diagnose(unwell, is_device=True, wrong_rate=True) is DeviceProblem.WRONG_RATE


@pytest.mark.parametrize(
    ("share", "well"),
    [(1.0, True), (0.91, True), (1.09, True), (0.89, False), (1.11, False), (4, False)],
)
def test_rate_may_differ_by_10_percent(share, well):
    monitor = RateMonitor(100.0, 5000)
    wrong = monitor.check(101.0, 5000 + round(48_000 * share))
    assert (wrong is None) is well
    assert monitor.rate == round(48_000 * share)
    if wrong is not None:
        assert f"{round(48_000 * share):,} bytes a second, not 48,000" in wrong


def test_each_check_ends_a_period_and_reset_begins_a_new_one():
    monitor = RateMonitor(100.0)
    assert monitor.check(101.0, 24_000) is not None
    assert monitor.check(102.0, 72_000) is None
    assert monitor.check(102.3, 172_000) is None  # too short a period
    monitor.reset(110.0, 172_000)
    assert monitor.check(111.0, 220_000) is None


def test_audio_that_was_late_may_arrive_faster():
    """A busy machine delays a recorder, which then makes up for it."""
    monitor = RateMonitor(100.0)
    assert monitor.check(101.0, 24_000) is not None
    assert monitor.check(102.0, 24_000) is None  # nothing
    assert monitor.check(103.0, 24_000 + 96_000) is None
    assert monitor.check(104.0, 120_000 + 72_000) is None
    assert monitor.check(105.0, 192_000 + 72_000) is not None, "nothing is missing"


def test_a_wrong_rate_is_found_although_much_audio_was_missing():
    """As of a device that was muted for an hour."""
    monitor = RateMonitor(100.0)
    monitor.check(3700.0, 0)
    checks = [monitor.check(3700.0 + n, 96_000 * n) for n in range(1, 8)]
    assert [wrong is None for wrong in checks] == [True] * 5 + [False] * 2


def test_silence_is_no_wrong_rate():
    """A probe of its own detects silence earlier."""
    assert RateMonitor(100.0).check(101.0, 0) is None


@given(
    st.lists(
        st.tuples(st.floats(0, 20), st.sampled_from(list(DeviceProblem))), max_size=30
    )
)
def test_retry_window_lasts_30_s_from_the_first_temporary_problem(problems):
    window, now, since = RetryWindow(), 100.0, None
    for pause, one in problems:
        now += pause
        temporary = one in TEMPORARY_PROBLEMS
        since = now if temporary and since is None else since
        assert window.allows(one, now) == (temporary and now - since < RETRY_WINDOW)


def test_retry_window_begins_anew_when_the_device_has_worked():
    window = RetryWindow()
    assert window.allows(DeviceProblem.BUSY, 100.0)
    assert not window.allows(DeviceProblem.BUSY, 100.0 + RETRY_WINDOW)
    window.reset()
    assert window.allows(DeviceProblem.BUSY, 200.0)
