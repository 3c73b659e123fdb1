"""The states of a process and its `ProcessStatus`."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from realtalk_async.events import Cause
from realtalk_async.supervision.reports.texts import describe_uptime, table
from realtalk_async.times import format_hms

if TYPE_CHECKING:
    from datetime import datetime

    from realtalk_async.supervision.kernel.exit_status import ExitStatus
    from realtalk_async.supervision.reports.containment import Mechanism

Status = Literal["running", "dead"]


CaptureEnd = Literal["open", "end of file", "drain bound", "internal error", "none"]
"""
How the capture ended: not yet; both pipes were read to their end; another process still held
a pipe open when the drain bound was reached; an error of realtalk-async ended it before its
end; there was nothing to capture.
"""


class State(enum.StrEnum):
    """The state of a process or task in its lifecycle."""

    STARTING = "starting"
    """Not spawned yet, or spawned and not ready."""
    RUNNING = "running"
    """Spawned, and ready if it has a readiness probe."""
    BACKOFF = "backoff"
    """Dead; its next start is due after a delay."""
    STOPPING = "stopping"
    """The app is ending it."""
    EXITED = "exited"
    """Dead, and no restart is due: it finished, or was stopped."""
    FATAL = "fatal"
    """Dead, and its restart was given up."""


NOT_FAILED = frozenset({None, Cause.FINISHED, Cause.STOPPED})
"""The causes that are no failure; None: the incarnation has not ended."""


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """The status of a process or task at one time; ``str()`` is one line for people."""

    name: str
    pid: int | None
    """The pid of the current or last incarnation; None before the first spawn."""
    status: Status
    state: State
    incarnation: int
    started_at: datetime | None
    last_checked: datetime | None
    uptime: float
    """Seconds of the current incarnation so far, or of the whole last incarnation."""
    restarts: int
    exit_status: ExitStatus | None
    """The exit status of the last incarnation; None while it runs."""
    cause: Cause | None
    """Why the last incarnation ended; None while it runs."""
    reason: str
    """The state in words: what happens now, or how it ended and what follows."""
    containment: Mechanism = "group"
    """How its descendants are found and ended: by process group, or by cgroup."""

    def to_dict(self) -> dict[str, object]:
        """Return the status ready for JSON."""
        return {
            "name": self.name,
            "pid": self.pid,
            "status": self.status,
            "state": str(self.state),
            "incarnation": self.incarnation,
            "started_at": self.started_at and self.started_at.isoformat(),
            "last_checked": self.last_checked and self.last_checked.isoformat(),
            "uptime": round(self.uptime, 3),
            "restarts": self.restarts,
            "exit_status": self.exit_status,
            "cause": self.cause and str(self.cause),
            "reason": self.reason,
            "containment": self.containment,
        }

    def __str__(self) -> str:
        state = "" if self.status == str(self.state) else f" ({self.state})"
        pid = f", pid {self.pid}" if self.pid is not None else ""
        up = f", up {format_hms(self.uptime)}" if self.status == "running" else ""
        cgroup = "" if self.containment == "group" else f", {self.containment}"
        why = "" if self.reason == str(self.state) else f"; {self.reason}"
        return (
            f"{self.name}: {self.status}{state}{pid}{up}{cgroup}, "
            f"restarts {self.restarts}{why}"
        )


class ProcessStatuses(dict[str, ProcessStatus]):
    """Statuses by name; ``str()`` is a table for people."""

    def __str__(self) -> str:
        rows = [("NAME", "STATE", "PID", "UP", "RESTARTS", "REASON")]
        rows += map(_row, self.values())
        return table(rows)


def _row(status: ProcessStatus) -> tuple[str, str, str, str, str, str]:
    running = status.status == "running"
    reason = "" if status.reason == str(status.state) else status.reason
    return (
        status.name,
        str(status.state),
        "-" if status.pid is None or not running else str(status.pid),
        describe_uptime(status.uptime, running=running),
        str(status.restarts),
        " ".join(reason.split()),
    )
