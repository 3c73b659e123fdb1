"""The base of the events of supervised processes, and why an incarnation ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar, Literal

from realtalk_async.events.base import APP, POLICY, BaseEvent, EventLogEntry

MANAGER = "manager"
"""The component of log entries that concern no single process."""


NOTABLE = 3
"""The number of processes from which an incident has an event and a log entry of its own."""


class Cause(enum.StrEnum):
    """Why an incarnation ended."""

    FINISHED = "finished"
    """The process exited by itself with a status that counts as success."""
    FAILED = "failed"
    """The process exited by itself with any other status."""
    SIGNALLED = "signalled"
    """A signal that this app did not send killed the process."""
    STOPPED = "stopped by us"
    """The app stopped the process, and a soft step of the ladder was enough."""
    ESCALATED = "stopped by us, escalated"
    """The app stopped the process with SIGKILL, after a softer step had no effect."""
    UNHEALTHY = "ended by us: unhealthy"
    """The app ended the process because a probe failed."""
    INTERNAL_ERROR = "internal error"
    """An error of realtalk-async itself: it ended the process it could not supervise."""
    SPAWN_FAILED = "spawn failed"
    """The operating system refused to start the process."""
    UNKNOWN = "unknown"
    """Another part of the app reaped the process: its exit status is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(BaseEvent):
    """An event of a supervised process; ``str()`` is one line for people."""

    log_component: ClassVar[str] = ""
    """The component in the log; empty for the name of the process."""

    process: str
    """The name under which the process is registered."""
    incarnation: int = 0
    """The number of the incarnation, counted from 1; 0 if none was ever spawned."""

    def log_entry(self) -> EventLogEntry | None:
        """Return the log entry of this event; ``None`` if another one says the same."""
        return self._entry("INFO", str(self))

    def _entry(
        self,
        level: Literal["INFO", "WARNING", "ERROR"],
        message: str,
        **context: object,
    ) -> EventLogEntry:
        if self.incarnation:
            context.setdefault("incarnation", self.incarnation)
        if self.actor not in {POLICY, APP}:
            context["actor"] = self.actor
        component = self.log_component or self.process
        return EventLogEntry(level, component, message, context)

    def __str__(self) -> str:
        return f"{self.process}#{self.incarnation} {self.kind}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Event):
    """A failure, or what follows from it: it may be a part of an incident of several processes."""

    incident: str = ""
    """The id of the incident; empty if there is none."""
    incident_size: int = 0
    """The number of processes of the incident so far, this one included."""

    def _part(
        self,
        level: Literal["WARNING", "ERROR"],
        message: str,
        **context: object,
    ) -> EventLogEntry:
        """Return the log entry; of an incident that has an entry of its own, an INFO."""
        if self.incident_size < NOTABLE:
            return self._entry(level, message, **context)
        return self._entry("INFO", message, **context, incident=self.incident)
