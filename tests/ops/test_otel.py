"""OpenTelemetry gets the same metrics as Prometheus, under the same names."""

import asyncio
import subprocess
import sys

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import REGISTRY

from realtalk_async import ProcessManager, RestartPolicy
from realtalk_async.ops import export_metrics
from realtalk_async.ops import metrics as catalogue
from realtalk_async.testing import programs

AT_ONCE = RestartPolicy("permanent", first_delay=0, max_failures=100)


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader):
    """Return a meter provider that exports to that reader only."""
    provider = MeterProvider([reader])
    yield provider
    provider.shutdown()


async def read(reader):
    """Return data points by metric and attributes, collected in the SDK's thread."""
    data = await asyncio.to_thread(reader.get_metrics_data)
    return {
        (metric.name, *sorted(point.attributes.values())): point
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


async def test_an_exit_is_exported_as_counters_and_histograms_with_our_bounds(
    manager, reader, provider
):
    async with export_metrics(manager, provider=provider):
        mic = await manager.start("mic", programs.runs(), restart=AT_ONCE)
        await mic.wait_for_line("ready")
        mic.send_signal(9)
        async with asyncio.timeout(120):
            while mic.restarts < 1:
                await asyncio.sleep(0.01)
        points = await read(reader)
    assert points["realtalk.process.restarts", "mic"].value == 1
    assert points["realtalk.process.exits", "mic", "signalled"].value == 1
    assert points["realtalk.process.state", "mic", "running"].value == 1
    assert points["realtalk.process.output", "mic", "stdout"].value >= len("ready\n")
    recovery = points["realtalk.process.recovery.duration", "mic"]
    assert (recovery.count, recovery.explicit_bounds) == (1, catalogue.WIDE_BOUNDS)
    assert points["realtalk.loop.overdue",].value < 30


async def test_the_last_values_are_exported_once_after_the_block(
    manager, reader, provider
):
    """So that a last export has them, and the next app's values are not mixed with them."""
    async with export_metrics(manager, provider=provider):
        one = await manager.start("one", programs.prints("done"))
        await one.wait()
    points = await read(reader)
    assert points["realtalk.process.exits", "finished", "one"].value == 1
    exported = {name for name, *_ in await read(reader)}
    histograms = {one.name for one in catalogue.SUPERVISION if one.kind == "histogram"}
    assert exported <= histograms


async def test_prometheus_names_are_those_of_the_official_exporter(manager):
    exporter = PrometheusMetricReader()
    provider = MeterProvider([exporter])
    try:
        async with export_metrics(manager, provider=provider) as collector:
            for metric in catalogue.SUPERVISION:
                labels = tuple("x" for _ in metric.labels)
                if metric.kind == "histogram":
                    collector.registry.observe(metric, 1.0, labels)
                elif metric.kind == "counter":
                    collector.registry.add(metric, labels)
            await manager.start("mic", programs.runs())
            families = await asyncio.to_thread(lambda: list(REGISTRY.collect()))
    finally:
        provider.shutdown()
    theirs = {one.name for one in families if one.name.startswith("realtalk")}
    assert theirs == {one.prometheus_name for one in catalogue.SUPERVISION}


def test_without_opentelemetry_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "import asyncio\n"
        "from realtalk_async import Logger, ProcessManager\n"
        "from realtalk_async.ops import export_metrics\n"
        "async def main():\n"
        "    async with Logger('/dev/null') as log, ProcessManager(log) as manager:\n"
        "        async with export_metrics(manager): pass\n"
        "asyncio.run(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240
    )
    assert "pip install 'realtalk-async[otel]'" in done.stderr


def test_a_collector_loads_neither_exporter_nor_the_voice_package():
    code = (
        "import sys, realtalk_async, realtalk_async.supervision.manager\n"
        "import realtalk_async.ops, realtalk_async.ops.collector\n"
        "found = [m for m in sys.modules if m.startswith(('opentel', 'prometheus'))]\n"
        "found += [m for m in sys.modules if m.startswith('realtalk_async.voice')]\n"
        "print(found)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240
    )
    assert done.stdout == "[]\n", done.stderr


async def test_two_exports_on_one_provider_are_both_counted_and_a_manager_once(
    logger, manager, reader, provider
):
    async with (
        ProcessManager(logger, guard=False) as other,
        export_metrics(manager, provider=provider),
        export_metrics(manager, provider=provider),
        export_metrics(other, provider=provider),
    ):
        for one, name in (manager, "one"), (other, "two"):
            process = await one.start(name, programs.exits(0), restart="temporary")
            await process.wait()
        points = await read(reader)
    assert points["realtalk.process.exits", "finished", "one"].value == 1
    assert points["realtalk.process.exits", "finished", "two"].value == 1
