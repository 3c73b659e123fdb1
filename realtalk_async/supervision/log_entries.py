"""How an event reads in the log: its level, its component, its words. Pure."""

from __future__ import annotations

from typing import Literal

from realtalk_async import events
from realtalk_async.supervision.reports.status import Cause, clock_face

Level = Literal["INFO", "WARNING", "ERROR"]
Entry = tuple[Level, str, str, dict[str, object]]
"""Level, component, message, context."""

MANAGER = "manager"
"""The component of what concerns no single process."""


def narrate(event: events.Event) -> Entry:
    """Return the log entry for *event*."""
    level, message, context = _tell(event)
    if event.incarnation:
        context.setdefault("incarnation", event.incarnation)
    component = MANAGER if event.kind.startswith(("manager.", "guard.")) else ""
    return level, component or event.process, message, context


def _tell(event: events.Event) -> tuple[Level, str, dict[str, object]]:
    match event:
        case events.ProcessStarted():
            return (
                "INFO",
                "Process started",
                {"pid": event.pid, "command": event.command},
            )
        case events.ProcessReady():
            return "INFO", "Process is ready", {"after": round(event.after, 3)}
        case events.ReadinessLost():
            return (
                "WARNING",
                "Process is not ready any more",
                {"probe": event.probe, "reason": event.reason},
            )
        case events.DeviceAwaited():
            return "INFO", "Waiting for a device", {"holders": event.holders}
        case events.ProcessExited():
            return _exit(event)
        case events.TaskFailed():
            return (
                "ERROR",
                "Task failed",
                {
                    "reason": event.reason,
                    "uptime": clock_face(event.uptime),
                    "traceback": event.traceback,
                },
            )
        case events.SpawnRefused():
            return "ERROR", "Process could not be started", {"error": event.error}
        case events.StopStep():
            return (
                "INFO",
                f"Stopping: {event.step}",
                {"step": event.step, "members": event.members},
            )
        case events.Unkillable():
            return (
                "ERROR",
                "Process cannot be killed",
                {"survivors": list(event.survivors)},
            )
        case events.ProbeFailed():
            return (
                "ERROR",
                "Process is not well",
                {"probe": event.probe, "reason": event.reason},
            )
        case events.ProcessStopped():
            return (
                "INFO",
                "Process stopped",
                {"exit_status": event.exit_status, "escalated": event.escalated},
            )
        case _:
            return _recovery(event)


def _recovery(event: events.Event) -> tuple[Level, str, dict[str, object]]:
    match event:
        case events.RestartScheduled():
            return (
                "WARNING",
                "Restart scheduled",
                {"delay": round(event.delay, 3), "reason": event.reason},
            )
        case events.ProcessRestarted():
            return (
                "INFO",
                "Process restarted",
                {"pid": event.pid, "downtime": round(event.downtime, 3)},
            )
        case events.RestartFailed():
            return "ERROR", "Restart failed", {"reason": event.reason}
        case events.ProcessGivenUp():
            return (
                "ERROR",
                "Gave up restarting",
                {"reason": event.reason, "critical": event.critical},
            )
        case events.Degraded():
            return (
                "WARNING",
                f"Going on without {event.process}",
                {"reason": event.reason},
            )
        case events.ShutdownStarted():
            return (
                "ERROR",
                f"Shutting down: {event.process} is lost",
                {"reason": event.reason},
            )
        case events.OutputDropped():
            return (
                "WARNING",
                "Output reached max_size: later bytes are counted, not kept",
                {"stream": event.stream, "max_size": event.max_size},
            )
        case events.CallbackFailed():
            return (
                "ERROR",
                f"Callback failed: {event.callback}",
                {"reason": event.reason},
            )
        case events.GuardLost():
            return "WARNING", "The orphan guard died", {"reason": event.reason}
        case _:
            return "INFO", str(event), {}


def _exit(event: events.ProcessExited) -> tuple[Level, str, dict[str, object]]:
    context: dict[str, object] = {
        "exit_status": event.exit_status,
        "uptime": clock_face(event.uptime),
        "cause": event.cause,
    }
    if event.cause == Cause.FINISHED:
        return "INFO", "Process finished", context
    if event.cause in {Cause.STOPPED, Cause.ESCALATED}:
        return "INFO", "Process ended as asked", context
    if event.sign:
        context["looks_like"] = event.sign
    context["last_words"] = list(event.last_words)
    return "ERROR", "Process died unexpectedly", context
