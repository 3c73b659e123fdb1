"""
The events of a voice session, and the data that they carry. All are frozen.

`Stream.subscribe` and `Stream.events` deliver them.
"""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from realtalk_async.events.base import BaseEvent, EventLogEntry

if TYPE_CHECKING:
    from collections.abc import Mapping


class Status(enum.StrEnum):
    """How a response ended. Every response ends in exactly one of these states."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    """The user interrupted the response, or the app cancelled it."""
    FAILED = "failed"
    """The service could not produce the response, and gives a reason."""
    INCOMPLETE = "incomplete"
    """The service cut the response off: token limit or content filter."""
    LOST = "lost"
    """The connection or the session ended before the response did."""
    STALLED = "stalled"
    """The service sent nothing more about the response for too long."""


class DeviceProblem(enum.StrEnum):
    """The problem of a microphone or a speaker."""

    BUSY = "busy"
    """Another program holds the device."""
    SERVER_GONE = "server gone"
    """The sound server ended, or does not run."""
    MISSING = "missing"
    """The device does not exist."""
    LOST = "lost"
    """The program runs, but no audio passes: the device is usually unplugged."""
    WRONG_RATE = "wrong rate"
    """The audio is at least 10 % slower or faster than its sample rate."""
    DIED = "died"
    """The program exited and its output does not say why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one response ended."""

    response_id: str
    """The id that the service gave; empty if the response never started."""
    status: Status
    text: str
    """The transcript of the audio, or the text."""
    reason: str = ""
    """Why the response did not complete; empty if it did."""
    asked_at: float = 0.0
    """When the response was requested, in monotonic seconds."""
    first_output_at: float | None = None
    """When its first text or audio arrived, in monotonic seconds."""
    ended_at: float = 0.0
    """When the response ended, in monotonic seconds."""
    calls: tuple[str, ...] = ()
    """Names of the tools that the response called; another response follows."""

    @property
    def completed(self) -> bool:
        """Whether it completed."""
        return self.status is Status.COMPLETED

    @property
    def is_mere_call(self) -> bool:
        """Whether the response only called tools: the next response has the answer."""
        return self.completed and bool(self.calls)

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        text = f": {self.text}" if self.text else ""
        return f"{self.status}{why}{text}"


# --- Events -----------------------------------------------------------------------


SESSION = "session"
"""The log component of the session."""
CONNECTION = "connection"
"""The log component of the connection, and the name of its supervised task."""


def _info(component: str, message: str, **context: object) -> EventLogEntry:
    return EventLogEntry("INFO", component, message, context)


def _warning(component: str, message: str, **context: object) -> EventLogEntry:
    return EventLogEntry("WARNING", component, message, context)


def _error(component: str, message: str, **context: object) -> EventLogEntry:
    return EventLogEntry("ERROR", component, message, context)


@dataclass(frozen=True, slots=True)
class VoiceEvent(BaseEvent):
    """An event of a voice session; ``str()`` is one line for people."""

    kind = "voice.event"

    def log_entry(self) -> EventLogEntry | None:
        """Return the log entry of this event; ``None`` if it is too frequent to log."""
        return EventLogEntry("WARNING", SESSION, str(self), {})


class _NotLogged:
    __slots__ = ()

    def log_entry(self) -> EventLogEntry | None:
        return None


@dataclass(frozen=True, slots=True)
class Connected(VoiceEvent):
    """The connection is open and the service has configured the session."""

    kind = "connection.opened"
    session_id: str
    model: str

    def log_entry(self) -> EventLogEntry:
        context = {"session": self.session_id, "model": self.model}
        return _info(CONNECTION, "Connected", **context)

    def __str__(self) -> str:
        return f"connected to {self.model}"


@dataclass(frozen=True, slots=True)
class ConnectionLost(VoiceEvent):
    """The connection broke or the service stopped sending; the client reconnects."""

    kind = "connection.lost"
    reason: str

    def log_entry(self) -> EventLogEntry:
        return _error(CONNECTION, "Connection lost", reason=self.reason)

    def __str__(self) -> str:
        return f"connection lost: {self.reason}"


@dataclass(frozen=True, slots=True)
class ConnectionRecycled(VoiceEvent):
    """The client replaced the connection before the service would end it."""

    kind = "connection.recycled"
    age: float
    """Seconds for which the connection was open."""

    def log_entry(self) -> EventLogEntry:
        return _info(CONNECTION, "Connection recycled", age=round(self.age))

    def __str__(self) -> str:
        return f"connection recycled after {self.age:.0f} s, before it expires"


@dataclass(frozen=True, slots=True)
class ConnectionRestored(VoiceEvent):
    """The connection is open again, and the conversation was replayed as text."""

    kind = "connection.restored"
    downtime: float
    """Seconds without a connection."""
    replayed: int
    """Number of replayed messages, tool calls and tool results."""

    def log_entry(self) -> EventLogEntry:
        context = {"downtime": round(self.downtime, 3), "replayed": self.replayed}
        return _info(CONNECTION, "Connection restored", **context)

    def __str__(self) -> str:
        return (
            f"connection restored after {self.downtime:.1f} s, "
            f"{self.replayed} messages replayed"
        )


@dataclass(frozen=True, slots=True)
class SpeechStarted(VoiceEvent):
    """The service detected the start of the user's speech."""

    kind = "speech.started"
    item_id: str

    def log_entry(self) -> EventLogEntry:
        return _info(SESSION, "Speech started")

    def __str__(self) -> str:
        return "speech started"


