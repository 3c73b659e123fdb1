"""
Metrics in Prometheus's text formats, rendered by the official client, prometheus_client.

The Prometheus project maintains that client; it has no dependencies and knows both
exposition formats. Only its formats are used: the values come from a `Collector`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar, cast

# `make_wsgi_app` has no return annotation.
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

from realtalk_async.ops import metrics as catalogue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import WSGIApplication

    from prometheus_client import Metric

    from realtalk_async.ops.collector import Collector, Snapshot
    from realtalk_async.ops.registry import HistogramData


SAMPLES_PER_SLICE = 32
"""Samples rendered before the interpreter lock is released: 0.1 ms."""

Item = TypeVar("Item")


def release_gil_between(items: Iterable[Item]) -> Iterator[Item]:
    """
    Yield all items, and release the interpreter lock every few items.

    Otherwise the event loop's thread waits 5 ms for the lock, many times in a big scrape.
    """
    for number, item in enumerate(items):
        if number % SAMPLES_PER_SLICE == 0:
            time.sleep(0)
        yield item


class YieldingSamples(list[Sample]):
    """Samples whose rendering releases the interpreter lock every few samples."""

    def __iter__(self) -> Iterator[Sample]:
        return release_gil_between(super().__iter__())


class PrometheusCollector:
    """
    Gives the metrics of an app to a registry of prometheus_client at each scrape.

    Args:
        collector: The collector of the app.
    """

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterator[Metric]:
        """Yield each metric that has a value."""
        snapshot = self._collector.snapshot()
        for metric in (*catalogue.SUPERVISION, *catalogue.VOICE):
            if metric in snapshot.samples or metric in snapshot.histograms:
                family = _family(metric, snapshot)
                family.samples = YieldingSamples(family.samples)
                yield family

    def describe(self) -> Iterator[Metric]:
        """Yield nothing, so that a registry does not scrape when this is registered."""
        return iter(())


def metrics_application(collector: Collector) -> WSGIApplication:
    """Return a WSGI application that answers a scrape with the metrics of one app."""
    registry = CollectorRegistry()
    registry.register(PrometheusCollector(collector))
    return cast("WSGIApplication", make_wsgi_app(registry))


def _family(metric: catalogue.Metric, snapshot: Snapshot) -> Metric:
    name, text = metric.prometheus_name, metric.help
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(name, text, labels=metric.labels)
        series = sorted(snapshot.histograms[metric].items())
        for labels, data in release_gil_between(series):
            histogram.add_metric(labels, _buckets(metric, data), data.total)
        return histogram
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(name, text, labels=metric.labels)
    for labels, value in release_gil_between(sorted(snapshot.samples[metric].items())):
        family.add_metric(labels, value)
    return family


def _buckets(metric: catalogue.Metric, data: HistogramData) -> list[tuple[str, float]]:
    bounds = [*(str(bound) for bound in metric.bounds), "+Inf"]
    return [*zip(bounds, map(float, data.cumulative), strict=True)]
