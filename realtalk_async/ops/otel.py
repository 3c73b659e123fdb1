"""
The same figures for OpenTelemetry, by its API and never its SDK.

The app chooses the SDK and where its figures go; without one the API does nothing.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

from realtalk_async.ops import metrics as of
from realtalk_async.ops.collector import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider
    from opentelemetry.metrics import Observation as Observed

    from realtalk_async.supervision import ProcessManager
    from realtalk_async.voice import Stream


@contextlib.asynccontextmanager
async def export_metrics(
    manager: ProcessManager,
    *,
    stream: Stream | None = None,
    provider: MeterProvider | None = None,
) -> AsyncGenerator[Watch]:
    """
    Give the figures of an app to OpenTelemetry for as long as the block runs.

    Names, units and buckets are those of ``/metrics``. They are asked for by the thread of
    the SDK's reader; what the loop tells costs it no more than a scrape does.

    Args:
        manager: Whose processes are told of.
        stream: The voice session, if there is one.
        provider: Where the meter comes from; the global one if omitted.

    Raises:
        ImportError: If opentelemetry-api is not installed: it comes with the extra
            ``otel``.
    """
    try:
        from opentelemetry import metrics
    except ImportError as exc:
        raise ImportError(
            "OpenTelemetry's API is needed: pip install 'realtalk-async[otel]'"
        ) from exc
    meter = metrics.get_meter("realtalk_async", meter_provider=provider)
    async with Watch(manager, stream) as watch:
        _instrument(meter, watch, (*of.SUPERVISION, *(of.VOICE if stream else ())))
        try:
            yield watch
        finally:
            watch.tally.on_value = _forget


def _instrument(meter: Meter, watch: Watch, metrics: Iterable[of.Metric]) -> None:
    """Make an instrument of each metric."""
    histograms: dict[of.Metric, Histogram] = {}
    last: set[of.Metric] = set()
    for metric in metrics:
        about = metric.name, metric.unit, metric.help
        if metric.kind == "histogram":
            histograms[metric] = meter.create_histogram(
                *about, explicit_bucket_boundaries_advisory=metric.bounds
            )
            continue
        make = (
            meter.create_observable_counter
            if metric.kind == "counter"
            else meter.create_observable_gauge
        )
        name, unit, text = about
        make(name, [functools.partial(_observe, watch, metric, last)], unit, text)

    def record(metric: of.Metric, labels: of.Labels, value: float) -> None:
        attributes = dict(zip(metric.labels, labels, strict=True))
        histograms[metric].record(value, attributes)

    watch.tally.on_value = record


def _observe(
    watch: Watch, metric: of.Metric, last: set[of.Metric], _options: CallbackOptions
) -> Iterable[Observed]:
    """Yield the values of a metric; once more after the end, as nothing unregisters it."""
    from opentelemetry.metrics import Observation

    if watch.is_over:
        if metric in last:
            return
        last.add(metric)
    for labels, value in watch.look().samples.get(metric, {}).items():
        yield Observation(value, dict(zip(metric.labels, labels, strict=True)))


def _forget(_metric: of.Metric, _labels: of.Labels, _value: float) -> None:
    """Record nothing any more."""
