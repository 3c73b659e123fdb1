"""
Spans for OpenTelemetry: one for each incarnation of a process, and one for each restart.

By its API and never its SDK: the app chooses the SDK and the exporter.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
from collections import OrderedDict
from datetime import datetime
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from realtalk_async import arguments, events
from realtalk_async.times import now_local

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, Tracer, TracerProvider

    from realtalk_async.supervision import ProcessManager
    from realtalk_async.voice import Stream

MAX_REMEMBERED = 1000
"""Incarnations whose span is remembered for log entries that come later."""

NEEDED = "OpenTelemetry's API is needed: pip install 'realtalk-async[otel]'"

_NO_ERROR = {events.Cause.FINISHED, events.Cause.STOPPED, events.Cause.ESCALATED}
_EVERY_EVENT = {"version", "id", "kind", "at", "process", "incarnation"}

Incarnation = tuple[str, int]
"""The name of a process and the number of its incarnation."""

_contexts: WeakKeyDictionary[object, OrderedDict[Incarnation, SpanContext]] = (
    WeakKeyDictionary()
)


def span_contexts(logger: object) -> Mapping[Incarnation, SpanContext]:
    """Return the spans of the incarnations whose manager logs to *logger*."""
    return _contexts.get(logger, OrderedDict())


@contextlib.asynccontextmanager
async def export_traces(
    manager: ProcessManager,
    stream: Stream | None = None,
    *,
    provider: TracerProvider | None = None,
    record_words: bool = False,
) -> AsyncGenerator[None]:
    """
    Give spans of processes and turns to OpenTelemetry for as long as the block runs.

    Each incarnation is a span with the name of its process, from its start to its exit,
    with the attributes of OpenTelemetry's conventions for processes (``process.pid``,
    ``process.command``, ``process.exit.code``…). A death has the status ERROR with its
    reason. A restart is a span ``restart NAME`` from the death to the new start. Each
    of them has a link to the incarnation before it. Other events, such as a failed probe,
    are events of the span. A failed run of a supervised function is a span too.

    Each turn of a voice session is a span ``invoke_agent``. Below it are the user's speech,
    the time from its end to the first sound, each response (``chat MODEL``), each call of
    a tool (``execute_tool NAME``) and the playback, with the attributes of OpenTelemetry's
    conventions for generative AI (``gen_ai.request.model``, ``gen_ai.usage.input_tokens``,
    ``gen_ai.tool.name``…).

    A span that is active on entry is their parent. Spans that are open at the end of the
    block end there: enter it before the manager's own to have the stops of the processes.

    Args:
        manager: The manager of the processes to report on.
        stream: The voice session to report on, if there is one.
        provider: The provider of the tracer; by default the global one.
        record_words: Whether spans have what user and assistant said, and arguments and
            results of tools, with the secrets hidden that the log hides.

    Raises:
        ImportError: If opentelemetry-api is not installed: it comes with the extra
            ``otel``.
        InvalidConfiguration: If an argument is invalid.
    """
    arguments.a_manager("manager", manager)
    arguments.a_stream("stream", stream, optional=True)
    arguments.flag("record_words", record_words)
    allowed = "a provider of tracers"
    arguments.like("provider", provider, allowed, "get_tracer", optional=True)
    try:
        from opentelemetry import context, trace
    except ImportError as exc:
        raise ImportError(NEEDED) from exc
    tracer = trace.get_tracer("realtalk_async", tracer_provider=provider)
    parent = context.get_current()
    spans = ProcessSpans(manager, tracer, parent)
    unsubscribe = manager.subscribe(spans.on_event)
    try:
        with _turns_of(stream, manager, tracer, parent, words=record_words):
            yield
    finally:
        unsubscribe()
        spans.close()


@contextlib.contextmanager
def _turns_of(
    stream: Stream | None,
    manager: ProcessManager,
    tracer: Tracer,
    parent: Context,
    *,
    words: bool,
) -> Generator[None]:
    """Make spans of a session's turns while the block runs."""
    if stream is None:
        yield
        return
    # Imported here: an app without a voice session does not load that package.
    from realtalk_async.ops.tracing.voice_spans import VoiceSpans
    from realtalk_async.voice.inspection import sound_of

    redact = manager.logger.redact
    turns = VoiceSpans(stream, tracer, parent, words=words, redact=redact)
    sound = sound_of(stream)
    unsubscribe = stream.subscribe(turns.on_event)
    sound.add(turns)
    try:
        yield
    finally:
        unsubscribe()
        sound.remove(turns)
        turns.close()


