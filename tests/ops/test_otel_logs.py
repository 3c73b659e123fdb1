"""OpenTelemetry gets the entries of the log, with their spans."""

import asyncio
import logging
import sys
import threading

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.trace import TracerProvider

from realtalk_async import InvalidConfiguration, Logger
from realtalk_async.ops import export_logs, export_traces
from realtalk_async.testing import programs


@pytest.fixture
def exporter():
    return InMemoryLogRecordExporter()


@pytest.fixture
def provider(exporter):
    """Return a provider of loggers that exports to memory."""
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    return provider


def records(exporter):
    return [one.log_record for one in exporter.get_finished_logs()]


@pytest.mark.parametrize("line_format", ["text", "json"])
async def test_an_entry_is_a_record_of_its_level_with_its_context(
    line_format, exporter, provider, tmp_path
):
    logger = Logger(tmp_path / "app.log", line_format=line_format, secrets=["hunter2"])
    async with logger, export_logs(logger, provider=provider):
        logger.info(
            "mic", "hello\nhunter2", {"n": 1, "rows": ["a"], "deep": {"b": [1]}}
        )
        logger.warning("mic", "careful")
        logger.error("mic", "gone", {"api_key": "abc"})
    logger.info("mic", "after the block")
    first, second, third = records(exporter)
    assert first.body == "hello\n[redacted]"
    assert dict(first.attributes) == {
        "realtalk.component": "mic",
        "n": 1,
        "rows": ("a",),
        "deep": '{"b": [1]}',
    }
    assert first.severity_text == "INFO"
    assert first.timestamp <= second.timestamp <= third.timestamp
    assert second.severity_number is SeverityNumber.WARN
    assert third.severity_number is SeverityNumber.ERROR
    assert third.attributes["api_key"] == "[redacted]"


async def test_an_entry_belongs_to_the_span_of_the_call_or_of_its_incarnation(
    logger, manager, exporter, provider
):
    traces = TracerProvider()
    tracer = traces.get_tracer("app")
    async with (
        export_logs(logger, provider=provider),
        export_traces(manager, provider=traces),
    ):
        with tracer.start_as_current_span("request") as request:
            logger.info("app", "in a request")
            thread = threading.Thread(target=logger.info, args=("app", "in a thread"))
            thread.start()
            thread.join()
            await manager.start("one", programs.runs())
        await manager.stop("one")
    found = {record.body: record for record in records(exporter)}
    assert found["in a request"].span_id == request.get_span_context().span_id
    assert found["in a thread"].span_id == 0
    started, stopped = found["Process started"], found["Process stopped (SIGTERM)"]
    assert started.span_id == stopped.span_id != request.get_span_context().span_id
    assert started.trace_id == stopped.trace_id != 0


async def test_entries_of_opentelemetry_itself_are_not_exported(
    logger, exporter, provider
):
    with logger.install():
        async with export_logs(logger, provider=provider):
            logging.getLogger("opentelemetry.exporter").warning("cannot connect")
            logging.getLogger("app").warning("hello")
    assert [record.body for record in records(exporter)] == ["hello"]


async def test_an_exporter_that_raises_disturbs_neither_log_nor_later_records(
    logger, exporter, provider
):
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what))
    emit = SimpleLogRecordProcessor.on_emit

    class Once(SimpleLogRecordProcessor):
        def on_emit(self, log_record):
            if not told:
                raise ValueError("no exporter")
            emit(self, log_record)

    other = LoggerProvider(shutdown_on_exit=False)
    other.add_log_record_processor(Once(exporter))
    async with export_logs(logger, provider=other):
        logger.info("app", "one")
        logger.info("app", "two")
    assert [record.body for record in records(exporter)] == ["two"]
    assert "cannot export" in told[0]["message"]


async def test_something_that_is_no_logger_is_refused():
    with pytest.raises(InvalidConfiguration, match="a Logger"):
        await export_logs(logging.getLogger()).__aenter__()


async def test_without_opentelemetry_the_error_names_the_extra(
    logger, manager, monkeypatch
):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    for block in export_logs(logger), export_traces(manager):
        with pytest.raises(ImportError, match=r"pip install 'realtalk-async\[otel\]'"):
            await block.__aenter__()
