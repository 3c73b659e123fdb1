"""
Figures in Prometheus's text format. An edge: the official client, prometheus_client.

It is kept by the Prometheus project itself, depends on nothing, and knows both exposition
formats; it is used for the format alone, as what is counted here needs no second registry.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar, cast

# What `make_wsgi_app` returns it does not say.
from prometheus_client import (
    CollectorRegistry,
    make_wsgi_app,  # pyright: ignore[reportUnknownVariableType]
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Sample,
)

from realtalk_async.ops import metrics as of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import WSGIApplication

    from prometheus_client import Metric

    from realtalk_async.ops.collector import Look, Watch
    from realtalk_async.ops.counters import Distribution


AT_ONCE = 32
"""Samples that are rendered before the interpreter is let go of: 0.1 ms."""

Item = TypeVar("Item")


def courteous(items: Iterable[Item]) -> Iterator[Item]:
    """
    Yield all, and let other threads have the interpreter now and then.

    A thread that does not let go of it has the event loop wait for 5 ms, and a big scrape
    is many times as long.
    """
    for number, item in enumerate(items):
        if number % AT_ONCE == 0:
            time.sleep(0)
        yield item


class Samples(list[Sample]):
    """Samples that are rendered courteously."""

    def __iter__(self) -> Iterator[Sample]:
        return courteous(super().__iter__())


class Collector:
    """
    Tells a registry of prometheus_client the figures of an app, when it is scraped.

    Args:
        watch: Who looks at the app.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        """Yield all that has a value."""
        look = self._watch.look()
        for metric in (*of.SUPERVISION, *of.VOICE):
            if metric in look.samples or metric in look.distributions:
                family = _family(metric, look)
                family.samples = Samples(family.samples)
                yield family

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: so that a registry does not scrape when it is made."""
        return iter(())


def pages_of(watch: Watch) -> WSGIApplication:
    """Return what answers a scrape with the figures of one app, and of nothing else."""
    registry = CollectorRegistry()
    registry.register(Collector(watch))
    return cast("WSGIApplication", make_wsgi_app(registry))


def _family(metric: of.Metric, look: Look) -> Metric:
    about = metric.prometheus, metric.help
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(*about, labels=metric.labels)
        for labels, one in courteous(sorted(look.distributions[metric].items())):
            histogram.add_metric(labels, _buckets(metric, one), one.total)
        return histogram
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(*about, labels=metric.labels)
    for labels, value in courteous(sorted(look.samples[metric].items())):
        family.add_metric(labels, value)
    return family


def _buckets(metric: of.Metric, one: Distribution) -> list[tuple[str, float]]:
    bounds = [*(str(bound) for bound in metric.bounds), "+Inf"]
    return [*zip(bounds, map(float, one.cumulative), strict=True)]
