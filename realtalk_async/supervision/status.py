"""What a process is in, how it ended, and what is told about it. Words, no deeds."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from realtalk_async.events import Cause
from realtalk_async.times import format_hms

if TYPE_CHECKING:
    from datetime import datetime

    from realtalk_async.supervision.kernel.exit_status import ExitStatus

Status = Literal["running", "dead"]


CaptureEnd = Literal["open", "end of file", "drain bound", "none"]
"""
How capture ended: not yet; both pipes were read to their end; something else still held
a pipe open when the drain bound was reached; there was nothing to capture.
"""


class State(enum.StrEnum):
    """Where a process stands in its life."""

    STARTING = "starting"
    """Not spawned yet, or spawned and not ready."""
    RUNNING = "running"
    """Spawned, and ready if it has a readiness probe."""
    BACKOFF = "backoff"
    """Dead; waits for its next start."""
    STOPPING = "stopping"
    """Being ended by us."""
    EXITED = "exited"
    """Dead, and no restart is due: it finished, or was stopped."""
    FATAL = "fatal"
    """Dead, and restarting it was given up."""


GOOD_ENDS = frozenset({None, Cause.FINISHED, Cause.STOPPED})
"""What is no failure; None: it has not ended."""


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One look at a process; ``str()`` is a line for people."""

    name: str
    pid: int | None
    """Of the current or last incarnation; None if none was ever spawned."""
    status: Status
    state: State
    incarnation: int
    started_at: datetime | None
    last_checked: datetime | None
    uptime: float
    """Seconds that the current incarnation runs, or that the last one ran."""
    restarts: int
    exit_status: ExitStatus | None
    """Of the last incarnation, once it is dead."""
    cause: Cause | None
    """Why the last incarnation ended, once it is dead."""
    reason: str
    """In words: what it does now, or how it ended and what comes next."""

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
        }

    def __str__(self) -> str:
        who = f"{self.name}: {self.status} ({self.state})"
        pid = f", pid {self.pid}" if self.pid is not None else ""
        up = f", up {format_hms(self.uptime)}" if self.status == "running" else ""
        return f"{who}{pid}{up}, restarts {self.restarts}; {self.reason}"
