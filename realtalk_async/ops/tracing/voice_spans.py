"""
Spans of a voice session: one for each turn, with its parts below it.

A turn begins with the user's speech, with a request for a response, or with a response that
nobody asked for. It ends when its last response is finished and played, when the user
interrupts it, or when the next turn begins::

    invoke_agent                     the turn
      user_speech
      first_sound                    from the end of the speech to the first sound
      chat MODEL                     each response; another one follows a call of a tool
      execute_tool NAME
      playback
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from realtalk_async.ops.tracing import attributes
from realtalk_async.voice import events

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from realtalk_async.ops.tracing.attributes import Attributes
    from realtalk_async.voice import Stream

_BYTES_PER_SECOND = 48_000
_NO_ERROR = {events.Status.COMPLETED, events.Status.CANCELLED}


@dataclass(slots=True)
class _Turn:
    """One turn; all times are in monotonic seconds."""

    span: Span
    context: Context
    ended_at: float
    """When the user's turn ended."""
    respond_from: float
    """When the next response can begin: at that time, or after a call of a tool."""
    response: Span | None = None
    tools: dict[str, Span] = field(default_factory=dict["str", "Span"])
    finished: bool = False
    """Whether its last response is finished."""
    parts: set[object] = field(default_factory=set[object])
    """The parts of items that its audio belongs to."""
    received: int = 0
    """Bytes of audio."""
    played: int = 0
    first_sound: float | None = None
    played_until: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether nothing more of it can come."""
        return self.finished and not self.tools and self.played >= self.received


class VoiceSpans:
    """
    The spans of one voice session: a listener to its events and its sound.

    Args:
        stream: The session.
        tracer: Where the spans begin.
        parent: The context of their parent, if there is one.
        words: Whether spans have what was said, and arguments and results of tools.
        redact: Hides secrets in texts.
    """

    def __init__(
        self,
        stream: Stream,
        tracer: Tracer,
        parent: Context,
        *,
        words: bool,
        redact: Callable[[str], str],
    ) -> None:
        self._stream = stream
        self._tracer = tracer
        self._parent = parent
        self._words = words
        self._redact = redact
        self._offset = _clock_offset()
        self._turn: _Turn | None = None
        self._speech: float | None = None
        self._session_id = ""
        self._model = ""

    def close(self) -> None:
        """End all spans that are open."""
        self._end_turn(time.monotonic())

    # ---- events

    def on_event(self, event: events.VoiceEvent) -> None:
        """Begin, end or complete spans."""
        now = time.monotonic()
        match event:
            case events.Connected():
                self._session_id, self._model = event.session_id, event.model
            case events.SpeechStarted():
                self._speech = now
            case events.SpeechIgnored():
                self._speech = None
            case events.SpeechStopped():
                self._begin_turn(now, self._speech)
            case events.ResponseRequested():
                if self._turn is None or self._turn.finished:
                    self._begin_turn(now, None)
            case events.ResponseStarted():
                self._begin_response(event.response_id, now)
            case events.ResponseFinished():
                self._end_response(event.outcome, now)
            case events.ToolCalled():
                self._begin_tool(event, now)
            case events.ToolFinished():
                self._end_tool(event, now)
            case _:
                self._add_event(event, now)

    # ---- sound

    def recorded(self, pcm: bytes, at: float) -> None:
        """Do nothing: a turn has no sound of the recorder."""

    def received(self, part: object, pcm: bytes, at: float) -> None:
        """Count audio of the service."""
        if self._turn is not None:
            self._turn.parts.add(part)
            self._turn.received += len(pcm)

    def played(self, part: object, pcm: bytes, at: float) -> None:
        """Note audio that is audible from *at* on."""
        turn = self._turn
        if turn is None or part not in turn.parts:
            return  # silence, or the rest of the turn before
        turn.played += len(pcm)
        turn.played_until = at + len(pcm) / _BYTES_PER_SECOND
        if turn.first_sound is None:
            turn.first_sound = at
        if turn.is_over:
            self._end_turn(turn.played_until)

    # ---- turns

    def _begin_turn(self, now: float, speech: float | None) -> _Turn:
        self._end_turn(now if speech is None else speech)
        self._speech = None
        begin = now if speech is None else speech
        self._offset = _clock_offset()  # the same for all spans of a turn
        from opentelemetry.trace import set_span_in_context

        given = attributes.of_turn(self._session_id, self._model)
        given["gen_ai.operation.name"] = "invoke_agent"
        span = self._tracer.start_span(
            "invoke_agent",
            self._parent,
            attributes=given,
            start_time=self._wall(begin),
        )
        turn = _Turn(span, set_span_in_context(span, self._parent), now, now)
        self._turn = turn
        if speech is not None:
            self._add_part("user_speech", turn, speech, now)
        return turn

    def _end_turn(self, at: float) -> None:
        turn, self._turn = self._turn, None
        if turn is None:
            return
        for span in (turn.response, *turn.tools.values()):
            if span is not None:
                span.end(self._wall(at))
        if turn.first_sound is not None:
            first = turn.first_sound
            self._add_part("first_sound", turn, turn.ended_at, first)
            # The player has a little more than what the clock has reached.
            self._add_part("playback", turn, first, min(turn.played_until, at))
            seconds = max(first - turn.ended_at, 0.0)
            turn.span.set_attribute("realtalk.first_sound.seconds", seconds)
        turn.span.end(self._wall(at))

    def _start(
        self, name: str, turn: _Turn, begin: float, given: Attributes | None = None
    ) -> Span:
        return self._tracer.start_span(
            name, turn.context, attributes=given, start_time=self._wall(begin)
        )

    def _add_part(self, name: str, turn: _Turn, begin: float, end: float) -> None:
        self._start(name, turn, begin).end(self._wall(max(begin, end)))

    def _add_event(self, event: events.VoiceEvent, now: float) -> None:
        turn = self._turn
        if turn is None:
            return
        match event:
            case events.Interrupted():
                heard = {"realtalk.heard_ms": event.heard_ms}
                turn.span.add_event(event.kind, heard, self._wall(now))
                turn.received = turn.played  # the rest is not played
                if turn.is_over:
                    self._end_turn(now)
            case events.ConnectionLost():
                reason = {"realtalk.reason": self._redact(event.reason)}
                turn.span.add_event(event.kind, reason, self._wall(now))
            case events.ServiceError():
                code = {"error.type": event.code}
                turn.span.add_event(event.kind, code, self._wall(now))
            case events.ConnectionRestored() | events.PlayerSwitched():
                turn.span.add_event(event.kind, None, self._wall(now))
            case _:
                return

    # ---- responses

    def _begin_response(self, response_id: str, now: float) -> None:
        from opentelemetry.trace import SpanKind

        turn = self._turn
        if turn is None or turn.finished:
            turn = self._begin_turn(now, None)
        if turn.response is not None:
            turn.response.end(self._wall(now))
        given = attributes.of_turn(self._session_id, self._model)
        given["gen_ai.operation.name"] = "chat"
        given["gen_ai.response.id"] = response_id
        turn.response = self._tracer.start_span(
            f"chat {self._model}".strip(),
            turn.context,
            kind=SpanKind.CLIENT,
            attributes=given,
            start_time=self._wall(turn.respond_from),
        )

    def _end_response(self, outcome: events.Outcome, now: float) -> None:
        turn = self._turn
        if turn is None:
            return
        if turn.response is None:  # it never started
            self._begin_response(outcome.response_id, now)
        span, turn.response = turn.response, None
        assert span is not None
        spoken = turn.received > 0
        given = attributes.of_response(outcome, spoken=spoken)
        span.set_attributes(given)
        if self._words:
            self._add_words(span, outcome)
        if outcome.status not in _NO_ERROR:
            self._set_error(span, str(outcome.status), outcome.reason)
            self._set_error(turn.span, str(outcome.status), outcome.reason)
        span.end(self._wall(now))
        turn.respond_from = now
        turn.finished = not outcome.is_mere_call  # else another response follows
        if turn.is_over:
            self._end_turn(max(now, turn.played_until))

    def _add_words(self, span: Span, outcome: events.Outcome) -> None:
        said = [
            each.content for each in self._stream.conversation() if each.role == "user"
        ]
        if said:
            asked = attributes.message("user", self._redact(said[-1]))
            span.set_attribute("gen_ai.input.messages", asked)
        if outcome.text:
            text = self._redact(outcome.text)
            answer = attributes.message("assistant", text, str(outcome.status))
            span.set_attribute("gen_ai.output.messages", answer)

    # ---- tools

    def _begin_tool(self, event: events.ToolCalled, now: float) -> None:
        turn = self._turn
        if turn is None:
            return
        given = attributes.of_tool(event.call_id, event.name)
        if self._words:
            given["gen_ai.tool.call.arguments"] = self._redact(event.arguments)
        turn.tools[event.call_id] = self._start(
            f"execute_tool {event.name}", turn, now, given
        )

    def _end_tool(self, event: events.ToolFinished, now: float) -> None:
        turn = self._turn
        span = turn.tools.pop(event.call_id, None) if turn else None
        if turn is None or span is None:
            return
        if self._words:
            output = self._redact(event.output)
            span.set_attribute("gen_ai.tool.call.result", output)
        if event.cancelled:
            span.set_attribute("error.type", "cancelled")
        elif event.failed:
            lines = event.error.strip().splitlines() if self._words else []
            self._set_error(span, "tool_error", lines[-1] if lines else "it failed")
        span.end(self._wall(now))
        turn.respond_from = now
        if turn.is_over:
            self._end_turn(now)

    def _wall(self, at: float) -> int:
        """Return a monotonic time as nanoseconds since the epoch."""
        return self._offset + int(at * 1e9)

    def _set_error(self, span: Span, error_type: str, reason: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        span.set_attribute("error.type", error_type)
        span.set_status(Status(StatusCode.ERROR, self._redact(reason)))


def _clock_offset() -> int:
    """Return the nanoseconds from the monotonic clock to the time since the epoch."""
    return time.time_ns() - time.monotonic_ns()
