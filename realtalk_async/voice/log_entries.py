"""How a voice event reads in the log: its level, its component, its words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from realtalk_async.voice import events
from realtalk_async.voice.events import Status

Level = Literal["INFO", "WARNING", "ERROR"]
Line: TypeAlias = tuple[Level, str, str, Mapping[str, object]]
"""Level, component, message, context."""

SESSION = "session"
CONNECTION = "connection"

_AS_IT_SHOULD_BE = (Status.COMPLETED, Status.CANCELLED)


def narrate(event: events.VoiceEvent) -> Line | None:
    """Return the log entry for *event*; ``None`` for what happens all the time."""
    match event:
        case events.ResponseText():
            return None
        case events.Connected():
            told = {"session": event.session_id, "model": event.model}
            return "INFO", CONNECTION, "Connected", told
        case events.ConnectionLost():
            return "ERROR", CONNECTION, "Connection lost", {"reason": event.reason}
        case events.ConnectionRecycled():
            return "INFO", CONNECTION, "Connection recycled", {"age": round(event.age)}
        case events.ConnectionRestored():
            gap = {"downtime": round(event.downtime, 3), "replayed": event.replayed}
            return "INFO", CONNECTION, "Connection restored", gap
        case events.SpeechStarted() | events.SpeechStopped() | events.ResponseStarted():
            return "INFO", SESSION, str(event).capitalize(), {}
        case events.UserTranscript():
            return "INFO", SESSION, "User said", {"text": event.text}
        case events.ResponseFinished():
            return _reply(event.outcome)
        case events.Interrupted():
            times = {"heard_ms": event.heard_ms, "received_ms": event.received_ms}
            return "INFO", SESSION, "Reply interrupted", {**times, "text": event.text}
        case events.ToolCalled() | events.ToolFinished():
            return _tool(event)
        case _:
            return _trouble(event)


def _tool(event: events.ToolCalled | events.ToolFinished) -> Line:
    if isinstance(event, events.ToolCalled):
        called = {"name": event.name, "arguments": event.arguments}
        return "INFO", SESSION, "Tool called", called
    seconds = round(event.seconds, 3)
    told = {"name": event.name, "output": event.output, "seconds": seconds}
    if event.failed:
        return "WARNING", SESSION, "Tool failed", told
    return "INFO", SESSION, "Tool answered", told


def _reply(outcome: events.Outcome) -> Line:
    level: Level = "INFO" if outcome.status in _AS_IT_SHOULD_BE else "WARNING"
    context: dict[str, object] = {"text": outcome.text}
    if outcome.reason:
        context["reason"] = outcome.reason
    return level, SESSION, f"Reply {outcome.status}", context


def _trouble(event: events.VoiceEvent) -> Line:
    match event:
        case events.DeviceFailed():
            told = {"trouble": str(event.trouble), "advice": event.advice}
            return "WARNING", event.device, "Device failed", told
        case events.ServiceError():
            level: Level = "ERROR" if event.fatal else "WARNING"
            context = {"code": event.code, "error": event.message, "about": event.about}
            return level, CONNECTION, "The service reports an error", context
        case events.ProtocolProblem():
            return "WARNING", CONNECTION, "Skipped", {"reason": event.reason}
        case events.UnknownEvent():
            return "WARNING", CONNECTION, "Unknown event", {"type": event.type}
        case events.TranscriptionFailed():
            return "WARNING", SESSION, "Not transcribed", {"reason": event.reason}
        case _:
            return "WARNING", SESSION, str(event), {}
