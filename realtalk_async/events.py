"""What happens to supervised processes, as typed events. Words, no deeds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import ClassVar


def _now() -> datetime:
    return datetime.now(UTC).astimezone()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something happened to a process; ``str()`` says it in one line."""

    kind: ClassVar[str] = "event"
    """Dotted, in the past tense: ``process.exited``."""

    process: str
    """The name it is registered under."""
    incarnation: int = 0
    """Which life of it, counted from 1; 0 if it never ran."""
    at: datetime = field(default_factory=_now)

    def to_dict(self) -> dict[str, object]:
        """Return the event ready for JSON."""
        fields: dict[str, object] = asdict(self)
        return {"kind": self.kind, **fields, "at": self.at.isoformat()}

    def __str__(self) -> str:
        return f"{self.process}#{self.incarnation} {self.kind}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStarted(Event):
    """An incarnation was spawned, or an existing process was registered."""

    kind = "process.started"
    pid: int
    command: str = ""

    def __str__(self) -> str:
        return f"{self.process} started: pid {self.pid}, incarnation {self.incarnation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReady(Event):
    """Its readiness probe succeeded."""

    kind = "process.ready"
    after: float
    """Seconds since the spawn."""

    def __str__(self) -> str:
        return f"{self.process} is ready after {self.after:.2f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessLost(Event):
    """A readiness probe that was content is not any more; it is asked on."""

    kind = "process.readiness_lost"
    probe: str
    reason: str

    def __str__(self) -> str:
        return f"{self.process} is not ready any more: {self.probe}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAwaited(Event):
    """It waits for a device that another process of ours has."""

    kind = "process.device_awaited"
    holders: dict[str, str]
    """Who has each device that it waits for, in words."""

    def __str__(self) -> str:
        listed = ", ".join(f"{one!r}: {who}" for one, who in self.holders.items())
        return f"{self.process} waits for a device that another process has ({listed})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnRefused(Event):
    """An incarnation could not be started."""

    kind = "process.spawn_refused"
    error: str

    def __str__(self) -> str:
        return f"{self.process} could not be started: {self.error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessExited(Event):
    """An incarnation is dead. Its output may still be drained."""

    kind = "process.exited"
    pid: int | None
    exit_status: int | str
    cause: str
    uptime: float
    """Seconds."""
    summary: str
    """What happened, in words."""
    sign: str = ""
    """A known kind of failure, such as ``device busy``, and what to do about it."""
    last_words: tuple[str, ...] = ()
    """Its newest lines, those of both streams in the order of arrival."""
    after: float = 0.0
    """Seconds from the kernel's first sign of it, in our loop, to this event."""

    def __str__(self) -> str:
        return f"{self.process} died: {self.summary}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailed(Event):
    """A supervised coroutine raised."""

    kind = "task.failed"
    reason: str
    uptime: float
    """Seconds."""
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.process} failed: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopStep(Event):
    """One step of the ladder was taken."""

    kind = "process.stop_step"
    step: str
    """``SIGTERM``, ``close stdin``."""
    members: int
    """Processes of the group that were alive then."""

    def __str__(self) -> str:
        return f"{self.process}: {self.step} to {self.members} process(es) of its group"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unkillable(Event):
    """All steps of the ladder were taken, and something of the group still lives."""

    kind = "process.unkillable"
    survivors: tuple[str, ...]
    """``pid 4242 state D``, one entry a process."""

    def __str__(self) -> str:
        return f"{self.process} cannot be killed: {', '.join(self.survivors)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFailed(Event):
    """A probe came to the verdict that the process is not well."""

    kind = "process.probe_failed"
    probe: str
    reason: str
    after: float = 0.0
    """Seconds since the last sign that all was well: a good answer, or output."""

    def __str__(self) -> str:
        return f"{self.process} is not well: {self.probe}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartScheduled(Event):
    """A restart will be tried."""

    kind = "process.restart_scheduled"
    delay: float
    """Seconds until then."""
    reason: str

    def __str__(self) -> str:
        return f"{self.process} will be restarted in {self.delay:.2f} s: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRestarted(Event):
    """A new incarnation took the place of a dead one."""

    kind = "process.restarted"
    pid: int
    downtime: float
    """Seconds from the death to the new spawn."""

    def __str__(self) -> str:
        return (
            f"{self.process} was restarted: pid {self.pid}, down {self.downtime:.2f} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartFailed(Event):
    """An attempt to restart it did not bring a new process."""

    kind = "process.restart_failed"
    reason: str

    def __str__(self) -> str:
        return f"{self.process} could not be restarted: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGivenUp(Event):
    """No further restart will be tried."""

    kind = "process.given_up"
    reason: str
    critical: bool = False

    def __str__(self) -> str:
        return f"{self.process} was given up: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStopped(Event):
    """It is dead and its group is empty, because it was told to end."""

    kind = "process.stopped"
    exit_status: int | str
    escalated: bool

    def __str__(self) -> str:
        return f"{self.process} is stopped: status {self.exit_status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputDropped(Event):
    """Its output reached ``max_size``; from here on bytes are counted, not kept."""

    kind = "process.output_dropped"
    stream: str
    max_size: int

    def __str__(self) -> str:
        return f"{self.process}: {self.stream} reached max_size, {self.max_size} bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Degraded(Event):
    """The app goes on without a process that is not critical."""

    kind = "manager.degraded"
    reason: str

    def __str__(self) -> str:
        return f"degraded: {self.process}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownStarted(Event):
    """A critical process is lost: all others are being stopped."""

    kind = "manager.shutdown"
    reason: str

    def __str__(self) -> str:
        return f"shutting down because of {self.process}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackFailed(Event):
    """A callback of the app raised, hung past its timeout, or returned nonsense."""

    kind = "callback.failed"
    callback: str
    reason: str

    def __str__(self) -> str:
        return f"{self.process}: {self.callback} failed: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardLost(Event):
    """The orphan guard died and was replaced."""

    kind = "guard.lost"
    reason: str

    def __str__(self) -> str:
        return f"the orphan guard was replaced: {self.reason}"
