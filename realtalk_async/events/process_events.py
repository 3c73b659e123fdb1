"""The events of one supervised process or task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async.events.event import Cause, Event, Failure
from realtalk_async.times import format_hms

if TYPE_CHECKING:
    from realtalk_async.events.base import EventLogEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStarted(Event):
    """An incarnation was spawned, or an existing process was registered."""

    kind = "process.started"
    pid: int
    command: str = ""

    def log_entry(self) -> EventLogEntry:
        return self._entry(
            "INFO", "Process started", pid=self.pid, command=self.command
        )

    def __str__(self) -> str:
        return f"{self.process} started: pid {self.pid}, incarnation {self.incarnation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReady(Event):
    """The readiness probe of the process succeeded."""

    kind = "process.ready"
    after: float
    """Seconds since the spawn."""

    def log_entry(self) -> EventLogEntry:
        return self._entry("INFO", "Process is ready", after=round(self.after, 3))

    def __str__(self) -> str:
        return f"{self.process} is ready after {self.after:.2f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessLost(Event):
    """A readiness probe that had succeeded fails; it keeps running."""

    kind = "process.readiness_lost"
    probe: str
    reason: str

    def log_entry(self) -> EventLogEntry:
        return self._entry(
            "WARNING",
            "Process is no longer ready",
            probe=self.probe,
            reason=self.reason,
        )

    def __str__(self) -> str:
        return f"{self.process} is no longer ready: {self.probe}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAwaited(Event):
    """The process waits for a device that another supervised process holds."""

    kind = "process.device_awaited"
    holders: dict[str, str]
    """Device name to the process that holds it and its state."""

    def log_entry(self) -> EventLogEntry:
        return self._entry("INFO", "Waiting for a device", holders=self.holders)

    def __str__(self) -> str:
        listed = ", ".join(f"{one!r}: {who}" for one, who in self.holders.items())
        return (
            f"{self.process} waits for a device that another process holds ({listed})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnRefused(Failure):
    """An incarnation could not be started."""

    kind = "process.spawn_refused"
    error: str

    def log_entry(self) -> EventLogEntry:
        return self._part("ERROR", "Process could not be started", error=self.error)

    def __str__(self) -> str:
        return f"{self.process} could not be started: {self.error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessExited(Failure):
    """An incarnation exited. Its output may still be drained."""

    kind = "process.exited"
    pid: int | None
    exit_status: int | str
    cause: str
    uptime: float
    """Seconds."""
    summary: str
    """How the process exited, for people: ``exit status 1 after 00:00:07``."""
    sign: str = ""
    """A recognised kind of failure, such as ``device busy``, and what to do about it."""
    last_words: str = ""
    """The line of its output that says why it failed; empty if none does."""
    last_lines: tuple[str, ...] = ()
    """The newest output lines of both streams, in the order of arrival."""
    after: float = 0.0
    """Seconds from the exit notice of the kernel, as the loop saw it, to this event."""
    log: str = ""
    """The path of the log; empty if it is not known."""

    def log_entry(self) -> EventLogEntry:
        context: dict[str, object] = {
            "exit_status": self.exit_status,
            "uptime": format_hms(self.uptime),
            "cause": self.cause,
        }
        if self.cause == Cause.FINISHED:
            return self._entry("INFO", "Process finished", **context)
        if self.cause in {Cause.STOPPED, Cause.ESCALATED}:
            how = self.summary.removesuffix(f" after {context['uptime']}")
            return self._entry("INFO", f"Process {how}", **context)
        if self.cause == Cause.INTERNAL_ERROR:  # which has an ERROR entry of its own
            return self._entry("INFO", "Process ended after an error", **context)
        if self.sign:
            context["looks_like"] = self.sign
        context["last_lines"] = list(self.last_lines)
        return self._part("ERROR", "Process died unexpectedly", **context)

    def __str__(self) -> str:
        if self.cause == Cause.FINISHED:
            return f"{self.process} finished: {self.summary}"
        if self.cause in {Cause.STOPPED, Cause.ESCALATED}:
            return f"{self.process} {self.summary}"
        words = f"{self.last_words}; " if self.last_words else ""
        tried = f", incarnation {self.incarnation}" if self.incarnation > 1 else ""
        log = f"; log: {self.log}" if self.log else ""
        return f"{self.process} died: {words}{self.summary}{tried}{log}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InternalError(Event):
    """
    An error of realtalk-async itself in the supervision of one process or task.

    It ends the current incarnation; the policy decides what follows, as after any failure.
    All others continue. Please report it, with its traceback.
    """

    kind = "process.internal_error"
    error: str
    """``ZeroDivisionError('division by zero')``."""
    traceback: str

    def log_entry(self) -> EventLogEntry:
        return self._entry(
            "ERROR", "Internal error", error=self.error, traceback=self.traceback
        )

    def __str__(self) -> str:
        return f"{self.process}: internal error: {self.error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailed(Failure):
    """A supervised coroutine raised."""

    kind = "task.failed"
    reason: str
    uptime: float
    """Seconds."""
    traceback: str = ""
    """One line for an error of the network."""

    def log_entry(self) -> EventLogEntry:
        is_long = "\n" in self.traceback.strip()  # one line is the reason again
        return self._part(
            "ERROR",
            "Task failed",
            reason=self.reason,
            uptime=format_hms(self.uptime),
            **({"traceback": self.traceback} if is_long else {}),
        )

    def __str__(self) -> str:
        return f"{self.process} failed: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopStep(Event):
    """One step of the stop ladder ran."""

    kind = "process.stop_step"
    step: str
    """``SIGTERM``, ``close stdin``."""
    members: int
    """Number of live processes in the group at that time."""
    routine: bool = False
    """Whether it is the first step for a process that runs: its exit says the same."""

    @property
    def is_detail(self) -> bool:
        return self.routine

    def log_entry(self) -> EventLogEntry | None:
        if self.routine:
            return None
        return self._entry(
            "INFO", f"Stopping: {self.step}", step=self.step, members=self.members
        )

    def __str__(self) -> str:
        return f"{self.process}: {self.step} to {self.members} process(es) of its group"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unkillable(Event):
    """Every step of the stop ladder ran, and processes of the group are still alive."""

    kind = "process.unkillable"
    survivors: tuple[str, ...]
    """One entry for each process: ``pid 4242 state D``."""

    def log_entry(self) -> EventLogEntry:
        return self._entry(
            "ERROR", "Process cannot be killed", survivors=list(self.survivors)
        )

    def __str__(self) -> str:
        return f"{self.process} cannot be killed: {', '.join(self.survivors)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFailed(Event):
    """A probe reached its failure threshold: the process is unhealthy."""

    kind = "process.probe_failed"
    probe: str
    reason: str
    after: float = 0.0
    """Seconds since the last success of the probe, or since the last output."""

    def log_entry(self) -> EventLogEntry:
        return self._entry(
            "ERROR", "Probe failed", probe=self.probe, reason=self.reason
        )

    def __str__(self) -> str:
        return f"{self.process} failed its probe {self.probe}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartScheduled(Failure):
    """A restart is scheduled."""

    kind = "process.restart_scheduled"
    delay: float
    """Seconds until the restart."""
    reason: str

    def log_entry(self) -> EventLogEntry:
        return self._part(
            "WARNING",
            "Restart scheduled",
            delay=round(self.delay, 3),
            reason=self.reason,
        )

    def __str__(self) -> str:
        return f"{self.process} will be restarted in {self.delay:.2f} s: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRestarted(Event):
    """A new incarnation replaced one that had exited."""

    kind = "process.restarted"
    pid: int
    downtime: float
    """Seconds from the exit to the new spawn."""

    def log_entry(self) -> EventLogEntry:
        return self._entry(
            "INFO", "Process restarted", pid=self.pid, downtime=round(self.downtime, 3)
        )

    def __str__(self) -> str:
        return (
            f"{self.process} was restarted: pid {self.pid}, down {self.downtime:.2f} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartFailed(Event):
    """An attempt to restart the process did not produce a new process."""

    kind = "process.restart_failed"
    reason: str

    def log_entry(self) -> EventLogEntry:
        return self._entry("ERROR", "Restart failed", reason=self.reason)

    def __str__(self) -> str:
        return f"{self.process} could not be restarted: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartRefused(Event):
    """A restart was requested of a process that is not dead; nothing was changed."""

    kind = "process.restart_refused"
    pid: int | None
    reason: str

    def log_entry(self) -> EventLogEntry:
        return self._entry("WARNING", f"Restart refused: {self.reason}", pid=self.pid)

    def __str__(self) -> str:
        return f"{self.process} was not restarted: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGivenUp(Failure):
    """The process stays down: no further restart is tried."""

    kind = "process.given_up"
    reason: str
    critical: bool = False

    def log_entry(self) -> EventLogEntry:
        return self._part(
            "ERROR", "Gave up restarting", reason=self.reason, critical=self.critical
        )

    def __str__(self) -> str:
        return f"{self.process} was given up: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStopped(Event):
    """The process was stopped on request, and its process group is empty."""

    kind = "process.stopped"
    exit_status: int | str
    escalated: bool
    while_down: bool = False
    """Whether it had died before, and its restart was due."""

    @property
    def is_detail(self) -> bool:
        return not self.while_down  # otherwise its exit says the same

    def log_entry(self) -> EventLogEntry | None:
        return self._entry("INFO", "Restart cancelled") if self.while_down else None

    def __str__(self) -> str:
        if self.while_down:
            return f"{self.process} was stopped while waiting for its restart"
        return f"{self.process} and its group have ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputDropped(Event):
    """The output of the process reached ``max_size``; later bytes are counted, not kept."""

    kind = "process.output_dropped"
    stream: str
    max_size: int

    def log_entry(self) -> EventLogEntry:
        return self._entry(
            "WARNING",
            "Output reached max_size: later bytes are counted, not kept",
            stream=self.stream,
            max_size=self.max_size,
        )

    def __str__(self) -> str:
        return f"{self.process}: {self.stream} reached max_size, {self.max_size} bytes"
