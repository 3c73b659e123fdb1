"""
Counts of what happened, made from events: one entry a metric and label values. Pure.

What is kept grows with the number of metrics and of names, never with what happens: names
beyond `MOST_NAMES` share one.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.ops import metrics as of
from realtalk_async.supervision.reports.status import Cause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from realtalk_async.ops.metrics import Labels, Metric


BY_US = {Cause.STOPPED, Cause.ESCALATED, Cause.UNHEALTHY}
"""What nobody had to find out."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """How many values of a histogram fell into which bucket."""

    counts: tuple[int, ...]
    """One a bucket, the last one for what is beyond all bounds."""
    total: float = 0.0
    """The sum of all values."""

    def plus(self, value: float, bounds: tuple[float, ...]) -> Distribution:
        """Return it with one more value; a bound belongs to its bucket."""
        place = bisect_left(bounds, value)
        counts = list(self.counts)
        counts[place] += 1
        return replace(self, counts=tuple(counts), total=self.total + value)

    @property
    def cumulative(self) -> tuple[int, ...]:
        """For each bucket how many values are no greater than its bound."""
        return tuple(accumulate(self.counts))


Samples = dict["Metric", dict["Labels", float]]
Distributions = dict["Metric", dict["Labels", Distribution]]


class Names:
    """The names that have series of their own: the first so many that come."""

    def __init__(self, most: int = of.MOST_NAMES) -> None:
        self._most = most
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        """Return the name, or `OTHER` if there are too many."""
        if name in self._known:
            return name
        if len(self._known) >= self._most:
            return of.OTHER
        self._known.add(name)
        return name


class Tally:
    """
    Counters and histograms of one app.

    Args:
        names: Which processes have series of their own.
    """

    def __init__(self, names: Names | None = None) -> None:
        self.names = names or Names()
        self.samples: Samples = {}
        self.distributions: Distributions = {}
        self.on_value: Callable[[Metric, Labels, float], object] = _nothing
        """Called with each value of a histogram, for those who keep their own."""

    def add(self, metric: Metric, labels: Labels = (), count: float = 1) -> None:
        """Count."""
        series = self.samples.setdefault(metric, {})
        series[labels] = series.get(labels, 0) + count

    def observe(self, metric: Metric, value: float, labels: Labels = ()) -> None:
        """Put a value into a histogram."""
        series = self.distributions.setdefault(metric, {})
        empty = Distribution((0,) * (len(metric.bounds) + 1))
        series[labels] = series.get(labels, empty).plus(value, metric.bounds)
        self.on_value(metric, labels, value)

    def hear(self, event: events.Event) -> None:
        """Count what an event tells."""
        who = self.names.label(event.process)
        match event:
            case events.ProcessExited():
                self.add(of.EXITS, (who, label_of(event.cause)))
                if event.cause not in BY_US:
                    self.observe(of.DETECTION, event.after, (who, "exit"))
            case events.TaskFailed():
                self.add(of.EXITS, (who, Cause.FAILED.name.lower()))
            case events.SpawnRefused():
                self.add(of.EXITS, (who, Cause.SPAWN_FAILED.name.lower()))
            case events.ProbeFailed():
                self.observe(of.DETECTION, event.after, (who, "probe"))
            case events.ProcessRestarted():
                self.add(of.RESTARTS, (who,))
                self.observe(of.RECOVERY, event.downtime, (who,))
            case _:
                self._hear_rest(event, who)

    def _hear_rest(self, event: events.Event, who: str) -> None:
        match event:
            case events.ProcessGivenUp():
                self.add(of.GIVEN_UP, (who,))
            case events.OutputDropped():
                self.add(of.GAPS, (who, event.stream))
            case events.CallbackFailed():
                self.add(of.CALLBACKS, (who,))
            case events.GuardLost():
                self.add(of.GUARD_LOST)
            case _:
                pass


def label_of(cause: str) -> str:
    """Return a cause as a label: ``signalled``, ``spawn_failed``."""
    return Cause(cause).name.lower()


def copied(series: Mapping[Metric, dict[Labels, float]]) -> Samples:
    """Return samples that do not change any more."""
    return {metric: dict(values) for metric, values in series.items()}


def _nothing(_metric: Metric, _labels: Labels, _value: float) -> None:
    """Do nothing."""