class ProcessSpans:
    """
    The spans of the processes of one manager.

    Args:
        manager: The manager; the processes that run already have a span at once.
        tracer: Where the spans begin.
        parent: The context of their parent, if there is one.
    """

    def __init__(
        self, manager: ProcessManager, tracer: Tracer, parent: Context
    ) -> None:
        self._tracer = tracer
        self._parent = parent
        self._redact = manager.logger.redact
        self._incarnations: dict[str, Span] = {}
        self._restarts: dict[str, Span] = {}
        self._newest: dict[str, SpanContext] = {}
        self._contexts = _contexts.setdefault(manager.logger, OrderedDict())
        for name, process in manager.processes.items():
            status = process.get_status()
            if status.status == "running" and status.pid is not None:
                command = process.command
                shown = shlex.join(command.argv) if command else ""
                begin = status.started_at or now_local()
                self._begin(name, status.incarnation, status.pid, shown, begin)

    def close(self) -> None:
        """End all spans that are open."""
        for span in (*self._incarnations.values(), *self._restarts.values()):
            span.end()

    def on_event(self, event: events.Event) -> None:
        """Begin, end or complete spans."""
        match event:
            case events.ProcessStarted():
                command = event.command
                self._begin(
                    event.process, event.incarnation, event.pid, command, event.at
                )
            case events.ProcessExited():
                self._end_incarnation(event)
            case events.SpawnRefused():
                self._fail(event.process, event, event.error, "spawn_refused")
            case events.TaskFailed():
                self._add_failed_task(event)
            case events.RestartScheduled():
                self._begin_restart(event, event.at)
            case events.ProcessRestarted():
                self._end_restart(event)
            case events.RestartFailed() | events.ProcessGivenUp():
                self._fail_restart(event, event.reason)
            case events.ProcessStopped(while_down=True):
                if span := self._restarts.pop(event.process, None):
                    span.end(_nanoseconds(event.at))
            case _:
                self._add_event(event)

    # ---- incarnations

    def _start_span(self, name: str, process: str, begin: datetime) -> Span:
        from opentelemetry.trace import Link

        last = self._newest.get(process)
        return self._tracer.start_span(
            name,
            self._parent,
            attributes={"realtalk.process.name": process},
            links=[Link(last)] if last else [],
            start_time=_nanoseconds(begin),
        )

    def _begin(
        self, process: str, number: int, pid: int, command: str, begin: datetime
    ) -> None:
        if span := self._incarnations.pop(process, None):
            span.end(_nanoseconds(begin))  # its exit was never told
        span = self._start_span(process, process, begin)
        span.set_attribute("process.pid", pid)
        span.set_attribute("realtalk.process.incarnation", number)
        if command:
            span.set_attributes(_describe(self._redact(command)))
        self._incarnations[process] = span
        self._remember(process, number, span)

    def _remember(self, process: str, number: int, span: Span) -> None:
        self._newest[process] = span.get_span_context()
        self._contexts[process, number] = span.get_span_context()
        if len(self._contexts) > MAX_REMEMBERED:
            self._contexts.popitem(last=False)

    def _end_incarnation(self, event: events.ProcessExited) -> None:
        span = self._incarnations.pop(event.process, None)
        if span is None:
            return
        status = event.exit_status
        if isinstance(status, int):  # as a shell tells it
            code = 128 - status if status < 0 else status
            span.set_attribute("process.exit.code", code)
        if event.cause not in _NO_ERROR:
            span.set_attribute("error.type", _error_type(event))
            words = f"{event.last_words}; " if event.last_words else ""
            self._set_error(span, words + event.summary)
        span.set_attribute("realtalk.process.cause", event.cause)
        span.end(_nanoseconds(event.at))

    def _set_error(self, span: Span, reason: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        span.set_status(Status(StatusCode.ERROR, self._redact(reason)))

    def _fail(
        self, name: str, event: events.Event, reason: str, error_type: str
    ) -> None:
        """Add a span without duration for what did not even begin."""
        span = self._start_span(name, event.process, event.at)
        span.set_attribute("error.type", error_type)
        self._set_error(span, reason)
        span.end(_nanoseconds(event.at))

    def _add_failed_task(self, event: events.TaskFailed) -> None:
        begin = datetime.fromtimestamp(
            event.at.timestamp() - event.uptime, event.at.tzinfo
        )
        span = self._start_span(event.process, event.process, begin)
        error_type, _, message = event.reason.partition(": ")
        span.set_attribute("realtalk.process.incarnation", event.incarnation)
        span.set_attribute("error.type", error_type)
        exception = {
            "exception.type": error_type,
            "exception.message": self._redact(message),
            "exception.stacktrace": self._redact(event.traceback),
        }
        span.add_event("exception", exception, _nanoseconds(event.at))
        self._set_error(span, event.reason)
        self._remember(event.process, event.incarnation, span)
        span.end(_nanoseconds(event.at))

    def _add_event(self, event: events.Event) -> None:
        span = self._incarnations.get(event.process)
        if span is None:
            return
        attributes: dict[str, Any] = {
            f"realtalk.{name}": self._redact(value) if isinstance(value, str) else value
            for name, value in event.to_dict().items()
            if name not in _EVERY_EVENT and isinstance(value, str | bool | int | float)
        }
        span.add_event(event.kind, attributes, _nanoseconds(event.at))

    # ---- restarts

    def _begin_restart(self, event: events.Event, begin: datetime) -> Span:
        span = self._restarts.pop(event.process, None)
        if span is None:
            name = f"restart {event.process}"
            span = self._start_span(name, event.process, begin)
        if isinstance(event, events.RestartScheduled):
            span.set_attribute("realtalk.restart.reason", self._redact(event.reason))
            span.set_attribute("realtalk.restart.delay", event.delay)
        self._restarts[event.process] = span
        return span

    def _end_restart(self, event: events.ProcessRestarted) -> None:
        begin = datetime.fromtimestamp(
            event.at.timestamp() - event.downtime, event.at.tzinfo
        )
        span = self._begin_restart(event, begin)
        span.set_attribute("process.pid", event.pid)
        del self._restarts[event.process]
        span.end(_nanoseconds(event.at))

    def _fail_restart(self, event: events.Event, reason: str) -> None:
        span = self._begin_restart(event, event.at)
        span.set_attribute("error.type", event.kind.removeprefix("process."))
        self._set_error(span, reason)
        del self._restarts[event.process]
        span.end(_nanoseconds(event.at))


def _describe(command: str) -> dict[str, str]:
    """Return the attributes of a command line."""
    try:
        program = shlex.split(command)[0]
    except (ValueError, IndexError):
        program = command.partition(" ")[0]
    return {
        "process.command": program,
        "process.command_line": command,
        "process.executable.name": os.path.basename(program),
    }


def _error_type(event: events.ProcessExited) -> str:
    """Return a word of few possible values: a signal, an exit status or a cause."""
    status = event.exit_status
    if event.cause == events.Cause.SIGNALLED and isinstance(status, int):
        try:
            return signal.Signals(-status).name
        except ValueError:  # a real-time signal
            return f"signal {-status}"
    return str(status) if event.cause == events.Cause.FAILED else event.cause


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1000
