"""The base of the events of a voice session, and their log entries."""

from __future__ import annotations

from dataclasses import dataclass

from realtalk_async.events.base import BaseEvent, EventLogEntry

SESSION = "session"
"""The log component of the session."""
CONNECTION = "connection"
"""The log component of the connection, and the name of its supervised task."""


def info(component: str, message: str, **context: object) -> EventLogEntry:
    """Return an entry of the level INFO."""
    return EventLogEntry("INFO", component, message, context)


def warning(component: str, message: str, **context: object) -> EventLogEntry:
    """Return an entry of the level WARNING."""
    return EventLogEntry("WARNING", component, message, context)


def error(component: str, message: str, **context: object) -> EventLogEntry:
    """Return an entry of the level ERROR."""
    return EventLogEntry("ERROR", component, message, context)


@dataclass(frozen=True, slots=True)
class VoiceEvent(BaseEvent):
    """An event of a voice session; ``str()`` is one line for people."""

    kind = "voice.event"

    def log_entry(self) -> EventLogEntry | None:
        """Return the log entry of this event; ``None`` if it is too frequent to log."""
        return EventLogEntry("WARNING", SESSION, str(self), {})


class NotLogged:
    """An event that is too frequent to log."""

    __slots__ = ()

    def log_entry(self) -> EventLogEntry | None:
        """Return None."""
        return None
