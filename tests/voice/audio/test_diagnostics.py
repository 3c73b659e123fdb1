"""What is wrong with a device, by its last words and by its bytes a second."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.supervision import Cause
from realtalk_async.voice.audio.diagnostics import (
    PATIENCE,
    WAITS_FOR,
    Patience,
    RateMonitor,
    advise,
    diagnose,
)
from realtalk_async.voice.events import DeviceProblem


def report(cause=Cause.FAILED, exit_status=1, sign=None):
    """Return the last life of a program, as far as it matters."""
    sign = sign and SimpleNamespace(kind=sign)
    return SimpleNamespace(cause=cause, exit_status=exit_status, sign=sign)


@pytest.mark.parametrize(
    ("last", "trouble"),
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
def test_each_end_of_a_device_program_has_its_meaning(last, trouble):
    """sox and ffmpeg exit with 0 when the sound server goes away."""
    assert diagnose(last, is_device=True) is trouble
    assert advise(trouble)


def test_a_command_of_the_app_that_exits_with_0_has_only_died():
    """It may know nothing of sound servers."""
    assert diagnose(report(Cause.FINISHED, 0), is_device=False) is DeviceProblem.DIED


def test_a_wrong_rate_is_told_from_silence():
    """Both were ended by us."""
    unwell = report(Cause.UNHEALTHY, -15)
    assert diagnose(unwell, is_device=True, wrong_rate=True) is DeviceProblem.WRONG_RATE


@pytest.mark.parametrize(
    ("share", "well"),
    [(1.0, True), (0.91, True), (1.09, True), (0.89, False), (1.11, False), (4, False)],
)
def test_ten_percent_are_tolerated(share, well):
    """Slower and faster."""
    watch = RateMonitor(100.0, 5000)
    wrong = watch.look(101.0, 5000 + round(48_000 * share))
    assert (wrong is None) is well
    assert watch.rate == round(48_000 * share)
    if wrong is not None:
        assert f"{round(48_000 * share):,} bytes a second, not 48,000" in wrong


def test_each_look_counts_from_the_last_one():
    """And from the first one of each recorder."""
    watch = RateMonitor(100.0)
    assert watch.look(101.0, 24_000) is not None
    assert watch.look(102.0, 72_000) is None
    assert watch.look(102.3, 172_000) is None  # too short to tell anything
    watch.begin(110.0, 172_000)
    assert watch.look(111.0, 220_000) is None


def test_silence_is_judged_elsewhere():
    """By its own probe, which is quicker."""
    assert RateMonitor(100.0).look(101.0, 0) is None


@given(
    st.lists(
        st.tuples(st.floats(0, 20), st.sampled_from(list(DeviceProblem))), max_size=30
    )
)
def test_a_device_is_waited_for_from_its_first_trouble_for_so_long(troubles):
    """By hand: half a minute from the first one that passes by itself."""
    patience, now, since = Patience(), 100.0, None
    for pause, one in troubles:
        now += pause
        passes = one in WAITS_FOR
        since = now if passes and since is None else since
        assert patience.lasts(one, now) == (passes and now - since < PATIENCE)


def test_patience_is_renewed_when_the_device_works_again():
    """The next trouble has all of it."""
    patience = Patience()
    assert patience.lasts(DeviceProblem.BUSY, 100.0)
    assert not patience.lasts(DeviceProblem.BUSY, 100.0 + PATIENCE)
    patience.renew()
    assert patience.lasts(DeviceProblem.BUSY, 200.0)
