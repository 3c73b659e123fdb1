"""Why a process is as it is, which rule decides, and what comes next, in words. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from realtalk_async.supervision.status import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from realtalk_async.supervision.policy.probes import Health
    from realtalk_async.supervision.reports.report import (
        IncarnationReport,
        RecoveryAttempt,
    )
    from realtalk_async.supervision.status import ProcessStatus

MANY = 1_000_000
"""Whoever may fail so often is never given up in practice."""

ALIVE = {State.STARTING, State.RUNNING, State.BACKOFF}
"""The states in which a failure would be judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What one process knows of its own future. All times are seconds from now."""

    status: ProcessStatus
    last: IncarnationReport | None
    """The current or last life; None before the first."""
    failed: IncarnationReport | None
    """The newest life that failed; None if none did."""
    attempts: tuple[RecoveryAttempt, ...]
    """What was done about that failure."""
    mode: str
    """``permanent``, ``transient`` or ``temporary``."""
    rule: str
    """By which rule its next failure is judged, with its numbers."""
    failures_left: float
    """So many more failures at once, and it is given up."""
    due: float | None = None
    """When it starts again; None if no start is due."""
    step: str = ""
    """The step of the ladder that was taken last, if it is being ended."""
    next_step: str = ""
    """The one that follows; "" if that was the last."""
    next_step_in: float = 0.0
    probes: tuple[tuple[Health, float | None], ...] = ()
    """What its probes have heard, and when each is asked again; None if it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorContext:
    """What those around a process have to do with its future, in words."""

    critical: bool = False
    needs: Mapping[str, str] = field(default_factory=dict[str, str])
    """What it waits for, and how that is."""
    holders: Mapping[str, str] = field(default_factory=dict[str, str])
    """The devices that it waits for, and who has them."""
    patience: float = 0.0
    """Seconds for which it goes on waiting for them."""
    devices: tuple[str, ...] = ()
    """What it has for itself alone."""
    together: tuple[str, ...] = ()
    """Who is restarted with it."""
    intensity: str = ""
    """How many restarts all together had, and may have."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a process is as it is, and what comes next; ``str()`` is for people."""

    status: ProcessStatus
    why: str
    """What has brought it into its state."""
    rule: str
    """Which rule decides what follows its next end, with its numbers."""
    next: tuple[str, ...]
    """What comes next, and when; what it waits for; when it is given up."""
    report: IncarnationReport | None
    """Of the newest life that failed; None if none did."""
    attempts: tuple[RecoveryAttempt, ...]
    """What was done about that failure."""

    def to_dict(self, *, most_lines: int | None = None) -> dict[str, object]:
        """Return it ready for JSON; *most_lines* as for `IncarnationReport.to_dict`."""
        return {
            "process": self.status.name,
            "status": self.status.to_dict(),
            "why": self.why,
            "rule": self.rule,
            "next": list(self.next),
            "report": self.report and self.report.to_dict(most_lines=most_lines),
            "attempts": [one.to_dict() for one in self.attempts],
        }

    def __str__(self) -> str:
        status = self.status
        pid = f", pid {status.pid}" if status.status == "running" and status.pid else ""
        lines = [
            f"{status.name}: {status.state}{pid}, incarnation {status.incarnation}"
        ]
        lines += [f"  why       {self.why}", f"  rule      {self.rule}"]
        for number, what in enumerate(self.next):
            lines.append(f"  {'' if number else 'next':<10}{what}")
        if self.report is None:
            return "\n".join([*lines, "nothing has failed so far"])
        lines.append(str(self.report))
        lines += [f"  then      {one}" for one in self.attempts]
        return "\n".join(lines)


def explain(forecast: Forecast, context: SupervisorContext) -> Explanation:
    """Return the explanation of a process."""
    return Explanation(
        forecast.status,
        _why(forecast),
        forecast.rule,
        (*_deeds(forecast), *_waits(context), *_chances(forecast, context)),
        forecast.failed,
        forecast.attempts,
    )


def _why(forecast: Forecast) -> str:
    last = forecast.last
    if forecast.status.state is not State.BACKOFF or last is None:
        return forecast.status.reason
    # The reason would tell of the delay as it was.
    if last.sign is None:
        return last.summary
    return f"{last.summary}; it looks like {last.sign.kind}: {last.sign.advice}"


def _deeds(forecast: Forecast) -> Iterator[str]:
    """Yield what will be done, and when."""
    if forecast.due is not None:
        yield f"starts again {_in(forecast.due)}"
    if forecast.next_step:
        after = f" if {forecast.step} does not end it" if forecast.step else ""
        yield f"{forecast.next_step} follows {_in(forecast.next_step_in)}{after}"
    elif forecast.step:
        yield f"{forecast.step} was the last step of its ladder"
    for health, due in forecast.probes:
        if due is not None:
            probe = f"{health.probe.purpose} probe {health.probe.name}"
            yield f"{probe} is asked again {_in(due)}{_failing(health)}"


def _failing(health: Health) -> str:
    if not health.failures:
        return ""
    most = health.probe.failure_threshold
    return f"; it has failed {health.failures} of {most} times: {health.reason}"


def _waits(context: SupervisorContext) -> Iterator[str]:
    """Yield what it waits for."""
    for name, how in context.needs.items():
        yield f"waits for {name!r}, which it depends on: {how}"
    for device, who in context.holders.items():
        left = max(context.patience, 0.0)
        yield f"waits for the device {device!r}, which {who} has; for {left:.1f} s more"


def _chances(forecast: Forecast, context: SupervisorContext) -> Iterator[str]:
    """Yield what happens if it fails."""
    for device in context.devices:
        yield f"has the device {device!r} for itself alone"
    state = forecast.status.state
    if state not in ALIVE:
        if state is not State.STOPPING:
            yield "stays dead until it is started again"
        return
    loss = (
        "all others are stopped" if context.critical else "the app goes on without it"
    )
    if forecast.mode == "temporary":
        yield f"if it fails, it stays dead, and {loss}"
        return
    if context.together:
        yield f"is restarted together with {', '.join(map(repr, context.together))}"
    left = forecast.failures_left
    if math.isinf(left) or left >= MANY:
        yield "is never given up"
    else:
        yield (
            f"is given up at its next failure; then {loss}"
            if left == 1
            else f"is given up after {left:g} more failures at once; then {loss}"
        )
    if context.intensity:
        yield context.intensity


def _in(seconds: float) -> str:
    return "now" if seconds <= 0 else f"in {seconds:.2f} s"
