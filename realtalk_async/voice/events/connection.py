"""The events of the connection and of the service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async.voice.events.base import (
    CONNECTION,
    SESSION,
    VoiceEvent,
    error,
    info,
    warning,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from realtalk_async.events.base import EventLogEntry


@dataclass(frozen=True, slots=True)
class Connected(VoiceEvent):
    """The connection is open and the service has configured the session."""

    kind = "connection.opened"
    session_id: str
    model: str

    def log_entry(self) -> EventLogEntry:
        context = {"session": self.session_id, "model": self.model}
        return info(CONNECTION, "Connected", **context)

    def __str__(self) -> str:
        return f"connected to {self.model}"


@dataclass(frozen=True, slots=True)
class ConnectionLost(VoiceEvent):
    """The connection broke or the service stopped sending; the client reconnects."""

    kind = "connection.lost"
    reason: str

    def log_entry(self) -> EventLogEntry:
        return error(CONNECTION, "Connection lost", reason=self.reason)

    def __str__(self) -> str:
        return f"connection lost: {self.reason}"


@dataclass(frozen=True, slots=True)
class ConnectionRecycled(VoiceEvent):
    """The client replaced the connection before the service would end it."""

    kind = "connection.recycled"
    age: float
    """Seconds for which the connection was open."""
    requested: bool = False
    """Whether the app asked for it, see `Stream.reconnect`."""

    def log_entry(self) -> EventLogEntry:
        why = {"requested": True} if self.requested else {}
        return info(CONNECTION, "Connection recycled", age=round(self.age), **why)

    def __str__(self) -> str:
        why = "as the app asked" if self.requested else "before it expires"
        return f"connection recycled after {self.age:.0f} s, {why}"


@dataclass(frozen=True, slots=True)
class EndpointChanged(VoiceEvent):
    """The next connection goes to another endpoint of those in `Stream(url=[…])`."""

    kind = "connection.endpoint_changed"
    endpoint: str
    """Its address, without a key."""
    model: str
    reason: str
    """The error of the last connection; empty if the last endpoint did not fail."""

    def log_entry(self) -> EventLogEntry:
        context = {"endpoint": self.endpoint, "reason": self.reason}
        return warning(CONNECTION, "Another endpoint", **context)

    def __str__(self) -> str:
        return f"another endpoint: {self.endpoint}; {self.reason}".rstrip("; ")


@dataclass(frozen=True, slots=True)
class OutageAnnounced(VoiceEvent):
    """The service cannot be reached; the player plays the file of `OutageSound`."""

    kind = "connection.outage_announced"
    seconds: float
    """Seconds without a connection."""

    def log_entry(self) -> EventLogEntry:
        return info(CONNECTION, "Outage announced", seconds=round(self.seconds, 3))

    def __str__(self) -> str:
        return f"outage announced after {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class ConnectionRestored(VoiceEvent):
    """The connection is open again, and the conversation was replayed as text."""

    kind = "connection.restored"
    downtime: float
    """Seconds without a connection."""
    replayed: int
    """Number of replayed messages, and of tool calls with their results."""
    left_out: int = 0
    """Number of older ones, for which one message stands, see `HistoryLimits`."""

    def log_entry(self) -> EventLogEntry:
        context = {"downtime": round(self.downtime, 3), "replayed": self.replayed}
        if self.left_out:
            context["left_out"] = self.left_out
        return info(CONNECTION, "Connection restored", **context)

    def __str__(self) -> str:
        older = f", {self.left_out} older ones summed up" if self.left_out else ""
        return (
            f"connection restored after {self.downtime:.1f} s, "
            f"{self.replayed} messages replayed{older}"
        )


@dataclass(frozen=True, slots=True)
class SessionUpdated(VoiceEvent):
    """The service confirmed a change of the session, see `Stream.update_session`."""

    kind = "session.updated"
    options: Mapping[str, object]
    """The part of the session that changed."""

    def log_entry(self) -> EventLogEntry:
        return info(SESSION, "Session updated", options=sorted(self.options))

    def __str__(self) -> str:
        return f"session updated: {', '.join(sorted(self.options))}"


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
        entry = error if self.fatal else warning
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
        return warning(CONNECTION, "Message skipped", reason=self.reason)

    def __str__(self) -> str:
        return f"skipped: {self.reason}"


@dataclass(frozen=True, slots=True)
class UnknownEvent(VoiceEvent):
    """The service sent an event that this package does not handle."""

    kind = "service.unknown_event_sent"
    type: str
    data: Mapping[str, object]

    def log_entry(self) -> EventLogEntry:
        return warning(CONNECTION, "Unknown event", type=self.type)

    def __str__(self) -> str:
        return f"unknown event {self.type}"


@dataclass(frozen=True, slots=True)
class EventsMissed(VoiceEvent):
    """Stands for events that the reader of an `EventFeed` missed because it was slow."""

    kind = "events.missed"
    count: int

    def __str__(self) -> str:
        return f"{self.count} events missed"
