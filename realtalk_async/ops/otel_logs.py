"""Log entries for OpenTelemetry, by the API of its logs and never its SDK."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from realtalk_async import arguments
from realtalk_async.logs.entry import LogEntry, parse_line
from realtalk_async.ops.otel_traces import NEEDED, span_contexts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from opentelemetry._logs import Logger as OtelLogger
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.context import Context

    from realtalk_async.logs import Logger

OWN = "opentelemetry"
"""The component of OpenTelemetry's own entries: to export them would make further ones."""


@contextlib.asynccontextmanager
async def export_logs(
    logger: Logger, *, provider: LoggerProvider | None = None
) -> AsyncGenerator[None]:
    """
    Give the entries of a log to OpenTelemetry for as long as the block runs.

    The body of a record is the message, and the context makes the attributes, with the
    secrets redacted as in the log. An entry about an incarnation that `export_traces`
    reports on belongs to its span, and any other one to the span that was active at the
    call.

    Args:
        logger: The log.
        provider: The provider of loggers; by default the global one.

    Raises:
        ImportError: If opentelemetry-api is not installed: it comes with the extra
            ``otel``.
        InvalidConfiguration: If an argument is invalid.
    """
    arguments.like("logger", logger, "a Logger", "observe", "get_logs")
    allowed = "a provider of loggers"
    arguments.like("provider", provider, allowed, "get_logger", optional=True)
    try:
        from opentelemetry import _logs
    except ImportError as exc:
        raise ImportError(NEEDED) from exc
    target = _logs.get_logger("realtalk_async", logger_provider=provider)
    records = LogRecords(logger, target)
    end = logger.observe(records.on_line)
    try:
        yield
    finally:
        end()
        _no_span().run(records.emit_waiting)


def _no_span() -> contextvars.Context:
    """Return a context in which no span is active: a record without one has none then."""
    return contextvars.Context()


class LogRecords:
    """
    Makes a record of each line of a log.

    A line is converted in the next turn of the loop: the log has the entry of an event
    before other subscribers have the event, and its span begins with that.

    Args:
        logger: The log.
        target: Where the records go.
    """

    def __init__(self, logger: Logger, target: OtelLogger) -> None:
        self._logger = logger
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[int, bytes, Context]] = deque()
        self._lock = threading.Lock()
        self._is_scheduled = False

    def on_line(self, line: bytes) -> None:
        """Note a line, in the thread of the call."""
        from opentelemetry import context

        self._waiting.append((time.time_ns(), line, context.get_current()))
        if not self._is_scheduled:
            self._is_scheduled = True
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.emit_waiting, context=_no_span())

    def emit_waiting(self) -> None:
        """Emit a record for each line that waits."""
        with self._lock:
            self._is_scheduled = False
            while self._waiting:
                at, line, context = self._waiting.popleft()
                entry = parse_line(line)
                if entry is None or entry.component.partition(".")[0] == OWN:
                    continue
                try:
                    self._emit(at, entry, context)
                except Exception as error:  # noqa: BLE001 - an exporter of the app
                    told = {"message": f"cannot export {entry}", "exception": error}
                    self._loop.call_exception_handler(told)

    def _emit(self, at: int, entry: LogEntry, context: Context) -> None:
        from opentelemetry import trace
        from opentelemetry._logs import SeverityNumber

        number = entry.context.get("incarnation")
        if isinstance(number, int):
            spans = span_contexts(self._logger)
            if own := spans.get((entry.component, number)):
                context = trace.set_span_in_context(trace.NonRecordingSpan(own))
        severity = {"INFO": SeverityNumber.INFO, "WARNING": SeverityNumber.WARN}
        self._target.emit(
            timestamp=at,
            observed_timestamp=at,
            context=context,
            severity_number=severity.get(entry.level, SeverityNumber.ERROR),
            severity_text=entry.level,
            body=entry.message,
            attributes={
                "realtalk.component": entry.component,
                **{name: _attribute(one) for name, one in entry.context.items()},
            },
        )


def _attribute(value: object) -> Any:  # noqa: ANN401 - as OpenTelemetry types it
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list):
        items = cast("list[object]", value)
        if all(isinstance(one, str) for one in items):
            return items
    return json.dumps(value)
