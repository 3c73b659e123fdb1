"""
The words of a voice session: what was said, how replies end, what happens. Pure.

All are frozen. The events are what `Stream.subscribe` hands to its callbacks.
"""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from realtalk_async.voice.protocol.messages import Role


class Status(enum.StrEnum):
    """How a reply ended. Every reply ends in exactly one of these."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    """Interrupted by the user, or cancelled by us."""
    FAILED = "failed"
    """The service could not make it, and says why."""
    INCOMPLETE = "incomplete"
    """The service cut it off: too long, or its content filter."""
    LOST = "lost"
    """The connection, or the session, ended in the middle of it."""
    STALLED = "stalled"
    """The service said nothing more about it for too long."""


class Trouble(enum.StrEnum):
    """What is wrong with a microphone or a speaker."""

    BUSY = "busy"
    """Another program holds the device."""
    SERVER_GONE = "server gone"
    """The sound server went away, or is not there."""
    MISSING = "missing"
    """There is no such device."""
    LOST = "lost"
    """It lives and delivers nothing, or takes nothing: unplugged, as a rule."""
    WRONG_RATE = "wrong rate"
    """It is 10 % slower or faster than it should be."""
    DIED = "died"
    """Its program died, and did not say why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one reply ended."""

    response_id: str
    """The service's id; empty if the reply had not even begun."""
    status: Status
    text: str
    """What was said: the transcript, or the text."""
    reason: str = ""
    """Why it did not complete, in words; empty if it did."""
    asked_at: float = 0.0
    """When it began, in monotonic seconds."""
    first_output_at: float | None = None
    """When its first text or audio came, in monotonic seconds."""
    ended_at: float = 0.0
    """In monotonic seconds."""
    calls: tuple[str, ...] = ()
    """The tools that it called; another reply follows their answers."""

    @property
    def completed(self) -> bool:
        """Whether it completed."""
        return self.status is Status.COMPLETED

    @property
    def is_mere_call(self) -> bool:
        """Whether it only called tools: the answer comes with another reply."""
        return self.completed and bool(self.calls)

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        return (
            f"{self.status}{why}: {self.text}" if self.text else f"{self.status}{why}"
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of the conversation."""

    role: Role
    medium: Literal["text", "audio"]
    content: str
    """Text, or the transcript; of an interrupted reply what was heard of it."""
    item_id: str
    interrupted: bool = False
    """The user broke in; *content* is cut to what was heard."""
    complete: bool = True
    """Nothing more will be added to *content*."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        mark = " [interrupted]" if self.interrupted else ""
        return f"{self.role.title()} [{self.medium}]: {self.content}{mark}"


# --- Events -----------------------------------------------------------------------


def _now() -> datetime:
    return datetime.now(UTC).astimezone()


@dataclass(frozen=True, slots=True)
class VoiceEvent:
    """Something happened in a voice session; ``str()`` says it in one line."""

    kind: ClassVar[str] = "voice.event"
    """Dotted, in the past tense: ``reply.finished``."""

    at: datetime = field(default_factory=_now, compare=False, kw_only=True)

    def to_dict(self) -> dict[str, object]:
        """Return the event ready for JSON."""
        fields: dict[str, object] = dataclasses.asdict(self)
        return {"kind": self.kind, **fields, "at": self.at.isoformat()}


@dataclass(frozen=True, slots=True)
class Connected(VoiceEvent):
    """The service accepted us and the session is set up."""

    kind = "connection.opened"
    session_id: str
    model: str

    def __str__(self) -> str:
        return f"connected to {self.model}"


@dataclass(frozen=True, slots=True)
class ConnectionLost(VoiceEvent):
    """The connection broke, or the service went mute; it is dialled again."""

    kind = "connection.lost"
    reason: str

    def __str__(self) -> str:
        return f"connection lost: {self.reason}"


@dataclass(frozen=True, slots=True)
class ConnectionRecycled(VoiceEvent):
    """We left the connection for a new one, before the service would end it."""

    kind = "connection.recycled"
    age: float
    """Seconds that it was up."""

    def __str__(self) -> str:
        return f"connection recycled after {self.age:.0f} s, before it expires"


@dataclass(frozen=True, slots=True)
class ConnectionRestored(VoiceEvent):
    """The connection is back, and the conversation was told again as text."""

    kind = "connection.restored"
    downtime: float
    """Seconds without a connection."""
    replayed: int
    """Messages, and calls of tools with their answers, that were told again."""

    def __str__(self) -> str:
        return (
            f"connection restored after {self.downtime:.1f} s, "
            f"{self.replayed} messages replayed"
        )


@dataclass(frozen=True, slots=True)
class SpeechStarted(VoiceEvent):
    """The service hears the user begin to speak."""

    kind = "speech.started"
    item_id: str

    def __str__(self) -> str:
        return "speech started"


@dataclass(frozen=True, slots=True)
class SpeechStopped(VoiceEvent):
    """The service hears the user stop."""

    kind = "speech.stopped"
    item_id: str

    def __str__(self) -> str:
        return "speech stopped"


@dataclass(frozen=True, slots=True)
class UserTranscript(VoiceEvent):
    """What the user said, written down; it may come after the reply."""

    kind = "user.transcribed"
    item_id: str
    text: str

    def __str__(self) -> str:
        return f"user: {self.text}"


@dataclass(frozen=True, slots=True)
class TranscriptionFailed(VoiceEvent):
    """What the user said could not be written down."""

    kind = "user.transcription_failed"
    item_id: str
    reason: str

    def __str__(self) -> str:
        return f"not transcribed: {self.reason}"


@dataclass(frozen=True, slots=True)
class ResponseStarted(VoiceEvent):
    """A reply is under way."""

    kind = "reply.started"
    response_id: str

    def __str__(self) -> str:
        return "reply started"


@dataclass(frozen=True, slots=True)
class ResponseText(VoiceEvent):
    """A piece of a reply: of its text, or of its transcript."""

    kind = "reply.text_added"
    response_id: str
    item_id: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class ResponseFinished(VoiceEvent):
    """A reply ended, one way or another; it may still be playing."""

    kind = "reply.finished"
    outcome: Outcome

    def __str__(self) -> str:
        return f"reply {self.outcome}"


@dataclass(frozen=True, slots=True)
class Interrupted(VoiceEvent):
    """The user broke into a reply; the rest of it is not played."""

    kind = "reply.interrupted"
    item_id: str
    heard_ms: int
    """How much of it was heard."""
    received_ms: int
    """How much of it had come."""
    text: str
    """The part of the transcript that was heard, about."""

    def __str__(self) -> str:
        return (
            f"interrupted after {self.heard_ms} of {self.received_ms} ms: {self.text}"
        )


@dataclass(frozen=True, slots=True)
class ToolCalled(VoiceEvent):
    """The service calls a tool."""

    kind = "tool.called"
    call_id: str
    name: str
    arguments: str
    """A JSON object."""

    def __str__(self) -> str:
        return f"{self.name} called with {self.arguments}"


@dataclass(frozen=True, slots=True)
class ToolFinished(VoiceEvent):
    """A tool has answered, or failed; the service is told either way."""

    kind = "tool.finished"
    call_id: str
    name: str
    output: str
    """What the service is told."""
    seconds: float
    """How long it took."""
    failed: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        verb = "failed" if self.failed else "answered"
        return f"{self.name} {verb} after {self.seconds:.1f} s: {self.output}"


@dataclass(frozen=True, slots=True)
class DeviceFailed(VoiceEvent):
    """The recorder or the player failed, and is revived."""

    kind = "device.failed"
    device: Literal["recorder", "player"]
    trouble: Trouble
    reason: str
    """What became of its program, in words."""
    advice: str
    """What that means."""

    def __str__(self) -> str:
        return f"{self.device} {self.trouble}: {self.reason}; {self.advice}"


@dataclass(frozen=True, slots=True)
class ServiceError(VoiceEvent):
    """The service reports an error; the session goes on unless it is fatal."""

    kind = "service.error_reported"
    code: str
    message: str
    event_id: str
    """The message of ours that it is about; empty if it does not say."""
    about: str
    """The type of that message; empty if it does not say."""
    fatal: bool

    def __str__(self) -> str:
        about = f" (about {self.about})" if self.about else ""
        return f"service error {self.code}: {self.message}{about}"


@dataclass(frozen=True, slots=True)
class ProtocolProblem(VoiceEvent):
    """The service sent something that cannot be understood; it was skipped."""

    kind = "service.misspoke"
    reason: str

    def __str__(self) -> str:
        return f"skipped: {self.reason}"


@dataclass(frozen=True, slots=True)
class UnknownEvent(VoiceEvent):
    """The service sent an event that this package has no use for; here it is."""

    kind = "service.unknown_event_sent"
    type: str
    data: Mapping[str, object]

    def __str__(self) -> str:
        return f"unknown event {self.type}"


@dataclass(frozen=True, slots=True)
class EventsMissed(VoiceEvent):
    """In the place of events that the reader of an `EventFeed` was too slow for."""

    kind = "events.missed"
    count: int

    def __str__(self) -> str:
        return f"{self.count} events missed"
