"""The events of one life of a process, made of what is known of it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.supervision.reports.report import recognise

if TYPE_CHECKING:
    from datetime import datetime

    from realtalk_async.supervision.kernel.exit_status import ExitStatus
    from realtalk_async.supervision.lifecycle.record import IncarnationRecord
    from realtalk_async.supervision.output.line import OutputLine
    from realtalk_async.supervision.policy.ladder import Step
    from realtalk_async.supervision.policy.probes import Probe


def started(name: str, record: IncarnationRecord) -> events.ProcessStarted:
    """Tell that it was spawned, or adopted."""
    assert record.running is not None
    return events.ProcessStarted(
        process=name,
        incarnation=record.number,
        pid=record.running.pid,
        command=record.command,
    )


def refused(name: str, record: IncarnationRecord) -> events.SpawnRefused:
    """Tell that it could not be spawned."""
    return events.SpawnRefused(
        process=name, incarnation=record.number, error=record.summary
    )


def restarted(
    name: str, record: IncarnationRecord, before: IncarnationRecord
) -> events.ProcessRestarted:
    """Tell that it has taken the place of the life *before*."""
    assert record.running is not None
    return events.ProcessRestarted(
        process=name,
        incarnation=record.number,
        pid=record.running.pid,
        downtime=max(0.0, record.started - (before.ended or record.started)),
    )


def ready(name: str, record: IncarnationRecord) -> events.ProcessReady:
    """Tell that all of its readiness probes are content."""
    return events.ProcessReady(
        process=name, incarnation=record.number, after=record.uptime
    )


def unready(
    name: str, record: IncarnationRecord, probe: Probe, why: str
) -> events.ReadinessLost:
    """Tell that one of them is not content any more."""
    return events.ReadinessLost(
        process=name, incarnation=record.number, probe=probe.name, reason=why
    )


def unwell(
    name: str, record: IncarnationRecord, probe: Probe, why: str, after: float
) -> events.ProbeFailed:
    """Tell that a probe found it not well, *after* so many seconds."""
    return events.ProbeFailed(
        process=name,
        incarnation=record.number,
        probe=probe.name,
        reason=why,
        after=after,
    )


def step(
    name: str, record: IncarnationRecord, step: Step, members: int
) -> events.StopStep:
    """Tell that a step of its ladder is taken."""
    return events.StopStep(
        process=name, incarnation=record.number, step=str(step), members=members
    )


def exited(
    name: str,
    record: IncarnationRecord,
    last: list[OutputLine],
    *,
    at: datetime,
    after: float,
) -> events.ProcessExited:
    """Tell that it is dead, *after* so many seconds; *last* are its last words."""
    assert record.running is not None
    sign = recognise(last)
    return events.ProcessExited(
        process=name,
        at=at,
        incarnation=record.number,
        pid=record.running.pid,
        exit_status=_known(record.exit_status),
        cause=str(record.cause),
        uptime=record.uptime,
        summary=record.summary,
        sign=f"{sign.kind}: {sign.advice}" if sign else "",
        last_words=tuple(line.text for line in last),
        after=after,
    )


def stopped(name: str, record: IncarnationRecord) -> events.ProcessStopped:
    """Tell that its ending, which was asked for, is over."""
    return events.ProcessStopped(
        process=name,
        incarnation=record.number,
        exit_status=_known(record.exit_status),
        escalated=record.escalated,
    )


def _known(status: ExitStatus | None) -> ExitStatus:
    return "unknown" if status is None else status
