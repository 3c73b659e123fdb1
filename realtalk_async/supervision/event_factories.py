"""The events of one life of a process, made of what is known of it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.supervision.reports.report import recognise

if TYPE_CHECKING:
    from datetime import datetime

    from realtalk_async.supervision.incarnation_record import Life
    from realtalk_async.supervision.output.buffer import OutputLine
    from realtalk_async.supervision.policy.ladder import Step
    from realtalk_async.supervision.policy.probes import Probe
    from realtalk_async.supervision.reports.status import ExitStatus


def started(name: str, life: Life) -> events.ProcessStarted:
    """Tell that it was spawned, or adopted."""
    assert life.body is not None
    return events.ProcessStarted(
        process=name,
        incarnation=life.number,
        pid=life.body.pid,
        command=life.command,
    )


def refused(name: str, life: Life) -> events.SpawnRefused:
    """Tell that it could not be spawned."""
    return events.SpawnRefused(
        process=name, incarnation=life.number, error=life.summary
    )


def restarted(name: str, life: Life, before: Life) -> events.ProcessRestarted:
    """Tell that it has taken the place of the life *before*."""
    assert life.body is not None
    return events.ProcessRestarted(
        process=name,
        incarnation=life.number,
        pid=life.body.pid,
        downtime=max(0.0, life.started - (before.ended or life.started)),
    )


def ready(name: str, life: Life) -> events.ProcessReady:
    """Tell that all of its readiness probes are content."""
    return events.ProcessReady(process=name, incarnation=life.number, after=life.uptime)


def unready(name: str, life: Life, probe: Probe, why: str) -> events.ReadinessLost:
    """Tell that one of them is not content any more."""
    return events.ReadinessLost(
        process=name, incarnation=life.number, probe=probe.name, reason=why
    )


def unwell(
    name: str, life: Life, probe: Probe, why: str, after: float
) -> events.ProbeFailed:
    """Tell that a probe found it not well, *after* so many seconds."""
    return events.ProbeFailed(
        process=name,
        incarnation=life.number,
        probe=probe.name,
        reason=why,
        after=after,
    )


def step(name: str, life: Life, step: Step, members: int) -> events.StopStep:
    """Tell that a step of its ladder is taken."""
    return events.StopStep(
        process=name, incarnation=life.number, step=str(step), members=members
    )


def exited(
    name: str, life: Life, last: list[OutputLine], *, at: datetime, after: float
) -> events.ProcessExited:
    """Tell that it is dead, *after* so many seconds; *last* are its last words."""
    assert life.body is not None
    sign = recognise(last)
    return events.ProcessExited(
        process=name,
        at=at,
        incarnation=life.number,
        pid=life.body.pid,
        exit_status=_known(life.exit_status),
        cause=str(life.cause),
        uptime=life.uptime,
        summary=life.summary,
        sign=f"{sign.kind}: {sign.advice}" if sign else "",
        last_words=tuple(line.text for line in last),
        after=after,
    )


def stopped(name: str, life: Life) -> events.ProcessStopped:
    """Tell that its ending, which was asked for, is over."""
    return events.ProcessStopped(
        process=name,
        incarnation=life.number,
        exit_status=_known(life.exit_status),
        escalated=life.escalated,
    )


def _known(status: ExitStatus | None) -> ExitStatus:
    return "unknown" if status is None else status
