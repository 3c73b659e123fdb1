"""The events of one incarnation of a process, made from its record."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.events.base import get_actor
from realtalk_async.supervision.reports.failures import format_traceback
from realtalk_async.supervision.reports.report import (
    find_last_words,
    recognise,
)

if TYPE_CHECKING:
    from datetime import datetime

    from realtalk_async.supervision.kernel.exit_status import ExitStatus
    from realtalk_async.supervision.lifecycle.record import IncarnationRecord
    from realtalk_async.supervision.output.line import OutputLine
    from realtalk_async.supervision.policy.ladder import Step
    from realtalk_async.supervision.policy.probes import Probe
    from realtalk_async.supervision.policy.restart import Restart


def internal_error(
    name: str, number: int, error: BaseException
) -> events.InternalError:
    """Return the event of an error of this package in the supervision of *name*."""
    return events.InternalError(
        process=name,
        incarnation=number,
        error=repr(error),
        traceback=format_traceback(error),
    )


def started(name: str, record: IncarnationRecord) -> events.ProcessStarted:
    assert record.running is not None
    return events.ProcessStarted(
        process=name,
        incarnation=record.number,
        actor=record.started_by,
        pid=record.running.pid,
        command=record.command,
    )


def spawn_refused(name: str, record: IncarnationRecord) -> events.SpawnRefused:
    return events.SpawnRefused(
        process=name,
        incarnation=record.number,
        actor=record.started_by,
        error=record.summary,
    )


def restart_failed(
    name: str, number: int, why: Exception, actor: str
) -> events.RestartFailed:
    """Return the event that the restart after incarnation *number* did not succeed."""
    return events.RestartFailed(
        process=name, incarnation=number, actor=actor, reason=str(why)
    )


def restart_refused(
    name: str, number: int, pid: int | None, why: str
) -> events.RestartRefused:
    """Return the event that a request for a restart changed nothing."""
    return events.RestartRefused(
        process=name, incarnation=number, actor=get_actor(), pid=pid, reason=why
    )


def restarted(
    name: str, record: IncarnationRecord, before: IncarnationRecord
) -> events.ProcessRestarted:
    """Return the event that *record* replaces the incarnation *before*."""
    assert record.running is not None
    return events.ProcessRestarted(
        process=name,
        incarnation=record.number,
        actor=record.started_by,
        pid=record.running.pid,
        downtime=max(0.0, record.started - (before.ended or record.started)),
    )


def ready(name: str, record: IncarnationRecord) -> events.ProcessReady:
    return events.ProcessReady(
        process=name, incarnation=record.number, after=record.uptime
    )


def readiness_lost(
    name: str, record: IncarnationRecord, probe: Probe, why: str
) -> events.ReadinessLost:
    return events.ReadinessLost(
        process=name, incarnation=record.number, probe=probe.name, reason=why
    )


def probe_failed(
    name: str, record: IncarnationRecord, probe: Probe, why: str, after: float
) -> events.ProbeFailed:
    """Return the event; *after*: seconds since the last success of the probe."""
    return events.ProbeFailed(
        process=name,
        incarnation=record.number,
        probe=probe.name,
        reason=why,
        after=after,
    )


def stop_step(
    name: str, record: IncarnationRecord, step: Step, members: int
) -> events.StopStep:
    return events.StopStep(
        process=name,
        incarnation=record.number,
        actor=record.ended_by,
        step=str(step),
        members=members,
        routine=record.alive and record.step_number == 1,
    )


def unkillable(
    name: str, record: IncarnationRecord, survivors: tuple[str, ...]
) -> events.Unkillable:
    return events.Unkillable(
        process=name,
        incarnation=record.number,
        actor=record.ended_by,
        survivors=survivors,
    )


def exited(
    name: str,
    record: IncarnationRecord,
    last: list[OutputLine],
    *,
    at: datetime,
    after: float,
    log: str,
) -> events.ProcessExited:
    """
    Return the event of the exit.

    Args:
        name: The name of the process.
        record: The incarnation that exited.
        last: Its newest lines of output.
        at: The local time of the exit.
        after: Seconds since the exit notice of the kernel.
        log: The path of the log.
    """
    assert record.running is not None
    sign = recognise(last)
    return events.ProcessExited(
        process=name,
        at=at,
        incarnation=record.number,
        actor=record.ended_by if record.stopping else events.POLICY,
        pid=record.running.pid,
        exit_status=_known(record.exit_status),
        cause=str(record.cause),
        uptime=record.uptime,
        summary=record.summary,
        sign=f"{sign.kind}: {sign.advice}" if sign else "",
        last_words=find_last_words(last, record.cause) if record.failed else "",
        last_lines=tuple(line.text for line in last),
        after=after,
        log=log,
    )


def output_dropped(
    name: str, number: int, stream: str, max_size: int
) -> events.OutputDropped:
    return events.OutputDropped(
        process=name, incarnation=number, stream=stream, max_size=max_size
    )


def restart_scheduled(
    name: str, number: int, restart: Restart, actor: str
) -> events.RestartScheduled:
    """Return the event that a restart follows incarnation *number*."""
    return events.RestartScheduled(
        process=name,
        incarnation=number,
        actor=actor,
        delay=restart.delay,
        reason=restart.reason,
    )


def stopped(name: str, record: IncarnationRecord) -> events.ProcessStopped:
    """Return the event that an incarnation was stopped and its group is empty."""
    return events.ProcessStopped(
        process=name,
        incarnation=record.number,
        actor=record.ended_by,
        exit_status=_known(record.exit_status),
        escalated=record.escalated,
    )


def restart_cancelled(name: str, record: IncarnationRecord) -> events.ProcessStopped:
    """Return the event that a stop arrived after the death, before the next start."""
    return replace(stopped(name, record), while_down=True)


def _known(status: ExitStatus | None) -> ExitStatus:
    return "unknown" if status is None else status
