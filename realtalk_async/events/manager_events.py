"""The events that concern the whole app: losses, callbacks, the guard, incidents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async.events.event import MANAGER, Event, Failure

if TYPE_CHECKING:
    from realtalk_async.events.base import EventLogEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Degraded(Failure):
    """The app continues without a process that is not critical."""

    kind = "manager.degraded"
    log_component = MANAGER
    reason: str

    def log_entry(self) -> EventLogEntry:
        return self._part(
            "WARNING", f"Going on without {self.process}", reason=self.reason
        )

    def __str__(self) -> str:
        return f"degraded: {self.process}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentOccurred(Event):
    """
    Several processes failed for the same reason within a second, such as the sound server's end.

    Each death has an event of its own, with the id of the incident.
    """

    kind = "incident.occurred"
    log_component = MANAGER
    process: str = MANAGER
    incident: str
    """Its id: that of the event of the first death."""
    processes: tuple[str, ...]
    """In the order of their deaths."""
    reason: str
    """What they died of."""
    seconds: float
    """Seconds from the first death to the last one."""
    given_up: tuple[str, ...] = ()
    """Those that stay dead."""

    def log_entry(self) -> EventLogEntry:
        return self._entry(
            "ERROR",
            f"Incident: {len(self.processes)} processes failed for the same reason",
            reason=self.reason,
            processes=list(self.processes),
            seconds=round(self.seconds, 3),
            **({"given_up": list(self.given_up)} if self.given_up else {}),
            incident=self.incident,
        )

    def __str__(self) -> str:
        return (
            f"{len(self.processes)} processes failed for the same reason within "
            f"{self.seconds:.2f} s: {self.reason} ({', '.join(self.processes)})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownStarted(Event):
    """A critical process is lost: the manager stops all others."""

    kind = "manager.shutdown"
    log_component = MANAGER
    reason: str

    def log_entry(self) -> EventLogEntry:
        return self._entry(
            "ERROR", f"Shutting down: {self.process} is lost", reason=self.reason
        )

    def __str__(self) -> str:
        return f"shutting down because of {self.process}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownTimedOut(Event):
    """The shutdown took longer than ``shutdown_timeout``: what was left is killed."""

    kind = "manager.shutdown_timed_out"
    log_component = MANAGER
    seconds: float
    left: tuple[str, ...]
    """The processes and tasks that had not ended, with their state and pid."""

    def log_entry(self) -> EventLogEntry:
        message = f"Killed what did not end within {self.seconds:g} s of the shutdown"
        return self._entry("ERROR", message, left=list(self.left))

    def __str__(self) -> str:
        return f"killed after {self.seconds:g} s of shutdown: {', '.join(self.left)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackFailed(Event):
    """A callback of the app raised, exceeded its timeout, or returned a wrong type."""

    kind = "callback.failed"
    callback: str
    reason: str

    def log_entry(self) -> EventLogEntry:
        return self._entry(
            "ERROR", f"Callback failed: {self.callback}", reason=self.reason
        )

    def __str__(self) -> str:
        return f"{self.process}: {self.callback} failed: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardLost(Event):
    """
    The guard process died.

    `replaced` is False if there is no guard now: a killed app would leave its children
    behind. The next `GuardLost` with True says that there is one again.
    """

    kind = "guard.lost"
    log_component = MANAGER
    reason: str
    replaced: bool = True

    def log_entry(self) -> EventLogEntry:
        if self.replaced:
            return self._entry(
                "WARNING",
                "The guard process died and was replaced",
                reason=self.reason,
            )
        return self._entry(
            "ERROR",
            "There is no guard process: a killed app would leave its children behind",
            reason=self.reason,
        )

    def __str__(self) -> str:
        what = "was replaced" if self.replaced else "cannot be replaced yet"
        return f"the guard process {what}: {self.reason}"
