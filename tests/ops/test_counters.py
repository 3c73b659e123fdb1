"""Events become counts: nothing is counted twice, and nothing grows with what happens."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async import events
from realtalk_async.ops import metrics as of
from realtalk_async.ops.counters import Distribution, Names, Tally
from realtalk_async.ops.voice_metrics import appended
from realtalk_async.supervision import Cause

EXIT = {"pid": 1, "exit_status": -9, "uptime": 1.0, "summary": "killed"}


@given(st.lists(st.floats(0, 100)))
def test_a_distribution_agrees_with_counting_by_hand(values):
    """A value on a bound belongs to its bucket, as Prometheus's ``le`` says."""
    one = Distribution((0,) * (len(of.WIDE) + 1))
    for value in values:
        one = one.plus(value, of.WIDE)
    by_hand = [sum(value <= bound for value in values) for bound in of.WIDE]
    assert list(one.cumulative) == [*by_hand, len(values)]
    assert one.total == pytest.approx(sum(values))


@pytest.mark.parametrize("cause", Cause)
def test_an_exit_is_counted_by_its_cause(cause):
    """And how long it took to be noticed, unless it was our own doing."""
    tally = Tally()
    tally.hear(
        events.ProcessExited(process="mic", cause=str(cause), after=0.002, **EXIT)
    )
    assert tally.samples[of.EXITS] == {("mic", cause.name.lower()): 1}
    ours = cause in {Cause.STOPPED, Cause.ESCALATED, Cause.UNHEALTHY}
    assert (of.DETECTION in tally.distributions) is not ours


@pytest.mark.parametrize(
    ("event", "metric", "labels"),
    [
        (
            events.TaskFailed(process="a", reason="", uptime=1),
            of.EXITS,
            ("a", "failed"),
        ),
        (events.SpawnRefused(process="a", error=""), of.EXITS, ("a", "spawn_failed")),
        (events.ProcessGivenUp(process="a", reason=""), of.GIVEN_UP, ("a",)),
        (
            events.CallbackFailed(process="a", callback="", reason=""),
            of.CALLBACKS,
            ("a",),
        ),
        (events.GuardLost(process="manager", reason=""), of.GUARD_LOST, ()),
        (
            events.OutputDropped(process="a", stream="stderr", max_size=1),
            of.GAPS,
            ("a", "stderr"),
        ),
        (events.ProcessRestarted(process="a", pid=1, downtime=1), of.RESTARTS, ("a",)),
    ],
    ids=lambda one: getattr(one, "kind", ""),
)
def test_an_event_is_counted_once(event, metric, labels):
    """Each time that it happens."""
    tally = Tally()
    tally.hear(event)
    tally.hear(event)
    assert tally.samples[metric] == {labels: 2}


def test_a_recovery_and_a_verdict_are_timed():
    """In histograms, and told to whoever keeps his own."""
    tally, told = Tally(), []
    tally.on_value = lambda *value: told.append(value)
    tally.hear(events.ProcessRestarted(process="mic", pid=1, downtime=0.02))
    tally.hear(events.ProbeFailed(process="mic", probe="silence", reason="", after=0.6))
    assert told == [
        (of.RECOVERY, ("mic",), 0.02),
        (of.DETECTION, ("mic", "probe"), 0.6),
    ]
    (recovery,) = tally.distributions[of.RECOVERY].values()
    assert (sum(recovery.counts), recovery.total) == (1, 0.02)


def test_names_without_end_share_one_series():
    """An app that never uses a name twice does not fill the memory of who scrapes it."""
    tally = Tally(Names(3))
    for number in range(10_000):
        tally.hear(events.ProcessGivenUp(process=f"job-{number}", reason=""))
    assert tally.samples[of.GIVEN_UP] == {
        ("job-0",): 1,
        ("job-1",): 1,
        ("job-2",): 1,
        (of.OTHER,): 9_997,
    }


@given(st.lists(st.floats(allow_nan=False)), st.lists(st.floats(allow_nan=False)))
def test_what_was_appended_to_a_bounded_list_is_found(before, more):
    """If all of it is still there; equal values may look like fewer."""
    limit = 20
    before, now = before[-limit:], [*before, *more][-limit:]
    new = appended(before, now)
    assert list(now[len(now) - len(new) :]) == list(new)
    assert len(new) <= len(more)
    if len(set(before + more)) == len(before + more) and len(more) < limit:
        assert list(new) == more


def test_metrics_have_names_that_both_worlds_take():
    """Prometheus's are those that OpenTelemetry's own exporter would give."""
    metrics = [*of.SUPERVISION, *of.VOICE]
    declared = {one for one in vars(of).values() if isinstance(one, of.Metric)}
    assert declared == set(metrics), "every metric is told of"
    assert len({one.name for one in metrics}) == len(metrics)
    for one in metrics:
        assert one.name.startswith("realtalk.")
        assert one.kind == "histogram" or not one.bounds
        assert all(a < b for a, b in itertools.pairwise(one.bounds))
    assert of.RECOVERY.prometheus == "realtalk_process_recovery_duration_seconds"
    assert of.OUTPUT.prometheus == "realtalk_process_output_bytes"
