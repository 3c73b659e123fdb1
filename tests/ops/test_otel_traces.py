"""OpenTelemetry gets a span for each incarnation, restart and failure."""

import asyncio
import contextlib
import os

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from realtalk_async import (
    Command,
    GaveUp,
    InvalidConfiguration,
    Logger,
    ProcessManager,
    RestartPolicy,
    SpawnFailed,
)
from realtalk_async.ops import export_traces
from realtalk_async.testing import programs

AT_ONCE = RestartPolicy("permanent", first_delay=0, max_failures=1)


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter):
    """Return a provider of tracers that exports to memory."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


async def wait_for_spans(exporter, number):
    async with asyncio.timeout(60):
        while len(exporter.get_finished_spans()) < number:
            await asyncio.sleep(0.01)
    return exporter.get_finished_spans()


async def test_a_death_and_its_restart_are_two_spans_and_links(
    manager, exporter, provider
):
    command = Command("sh", "-c", "echo no device >&2; kill -9 $$")
    async with export_traces(manager, provider=provider):
        await manager.start("mic", command, restart=AT_ONCE)
        first, restart, second, given_up = await wait_for_spans(exporter, 4)
    assert first.name == second.name == "mic"
    assert dict(first.attributes) == {
        "realtalk.process.name": "mic",
        "realtalk.process.incarnation": 1,
        "realtalk.process.cause": "signalled",
        "process.pid": first.attributes["process.pid"],
        "process.command": "sh",
        "process.command_line": "sh -c 'echo no device >&2; kill -9 $$'",
        "process.executable.name": "sh",
        "process.exit.code": 137,
        "error.type": "SIGKILL",
    }
    assert first.status.status_code is StatusCode.ERROR
    assert "no device" in first.status.description
    assert "killed by SIGKILL" in first.status.description
    assert restart.name == given_up.name == "restart mic"
    assert restart.status.status_code is StatusCode.UNSET
    assert restart.attributes["process.pid"] == second.attributes["process.pid"]
    assert given_up.status.status_code is StatusCode.ERROR
    assert "max_failures" in given_up.status.description
    assert first.start_time < first.end_time <= restart.end_time
    assert [one.context for one in restart.links] == [first.context]
    assert [one.context for one in second.links] == [first.context]
    assert [one.context for one in given_up.links] == [second.context]


async def test_a_span_of_the_app_is_the_parent_and_a_stop_is_no_error(
    logger, exporter, provider
):
    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span("serve") as parent:
        manager = ProcessManager(logger)
        async with export_traces(manager, provider=provider), manager:
            one = await manager.start("one", programs.runs())
            await one.wait_for_line("ready")
    stopped, _ = exporter.get_finished_spans()
    assert stopped.parent == parent.get_span_context()
    assert stopped.status.status_code is StatusCode.UNSET
    assert stopped.attributes["process.exit.code"] == 143
    assert "error.type" not in stopped.attributes
    assert "process.stop_step" in [event.name for event in stopped.events]


async def test_a_process_that_runs_already_has_a_span_from_its_start(
    manager, exporter, provider
):
    one = await manager.start("one", programs.runs())
    async with export_traces(manager, provider=provider):
        pass
    (span,) = exporter.get_finished_spans()
    assert span.attributes["process.pid"] == one.pid
    began = one.get_status().started_at.timestamp()
    assert span.start_time == pytest.approx(began * 1e9, abs=1e6)


async def test_a_start_that_is_refused_is_a_span_with_its_reason(
    manager, exporter, provider, tmp_path
):
    program = tmp_path / "program"
    program.write_text("no program")
    program.chmod(0o755)
    async with export_traces(manager, provider=provider):
        with pytest.raises((SpawnFailed, InvalidConfiguration, GaveUp)):
            await manager.start("one", [str(program)], restart="temporary")
    span = exporter.get_finished_spans()[0]
    assert span.name == "one"
    assert span.status.status_code is StatusCode.ERROR
    assert "Exec format error" in span.status.description


async def test_a_function_that_raises_is_a_span_with_the_exception(
    manager, exporter, provider
):
    async def fail():
        raise ValueError("no such voice")

    async with export_traces(manager, provider=provider):
        with contextlib.suppress(GaveUp):
            await manager.start_task("voice", fail, restart="temporary")
        span, *_ = await wait_for_spans(exporter, 1)
    (event,) = span.events
    assert span.name == "voice"
    assert event.attributes["exception.type"] == "ValueError"
    assert "no such voice" in event.attributes["exception.stacktrace"]
    assert span.status.description == "ValueError: no such voice"


async def test_no_span_has_a_secret(exporter, provider, tmp_path):
    logger = Logger(tmp_path / "app.log", secrets=["hunter2"])
    async with (
        logger,
        ProcessManager(logger) as manager,
        export_traces(manager, provider=provider),
    ):
        command = ["sh", "-c", "echo hunter2 >&2; exit 3", "api_key=sk-12345"]
        one = await manager.start("one", command, restart="temporary")
        await one.wait()
        await wait_for_spans(exporter, 1)
    texts = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert "hunter2" not in texts
    assert "sk-12345" not in texts
    assert "exit status 3" in texts


async def test_a_provider_of_another_kind_is_refused(manager):
    with pytest.raises(InvalidConfiguration, match="a provider of tracers"):
        await export_traces(manager, provider=os).__aenter__()