@dataclass(frozen=True, slots=True)
class SpeechStopped(VoiceEvent):
    """The service detected the end of the user's speech."""

    kind = "speech.stopped"
    item_id: str

    def log_entry(self) -> EventLogEntry:
        return _info(SESSION, "Speech stopped")

    def __str__(self) -> str:
        return "speech stopped"


@dataclass(frozen=True, slots=True)
class UserTranscript(VoiceEvent):
    """The transcript of the user's speech; it may arrive after the response."""

    kind = "user.transcribed"
    item_id: str
    text: str

    def log_entry(self) -> EventLogEntry:
        return _info(SESSION, "User said", text=self.text)

    def __str__(self) -> str:
        return f"user: {self.text}"


@dataclass(frozen=True, slots=True)
class TranscriptionFailed(VoiceEvent):
    """The service could not transcribe the user's speech."""

    kind = "user.transcription_failed"
    item_id: str
    reason: str

    def log_entry(self) -> EventLogEntry:
        return _warning(SESSION, "Not transcribed", reason=self.reason)

    def __str__(self) -> str:
        return f"not transcribed: {self.reason}"


@dataclass(frozen=True, slots=True)
class ResponseRequested(_NotLogged, VoiceEvent):
    """The client asked the service for a response."""

    kind = "response.requested"

    def __str__(self) -> str:
        return "response requested"


@dataclass(frozen=True, slots=True)
class ResponseStarted(VoiceEvent):
    """A response started."""

    kind = "response.started"
    response_id: str

    def log_entry(self) -> EventLogEntry:
        return _info(SESSION, "Response started")

    def __str__(self) -> str:
        return "response started"


@dataclass(frozen=True, slots=True)
class ResponseText(_NotLogged, VoiceEvent):
    """A part of the text, or of the transcript, of a response arrived."""

    kind = "response.text_added"
    response_id: str
    item_id: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class ResponseFinished(VoiceEvent):
    """A response ended; its audio may still be playing."""

    kind = "response.finished"
    outcome: Outcome

    def log_entry(self) -> EventLogEntry:
        outcome = self.outcome
        expected = outcome.status in {Status.COMPLETED, Status.CANCELLED}
        entry = _info if expected else _warning
        context = {"reason": outcome.reason} if outcome.reason else {}
        message = f"Response {outcome.status}"
        return entry(SESSION, message, text=outcome.text, **context)

    def __str__(self) -> str:
        return f"response {self.outcome}"


@dataclass(frozen=True, slots=True)
class Interrupted(VoiceEvent):
    """The user interrupted a response; the rest of its audio is not played."""

    kind = "response.interrupted"
    item_id: str
    heard_ms: int
    """Milliseconds of the audio that the user heard."""
    received_ms: int
    """Milliseconds of the audio that had arrived."""
    text: str
    """The part of the transcript that was heard (approximate)."""

    def log_entry(self) -> EventLogEntry:
        context = {"heard_ms": self.heard_ms, "received_ms": self.received_ms}
        return _info(SESSION, "Response interrupted", **context, text=self.text)

    def __str__(self) -> str:
        heard = f"{self.heard_ms} of {self.received_ms} ms"
        return f"interrupted after {heard}: {self.text}"


@dataclass(frozen=True, slots=True)
class PlaybackCleared(_NotLogged, VoiceEvent):
    """An interruption dropped the queued audio; the player still plays what it has."""

    kind = "playback.cleared"
    audible_ms: float
    """Milliseconds until the player is silent."""

    def __str__(self) -> str:
        return f"silent in {self.audible_ms:.0f} ms"


