"""
Counters and histograms of one app, counted from supervision events as they happen.

Memory grows with the number of metrics and process names, never with the number of events;
process names beyond `MAX_NAMES` share one series.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.events import Cause
from realtalk_async.ops import metrics as catalogue

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.ops.metrics import Labels, Metric

INTENDED_EXITS = {Cause.STOPPED, Cause.ESCALATED, Cause.UNHEALTHY}
"""Exits that the supervisor itself caused: they have no detection time."""


@dataclass(frozen=True, slots=True)
class HistogramData:
    """How many values of one histogram series fell into each bucket."""

    counts: tuple[int, ...]
    """One count per bucket; the last bucket holds values above all bounds."""
    total: float = 0.0
    """The sum of all values."""

    def with_value(self, value: float, bounds: tuple[float, ...]) -> HistogramData:
        """Return a copy with one more value; a value equal to a bound is below it."""
        bucket = bisect_left(bounds, value)
        counts = list(self.counts)
        counts[bucket] += 1
        return replace(self, counts=tuple(counts), total=self.total + value)

    @property
    def cumulative(self) -> tuple[int, ...]:
        """For each bucket the number of values that are no greater than its bound."""
        return tuple(accumulate(self.counts))


Samples = dict["Metric", dict["Labels", float]]
Histograms = dict["Metric", dict["Labels", HistogramData]]


class NameLimiter:
    """
    Bounds the number of process names that get series of their own.

    Args:
        max_names: The first so many names are kept; later names become `OTHER`.
    """

    def __init__(self, max_names: int = catalogue.MAX_NAMES) -> None:
        self._max_names = max_names
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        """Return the name, or `OTHER` if there are too many names."""
        if name in self._known:
            return name
        if len(self._known) >= self._max_names:
            return catalogue.OTHER
        self._known.add(name)
        return name


class MetricRegistry:
    """
    The counters and histograms of one app.

    Args:
        names: Decides which processes have series of their own.
    """

    def __init__(self, names: NameLimiter | None = None) -> None:
        self.names = names or NameLimiter()
        self.samples: Samples = {}
        self.histograms: Histograms = {}
        self.on_observation: Callable[[Metric, Labels, float], object] | None = None
        """Called with each histogram value, for an exporter with its own histograms."""

    def add(self, metric: Metric, labels: Labels = (), count: float = 1) -> None:
        """Increment a counter."""
        series = self.samples.setdefault(metric, {})
        series[labels] = series.get(labels, 0) + count

    def observe(self, metric: Metric, value: float, labels: Labels = ()) -> None:
        """Add a value to a histogram."""
        series = self.histograms.setdefault(metric, {})
        empty = HistogramData((0,) * (len(metric.bounds) + 1))
        series[labels] = series.get(labels, empty).with_value(value, metric.bounds)
        if self.on_observation is not None:
            self.on_observation(metric, labels, value)

    def on_event(self, event: events.Event) -> None:
        """Count one supervision event: a subscriber of the manager."""
        name = self.names.label(event.process)
        match event:
            case events.ProcessExited():
                self.add(catalogue.EXITS, (name, cause_label(event.cause)))
                if event.cause not in INTENDED_EXITS:
                    self.observe(catalogue.DETECTION, event.after, (name, "exit"))
            case events.TaskFailed():
                self.add(catalogue.EXITS, (name, cause_label(Cause.FAILED)))
            case events.SpawnRefused():
                self.add(catalogue.EXITS, (name, cause_label(Cause.SPAWN_FAILED)))
            case events.ProbeFailed():
                self.observe(catalogue.DETECTION, event.after, (name, "probe"))
            case events.ProcessRestarted():
                self.add(catalogue.RESTARTS, (name,))
                self.observe(catalogue.RECOVERY, event.downtime, (name,))
            case events.ProcessGivenUp():
                self.add(catalogue.GIVEN_UP, (name,))
            case events.OutputDropped():
                self.add(catalogue.GAPS, (name, event.stream))
            case events.CallbackFailed():
                self.add(catalogue.CALLBACKS, (name,))
            case events.GuardLost(replaced=True):
                self.add(catalogue.GUARD_LOST)
            case _:
                pass


def cause_label(cause: str) -> str:
    """Return an exit's cause as a label: ``signalled``, ``spawn_failed``."""
    return Cause(cause).name.lower()
