"""
Liveness and readiness: whether an app is healthy, and the reasons if it is not.

`check_liveness` and `check_readiness` decide without I/O, from an `AppStatus` and from how
late the event loop is; `LoopLagMonitor` measures that lateness.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async.events import Cause
from realtalk_async.supervision.reports.status import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from realtalk_async.supervision import ProcessManager, ProcessStatus
    from realtalk_async.voice import Stream

LAG_PERIOD = 0.1
"""Seconds between two ticks of `LoopLagMonitor`."""


@dataclass(frozen=True, slots=True)
class AppStatus:
    """The facts that decide an app's health, read in its event loop."""

    status: str
    """The manager's: ``running``, ``degraded``, ``failed``, ``new``, ``closed``."""
    closing: bool
    """Whether the manager is stopping everything."""
    critical: Mapping[str, ProcessStatus]
    degraded: Mapping[str, str]
    session_ready: bool | None = None
    """Whether the voice session is ready; None without a voice session."""


def read_app_status(manager: ProcessManager, stream: Stream | None) -> AppStatus:
    """Return the status of an app; call this in the app's event loop."""
    return AppStatus(
        status=manager.status,
        closing=manager.closing,
        critical=manager.critical,
        degraded=manager.degraded,
        session_ready=None if stream is None else stream.is_ready(),
    )


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The result of a health check: the body of ``/healthz`` or ``/readyz``."""

    reasons: tuple[str, ...]
    """One text for each problem; empty if the app is healthy."""
    overdue: float
    """Seconds by which the event loop is late."""
    max_lag: float
    """Seconds by which the event loop may be late."""
    app: AppStatus | None
    """The newest status that the loop gave; None before the first."""

    @property
    def ok(self) -> bool:
        """Whether the app passed the check."""
        return not self.reasons

    def to_dict(self) -> dict[str, object]:
        """Return the report as JSON values."""
        critical: Mapping[str, ProcessStatus] = self.app.critical if self.app else {}
        return {
            "ok": self.ok,
            "reasons": list(self.reasons),
            "loop": {"overdue": round(self.overdue, 3), "max_lag": self.max_lag},
            "manager": self.app and self.app.status,
            "critical": {name: str(one.state) for name, one in critical.items()},
            "degraded": dict(self.app.degraded) if self.app else {},
        }


def check_liveness(
    app: AppStatus | None, overdue: float = 0.0, max_lag: float = 1.0
) -> HealthReport:
    """
    Check that the event loop runs and that no critical process is lost.

    Args:
        app: The newest status that the event loop gave.
        overdue: Seconds by which the event loop is late now.
        max_lag: Seconds by which it may be late.
    """
    reasons = _loop_problems(app, overdue, max_lag)
    if app is not None and app.status in {"failed", "closed"}:
        reasons.append(f"the manager has {app.status}")
    reasons += [
        f"critical process {name!r} is lost: {status.reason}"
        for name, status in (app.critical.items() if app else ())
        if status.state is State.FATAL
    ]
    return HealthReport(tuple(reasons), overdue, max_lag, app)


def check_readiness(
    app: AppStatus | None, overdue: float = 0.0, max_lag: float = 1.0
) -> HealthReport:
    """
    Check that the app is alive and that everything critical is ready.

    A critical process that finished successfully counts as ready. Arguments as for
    `check_liveness`.
    """
    reasons = list(check_liveness(app, overdue, max_lag).reasons)
    if app is not None:
        if app.status == "new":
            reasons.append("the manager has not been entered")
        elif app.closing and not reasons:
            reasons.append("the manager is closing")
        reasons += [
            f"critical process {name!r} is {status.state}: {status.reason}"
            for name, status in app.critical.items()
            if not _is_ready(status) and status.state is not State.FATAL
        ]
        if app.session_ready is False:
            reasons.append("the voice session is not ready")
    return HealthReport(tuple(reasons), overdue, max_lag, app)


def _loop_problems(app: AppStatus | None, overdue: float, max_lag: float) -> list[str]:
    if overdue >= max_lag:
        return [f"the event loop hangs: {overdue:.3f} s late, {max_lag:g} s allowed"]
    return [] if app else ["the event loop has not answered"]


def _is_ready(status: ProcessStatus) -> bool:
    finished = status.state is State.EXITED and status.cause is Cause.FINISHED
    return status.state is State.RUNNING or finished


class LoopLagMonitor:
    """
    Measures how late an event loop is, by a timer that is due every 0.1 s.

    Args:
        on_tick: Called in the loop with the seconds by which each tick was late.
    """

    def __init__(self, on_tick: Callable[[float], object]) -> None:
        self._on_tick = on_tick
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to tick in the running loop."""
        self._schedule(asyncio.get_running_loop())

    def stop(self) -> None:
        """Stop the timer. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._due = None

    @property
    def overdue(self) -> float:
        """Seconds by which the next tick is late now; may be read from any thread."""
        due = self._due  # read once: the loop may change it meanwhile
        return 0.0 if due is None else max(0.0, time.monotonic() - due)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        # The loop's own clock may be a virtual one; other threads read this one.
        self._due = time.monotonic() + LAG_PERIOD
        self._timer = loop.call_later(LAG_PERIOD, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        overdue = self.overdue
        self._schedule(loop)
        self._on_tick(overdue)
