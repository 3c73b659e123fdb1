"""
The same metrics for OpenTelemetry, by its API and never its SDK.

The app chooses the SDK and the exporter; without an SDK the API does nothing.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from realtalk_async import arguments
from realtalk_async.ops import metrics as catalogue
from realtalk_async.ops.collector import Collector

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from opentelemetry.metrics import (
        CallbackOptions,
        Histogram,
        Meter,
        MeterProvider,
        Observation,
    )

    from realtalk_async.supervision import ProcessManager
    from realtalk_async.voice import Stream


Observe = Callable[["CallbackOptions"], "Iterable[Observation]"]

_sources: WeakKeyDictionary[MeterProvider, dict[str, list[Observe]]] = (
    WeakKeyDictionary()
)
"""By provider and metric, what its one instrument observes: a second one is ignored."""


_managers: WeakKeyDictionary[MeterProvider, set[ProcessManager]] = WeakKeyDictionary()
"""By provider, the managers whose processes are exported: each process once."""


@contextlib.asynccontextmanager
async def export_metrics(
    manager: ProcessManager,
    *,
    stream: Stream | None = None,
    provider: MeterProvider | None = None,
) -> AsyncGenerator[Collector]:
    """
    Give the metrics of an app to OpenTelemetry for as long as the block runs.

    Names, units and buckets are those of ``/metrics``. The SDK's reader asks for them in
    its own thread, which costs the event loop as little as a scrape does.

    Args:
        manager: The manager of the processes to report on.
        stream: The voice session, if there is one.
        provider: The provider of the meter; by default the global one.

    Yields:
        The collector of the app.

    Raises:
        ImportError: If opentelemetry-api is not installed: it comes with the extra
            ``otel``.
        InvalidConfiguration: If an argument is invalid.
    """
    arguments.a_manager("manager", manager)
    arguments.a_stream("stream", stream, optional=True)
    allowed = "a provider of meters"
    arguments.like("provider", provider, allowed, "get_meter", optional=True)
    try:
        from opentelemetry import metrics
    except ImportError as exc:
        raise ImportError(
            "OpenTelemetry's API is needed: pip install 'realtalk-async[otel]'"
        ) from exc
    meter = metrics.get_meter("realtalk_async", meter_provider=provider)
    provider = provider or metrics.get_meter_provider()
    managers = _managers.setdefault(provider, set())
    is_new = manager not in managers  # several sessions may share a manager
    managers.add(manager)
    metrics_of_app = (
        *(catalogue.SUPERVISION if is_new else ()),
        *(catalogue.VOICE if stream else ()),
    )
    async with Collector(manager, stream) as collector:
        sources = _sources.setdefault(provider, {})
        _create_instruments(meter, collector, metrics_of_app, sources)
        try:
            yield collector
        finally:
            collector.registry.on_observation = None
            if is_new:
                managers.discard(manager)


def _create_instruments(
    meter: Meter,
    collector: Collector,
    metrics: Iterable[catalogue.Metric],
    sources: dict[str, list[Observe]],
) -> None:
    histograms: dict[catalogue.Metric, Histogram] = {}
    exported: set[catalogue.Metric] = set()
    for metric in metrics:
        if metric.kind == "histogram":
            histograms[metric] = meter.create_histogram(
                metric.name,
                unit=metric.unit,
                description=metric.help,
                explicit_bucket_boundaries_advisory=metric.bounds,
            )
            continue
        create = (
            meter.create_observable_counter
            if metric.kind == "counter"
            else meter.create_observable_gauge
        )
        observe = functools.partial(_observe, collector, metric, exported)
        if metric.name in sources:
            sources[metric.name].append(observe)
            continue
        sources[metric.name] = [observe]
        callback = functools.partial(_observe_all, sources[metric.name])
        create(metric.name, [callback], unit=metric.unit, description=metric.help)

    def record(
        metric: catalogue.Metric, labels: catalogue.Labels, value: float
    ) -> None:
        attributes = dict(zip(metric.labels, labels, strict=True))
        if metric in histograms:
            histograms[metric].record(value, attributes)

    collector.registry.on_observation = record


def _observe_all(
    sources: list[Observe], options: CallbackOptions
) -> Iterable[Observation]:
    """Yield the values of all apps that share a provider."""
    for observe in sources:
        yield from observe(options)


def _observe(
    collector: Collector,
    metric: catalogue.Metric,
    exported: set[catalogue.Metric],
    _options: CallbackOptions,
) -> Iterable[Observation]:
    """Yield a metric's values; after the end once more, as nothing unregisters this."""
    from opentelemetry.metrics import Observation

    if collector.closed:
        if metric in exported:
            return
        exported.add(metric)
    for labels, value in collector.snapshot().samples.get(metric, {}).items():
        yield Observation(value, dict(zip(metric.labels, labels, strict=True)))
