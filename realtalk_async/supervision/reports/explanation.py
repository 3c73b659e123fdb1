"""The text of `explain`: why a process is in its state, which rule applies, what follows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from realtalk_async.supervision.reports.report import check_most_lines
from realtalk_async.supervision.reports.status import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from realtalk_async.supervision.policy.probes import Health
    from realtalk_async.supervision.reports.report import (
        IncarnationReport,
        RecoveryAttempt,
    )
    from realtalk_async.supervision.reports.status import ProcessStatus

UNLIMITED_FAILURES = 1_000_000
"""From so many allowed failures on, the text says that the process is never given up."""

FAILURE_STATES = {State.STARTING, State.RUNNING, State.BACKOFF}
"""The states in which the restart policy applies to the next failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What the lifecycle of one process does next. All times are seconds from now."""

    status: ProcessStatus
    last: IncarnationReport | None
    """The report of the current or last incarnation; None before the first."""
    failed: IncarnationReport | None
    """The report of the newest incarnation that failed; None if none failed."""
    attempts: tuple[RecoveryAttempt, ...]
    """The attempts to restart after that failure."""
    mode: str
    """``permanent``, ``transient`` or ``temporary``."""
    rule: str
    """The rule for its next failure, with its numbers."""
    failures_left: float
    """The number of further immediate failures until the restart is given up."""
    due: float | None = None
    """When the next start is due; None if no start is due."""
    step: str = ""
    """The last step of the stop ladder that ran; empty if none ran."""
    next_step: str = ""
    """The next step of the stop ladder; empty if there is none."""
    next_step_in: float = 0.0
    probes: tuple[tuple[Health, float | None], ...] = ()
    """The state of each probe, and when it runs next; None if it does not run again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorContext:
    """The influence of the other processes of the manager on one process."""

    critical: bool = False
    dependencies: Mapping[str, str] = field(default_factory=dict[str, str])
    """The dependencies that it waits for, by name, and their states."""
    holders: Mapping[str, str] = field(default_factory=dict[str, str])
    """The devices that it waits for, and their holders."""
    device_wait: float = 0.0
    """Seconds until it stops waiting for its devices."""
    devices: tuple[str, ...] = ()
    """The devices that it holds exclusively."""
    together: tuple[str, ...] = ()
    """The processes that are restarted together with it."""
    incident: str = ""
    """The incident of its last death, with all processes; empty if it stood alone."""
    bound_to: tuple[str, ...] = ()
    """The processes that it restarts and stops with."""
    bound: tuple[str, ...] = ()
    """The processes that restart and stop with it."""
    lost: bool = False
    """Whether it was stopped because a process that it is bound to has ended."""
    intensity: str = ""
    """The number of restarts of all processes and its limit, in words."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a process is in its state, and what follows; ``str()`` is for people."""

    status: ProcessStatus
    why: str
    """The reason of its state."""
    rule: str
    """The rule that decides what follows its next end, with its numbers."""
    next: tuple[str, ...]
    """What follows, and when; what it waits for; when its restart is given up."""
    report: IncarnationReport | None
    """The report of the newest incarnation that failed; None if none failed."""
    attempts: tuple[RecoveryAttempt, ...]
    """The attempts to restart after that failure."""
    incident: str = ""
    """The incident to which that failure belongs; empty if it stood alone."""
    details: tuple[str, ...] = ()
    """What the app itself tells about the process."""

    def to_dict(self, *, most_lines: int | None = None) -> dict[str, object]:
        """Return it ready for JSON; *most_lines* as for `IncarnationReport.to_dict`."""
        check_most_lines(most_lines)
        return {
            "process": self.status.name,
            "status": self.status.to_dict(),
            "why": self.why,
            "rule": self.rule,
            "next": list(self.next),
            "report": self.report and self.report.to_dict(most_lines=most_lines),
            "attempts": [one.to_dict() for one in self.attempts],
            "incident": self.incident,
            "details": list(self.details),
        }

    def __str__(self) -> str:
        status = self.status
        pid = f", pid {status.pid}" if status.status == "running" and status.pid else ""
        lines = [
            f"{status.name}: {status.state}{pid}, incarnation {status.incarnation}"
        ]
        lines += [f"  why       {self.why}"]
        lines += [f"  details   {one}" for one in self.details]
        lines += [f"  rule      {self.rule}"]
        for number, what in enumerate(self.next):
            lines.append(f"  {'' if number else 'next':<10}{what}")
        if self.incident:
            lines.append(f"  incident  {self.incident}")
        if self.report is None:
            return "\n".join([*lines, "nothing has failed so far"])
        lines.append(str(self.report))
        lines += [f"  then      {one}" for one in self.attempts]
        return "\n".join(lines)


def explain(
    forecast: Forecast, context: SupervisorContext, details: tuple[str, ...] = ()
) -> Explanation:
    """Return the explanation of a process."""
    return Explanation(
        forecast.status,
        _why(forecast),
        forecast.rule,
        (
            *_scheduled(forecast),
            *_awaited(context),
            *_on_failure(forecast, context),
        ),
        forecast.failed,
        forecast.attempts,
        context.incident,
        details,
    )


def _why(forecast: Forecast) -> str:
    last = forecast.last
    if forecast.status.state is not State.BACKOFF or last is None:
        return forecast.status.reason
    # The reason of the backoff state contains the whole delay; `due` is the rest of it.
    if last.sign is None:
        return last.summary
    return f"{last.summary}; it looks like {last.sign.kind}: {last.sign.advice}"


def _scheduled(forecast: Forecast) -> Iterator[str]:
    """Yield the next start, stop step and probes, with their times."""
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
            yield f"{probe} runs again {_in(due)}{_probe_failures(health)}"


def _probe_failures(health: Health) -> str:
    if not health.failures:
        return ""
    most = health.probe.failure_threshold
    return f"; it has failed {health.failures} of {most} times: {health.reason}"


def _awaited(context: SupervisorContext) -> Iterator[str]:
    """Yield the dependencies and devices that it waits for."""
    for name, state in context.dependencies.items():
        yield f"waits for its dependency {name!r}: {state}"
    for device, holder in context.holders.items():
        left = max(context.device_wait, 0.0)
        yield f"waits for the device {device!r} of {holder}, for {left:.1f} s more"


def _on_failure(forecast: Forecast, context: SupervisorContext) -> Iterator[str]:
    """Yield what happens if it fails."""
    for device in context.devices:
        yield f"holds the device {device!r} exclusively"
    state, bound_to = forecast.status.state, " and ".join(map(repr, context.bound_to))
    if state not in FAILURE_STATES:
        if context.lost:
            yield f"is started again with {bound_to}"
        elif state is not State.STOPPING:
            yield "stays dead until it is started again"
        return
    if bound_to:
        yield f"is bound to {bound_to}: restarts with it, and stops when it ends for good"
    if context.bound:
        yield f"{', '.join(map(repr, context.bound))} restart and stop with it"
    loss = (
        "all others are stopped" if context.critical else "the app continues without it"
    )
    if forecast.mode == "temporary":
        yield f"if it fails, it stays dead, and {loss}"
        return
    if context.together:
        yield f"is restarted together with {', '.join(map(repr, context.together))}"
    left = forecast.failures_left
    if math.isinf(left) or left >= UNLIMITED_FAILURES:
        yield "is never given up"
    else:
        yield (
            f"is given up at its next failure; then {loss}"
            if left == 1
            else f"is given up after {left:g} more immediate failures; then {loss}"
        )
    if context.intensity:
        yield context.intensity


def _in(seconds: float) -> str:
    return "now" if seconds <= 0 else f"in {seconds:.2f} s"
