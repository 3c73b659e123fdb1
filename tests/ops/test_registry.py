"""Metrics and their registry: events are counted once, and memory is bounded."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async import events
from realtalk_async.ops import metrics as catalogue
from realtalk_async.ops.registry import HistogramData, MetricRegistry, NameLimiter
from realtalk_async.ops.voice_metrics import appended
from realtalk_async.supervision import Cause

EXIT = {"pid": 1, "exit_status": -9, "uptime": 1.0, "summary": "killed"}


@given(st.lists(st.floats(0, 100)))
def test_histogram_buckets_agree_with_counting_by_hand(values):
    """A value on a bound belongs to its bucket, as Prometheus's ``le`` says."""
    one = HistogramData((0,) * (len(catalogue.WIDE_BOUNDS) + 1))
    for value in values:
        one = one.with_value(value, catalogue.WIDE_BOUNDS)
    by_hand = [
        sum(value <= bound for value in values) for bound in catalogue.WIDE_BOUNDS
    ]
    assert list(one.cumulative) == [*by_hand, len(values)]
    assert one.total == pytest.approx(sum(values))


@pytest.mark.parametrize("cause", Cause)
def test_an_exit_is_counted_by_cause_and_timed_unless_the_supervisor_caused_it(cause):
    registry = MetricRegistry()
    registry.on_event(
        events.ProcessExited(process="mic", cause=str(cause), after=0.002, **EXIT)
    )
    assert registry.samples[catalogue.EXITS] == {("mic", cause.name.lower()): 1}
    ours = cause in {Cause.STOPPED, Cause.ESCALATED, Cause.UNHEALTHY}
    assert (catalogue.DETECTION in registry.histograms) is not ours


@pytest.mark.parametrize(
    ("event", "metric", "labels"),
    [
        (
            events.TaskFailed(process="a", reason="", uptime=1),
            catalogue.EXITS,
            ("a", "failed"),
        ),
        (
            events.SpawnRefused(process="a", error=""),
            catalogue.EXITS,
            ("a", "spawn_failed"),
        ),
        (events.ProcessGivenUp(process="a", reason=""), catalogue.GIVEN_UP, ("a",)),
        (
            events.CallbackFailed(process="a", callback="", reason=""),
            catalogue.CALLBACKS,
            ("a",),
        ),
        (events.GuardLost(process="manager", reason=""), catalogue.GUARD_LOST, ()),
        (
            events.OutputDropped(process="a", stream="stderr", max_size=1),
            catalogue.GAPS,
            ("a", "stderr"),
        ),
        (
            events.ProcessRestarted(process="a", pid=1, downtime=1),
            catalogue.RESTARTS,
            ("a",),
        ),
    ],
    ids=lambda one: getattr(one, "kind", ""),
)
def test_each_event_is_counted_once(event, metric, labels):
    registry = MetricRegistry()
    registry.on_event(event)
    registry.on_event(event)
    assert registry.samples[metric] == {labels: 2}


def test_recovery_and_probe_failure_are_observed_and_passed_to_the_exporter():
    registry, observed = MetricRegistry(), []
    registry.on_observation = lambda *value: observed.append(value)
    registry.on_event(events.ProcessRestarted(process="mic", pid=1, downtime=0.02))
    registry.on_event(
        events.ProbeFailed(process="mic", probe="silence", reason="", after=0.6)
    )
    assert observed == [
        (catalogue.RECOVERY, ("mic",), 0.02),
        (catalogue.DETECTION, ("mic", "probe"), 0.6),
    ]
    (recovery,) = registry.histograms[catalogue.RECOVERY].values()
    assert (sum(recovery.counts), recovery.total) == (1, 0.02)


def test_names_beyond_the_limit_share_one_series():
    registry = MetricRegistry(NameLimiter(3))
    for number in range(10_000):
        registry.on_event(events.ProcessGivenUp(process=f"job-{number}", reason=""))
    assert registry.samples[catalogue.GIVEN_UP] == {
        ("job-0",): 1,
        ("job-1",): 1,
        ("job-2",): 1,
        (catalogue.OTHER,): 9_997,
    }


@given(st.lists(st.floats(allow_nan=False)), st.lists(st.floats(allow_nan=False)))
def test_values_appended_to_a_bounded_list_are_found(before, more):
    """Equal values may look like fewer new ones."""
    limit = 20
    before, now = before[-limit:], [*before, *more][-limit:]
    new = appended(before, now)
    assert list(now[len(now) - len(new) :]) == list(new)
    assert len(new) <= len(more)
    if len(set(before + more)) == len(before + more) and len(more) < limit:
        assert list(new) == more


def test_metric_names_suit_opentelemetry_and_prometheus():
    metrics = [*catalogue.SUPERVISION, *catalogue.VOICE]
    declared = {
        one for one in vars(catalogue).values() if isinstance(one, catalogue.Metric)
    }
    assert declared == set(metrics), "every metric is exported"
    assert len({one.name for one in metrics}) == len(metrics)
    for one in metrics:
        assert one.name.startswith("realtalk.")
        assert one.kind == "histogram" or not one.bounds
        assert all(a < b for a, b in itertools.pairwise(one.bounds))
    assert (
        catalogue.RECOVERY.prometheus_name
        == "realtalk_process_recovery_duration_seconds"
    )
    assert catalogue.OUTPUT.prometheus_name == "realtalk_process_output_bytes"
