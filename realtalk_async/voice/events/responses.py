"""The events of responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async.voice.events.base import (
    SESSION,
    NotLogged,
    VoiceEvent,
    info,
    warning,
)
from realtalk_async.voice.events.outcome import Status

if TYPE_CHECKING:
    from realtalk_async.events.base import EventLogEntry
    from realtalk_async.voice.events.outcome import Outcome


@dataclass(frozen=True, slots=True)
class ResponseRequested(NotLogged, VoiceEvent):
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
        return info(SESSION, "Response started")

    def __str__(self) -> str:
        return "response started"


@dataclass(frozen=True, slots=True)
class ResponseText(NotLogged, VoiceEvent):
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
        entry = info if expected else warning
        context: dict[str, object] = {}
        if outcome.reason:
            context["reason"] = outcome.reason
        if outcome.usage is not None:
            context["tokens"] = outcome.usage.total
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
        return info(SESSION, "Response interrupted", **context, text=self.text)

    def __str__(self) -> str:
        heard = f"{self.heard_ms} of {self.received_ms} ms"
        return f"interrupted after {heard}: {self.text}"