@dataclass(frozen=True, slots=True)
class PlayerSwitched(VoiceEvent):
    """The standby player took over from a player that died."""

    kind = "player.switched"
    seconds: float
    """From the discovery of the dead player to the first write to the other."""

    def log_entry(self) -> EventLogEntry | None:
        seconds = round(self.seconds, 3)
        return _info("player", "Standby player took over", seconds=seconds)

    def __str__(self) -> str:
        return f"standby player took over within {self.seconds * 1000:.0f} ms"


@dataclass(frozen=True, slots=True)
class ToolCalled(VoiceEvent):
    """The service calls a tool."""

    kind = "tool.called"
    call_id: str
    name: str
    arguments: str
    """A JSON object."""

    def log_entry(self) -> EventLogEntry:
        context = {"name": self.name, "arguments": self.arguments}
        return _info(SESSION, "Tool called", **context)

    def __str__(self) -> str:
        return f"{self.name} called with {self.arguments}"


@dataclass(frozen=True, slots=True)
class ToolFinished(VoiceEvent):
    """A tool returned or failed; its output is sent to the service."""

    kind = "tool.finished"
    call_id: str
    name: str
    output: str
    """The output that the service receives."""
    seconds: float
    """Duration of the call."""
    failed: bool = field(default=False, kw_only=True)
    error: str = field(default="", kw_only=True)
    """The traceback of the exception that it raised; the service does not receive it."""
    blocked: float = field(default=0.0, kw_only=True)
    """The longest time, in seconds, that it kept the event loop; 0 if that was short."""

    def log_entry(self) -> EventLogEntry:
        context: dict[str, object] = {"name": self.name, "output": self.output}
        context["seconds"] = round(self.seconds, 3)
        if self.error:
            context["error"] = self.error
        if self.blocked:
            context["blocked"] = round(self.blocked, 3)
        if self.failed:
            return _warning(SESSION, "Tool failed", **context)
        if self.blocked:
            what = "Tool blocked the event loop: without async it would run in a thread"
            return _warning(SESSION, what, **context)
        return _info(SESSION, "Tool finished", **context)

    def __str__(self) -> str:
        verb = "failed" if self.failed else "finished"
        return f"{self.name} {verb} after {self.seconds:.1f} s: {self.output}"


@dataclass(frozen=True, slots=True)
class DeviceFailed(VoiceEvent):
    """The recorder or the player failed, and is restarted."""

    kind = "device.failed"
    device: Literal["recorder", "player"]
    problem: DeviceProblem
    reason: str
    """How the program ended, for people."""
    advice: str
    """The meaning of the problem, and advice."""

    def log_entry(self) -> EventLogEntry:
        context = {"problem": str(self.problem), "advice": self.advice}
        return _warning(self.device, "Device failed", **context)

    def __str__(self) -> str:
        return f"{self.device} {self.problem}: {self.reason}; {self.advice}"


@dataclass(frozen=True, slots=True)
class ServiceError(VoiceEvent):
    """The service reported an error; the session continues unless it is fatal."""

    kind = "service.error_reported"
    code: str
    message: str
    event_id: str
    """The id of the client message that caused it; empty if not given."""
    about: str
    """The type of that message; empty if not known."""
    fatal: bool

    def log_entry(self) -> EventLogEntry:
        entry = _error if self.fatal else _warning
        context = {"code": self.code, "error": self.message, "about": self.about}
        return entry(CONNECTION, "The service reported an error", **context)

    def __str__(self) -> str:
        about = f" (about {self.about})" if self.about else ""
        return f"service error {self.code}: {self.message}{about}"


@dataclass(frozen=True, slots=True)
class ProtocolProblem(VoiceEvent):
    """The service sent a malformed message; the client skipped it."""

    kind = "service.malformed_message"
    reason: str

    def log_entry(self) -> EventLogEntry:
        return _warning(CONNECTION, "Message skipped", reason=self.reason)

    def __str__(self) -> str:
        return f"skipped: {self.reason}"


@dataclass(frozen=True, slots=True)
class UnknownEvent(VoiceEvent):
    """The service sent an event that this package does not handle."""

    kind = "service.unknown_event_sent"
    type: str
    data: Mapping[str, object]

    def log_entry(self) -> EventLogEntry:
        return _warning(CONNECTION, "Unknown event", type=self.type)

    def __str__(self) -> str:
        return f"unknown event {self.type}"


@dataclass(frozen=True, slots=True)
class EventsMissed(VoiceEvent):
    """Stands for events that the reader of an `EventFeed` missed because it was slow."""

    kind = "events.missed"
    count: int

    def __str__(self) -> str:
        return f"{self.count} events missed"
