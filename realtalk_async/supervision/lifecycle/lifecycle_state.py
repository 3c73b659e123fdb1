"""What is known of all incarnations of one process or task, and waiting for a change."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async.concurrency.condition import Condition
from realtalk_async.events import Cause
from realtalk_async.events.base import APP
from realtalk_async.exceptions import ProcessDead
from realtalk_async.supervision.lifecycle.record import (
    IncarnationRecord,
    newest_failure,
)
from realtalk_async.supervision.policy.restart import RestartDecider, RestartPolicy
from realtalk_async.supervision.reports.explanation import Forecast
from realtalk_async.supervision.reports.kept_history import (
    NONE_EARLIER,
    History,
    count_excess,
)
from realtalk_async.supervision.reports.status import ProcessStatus, State

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from datetime import datetime

    from realtalk_async.exceptions import DeviceBusy, SpawnFailed
    from realtalk_async.supervision.lifecycle.app_callbacks import RestartFunction
    from realtalk_async.supervision.output.capture import Capture
    from realtalk_async.supervision.reports.containment import Mechanism
    from realtalk_async.supervision.reports.kept_history import Earlier
    from realtalk_async.supervision.reports.report import (
        IncarnationReport,
        RecoveryAttempt,
    )


starter: ContextVar[str] = ContextVar("starter", default=APP)
"""Who requested the next start of the lifecycle that runs in the current task."""


@dataclass(frozen=True, slots=True)
class RestartRequest:
    """A request of the app for a new incarnation."""

    function: RestartFunction | None
    answer: asyncio.Future[bool]
    actor: str


class LifecycleState:
    """
    The state of a process or task, with the records of its incarnations.

    Args:
        name: The name of the process or task.
        policy: When it is restarted automatically.
        capture: Where its output goes.
    """

    def __init__(self, name: str, policy: RestartPolicy, capture: Capture) -> None:
        self.name = name
        self.records: list[IncarnationRecord] = []
        self.attempts: list[RecoveryAttempt] = []
        self.earlier = NONE_EARLIER
        """The incarnations that are no longer kept."""
        self.state = State.STARTING
        self.reason = "not started yet"
        self.restarts: int = 0
        self.settle_count: int = 0
        """How many times this lifecycle has settled."""
        self.start_error: SpawnFailed | ProcessDead | DeviceBusy | None = None
        """Why the last start failed."""
        self.decider = RestartDecider(policy)
        self.due: float | None = None
        """When the next start is due, in monotonic seconds; None if no start is due."""
        self._capture = capture
        self._task: asyncio.Task[None] | None = None
        self._changed = Condition()

    @property
    def record(self) -> IncarnationRecord | None:
        """The current or last incarnation."""
        return self.records[-1] if self.records else None

    @property
    def number(self) -> int:
        """The number of the current or last incarnation; 0 before the first."""
        return self.records[-1].number if self.records else 0

    @property
    def alive(self) -> bool:
        """Whether an incarnation runs."""
        return bool(self.records) and self.records[-1].alive

    @property
    def containment(self) -> Mechanism:
        """How the descendants of an incarnation are found and ended."""
        return "group"

    @property
    def is_oneshot(self) -> bool:
        """Whether it is ready when it has finished, and stays so."""
        return False

    @property
    def is_done(self) -> bool:
        """Whether it is a one-shot that has finished with success."""
        record = self.record
        return (
            self.is_oneshot
            and record is not None
            and record.finished
            and record.cause is Cause.FINISHED
        )

    @property
    def is_ready(self) -> bool:
        """Whether an incarnation runs and is ready, or a one-shot has finished."""
        # After a death the state stays RUNNING until the output is drained.
        return (self.state is State.RUNNING and self.alive) or self.is_done

    @property
    def settled(self) -> bool:
        """Whether no incarnation runs and none will be started automatically."""
        return self._task is None

    def status(self, last_checked: datetime | None) -> ProcessStatus:
        """Return the status; a task has neither a pid nor an exit status."""
        record = self.record
        return ProcessStatus(
            self.name,
            record.running.pid if record and record.running else None,
            "running" if self.alive else "dead",
            self.state,
            self.number,
            record.started_at if record else None,
            last_checked,
            record.uptime if record else 0.0,
            self.restarts,
            record.exit_status if record else None,
            record.cause if record else None,
            self.reason,
            self.containment,
        )

    def _add_record(self, record: IncarnationRecord, history: History) -> bool:
        """
        Add a record, and count the oldest that are not kept; forget their output.

        Returns:
            Whether a record was counted for the first time.
        """
        self.records.append(record)
        records, size_of = self.records, self._capture.size_of
        excess = count_excess(
            history, len(records), lambda n: size_of(records[n].number)
        )
        if not excess:
            return False
        is_first = not self.earlier
        for old in self.records[:excess]:
            self.earlier += old.count()
        del self.records[:excess]
        first = self.records[0].number
        self.attempts = [one for one in self.attempts if one.after >= first]
        for buffer in self._capture.buffers.values():
            buffer.forget_before(first)
        return is_first

    def count_all(self) -> Earlier:
        """Return the count of all incarnations so far."""
        return sum((record.count() for record in self.records), self.earlier)

    def _add_attempt(self, attempt: RecoveryAttempt, most: int | None) -> None:
        """Add an attempt to restart; forget the oldest beyond *most*."""
        self.attempts.append(attempt)
        if most is not None:
            del self.attempts[:-most]

    def report(self) -> IncarnationReport | None:
        """Return the report of the current or last incarnation; None before the first."""
        return (
            self.records[-1].report(self.name, self._capture) if self.records else None
        )

    def reports(self) -> tuple[IncarnationReport, ...]:
        """Return the reports of all incarnations."""
        return tuple(record.report(self.name, self._capture) for record in self.records)

    def forecast(self, status: ProcessStatus) -> Forecast:
        """Return the input of `explain`: what happens next, and by which rule."""
        now, failed = time.monotonic(), newest_failure(self.records)
        return Forecast(
            status=status,
            last=self.report(),
            failed=failed.report(self.name, self._capture) if failed else None,
            attempts=tuple(
                attempt
                for attempt in self.attempts
                if failed and attempt.after == failed.number
            ),
            mode=self.decider.policy.mode,
            rule=self.decider.rule(now),
            failures_left=self.decider.failures_left(now),
            due=self.due - now if self.due and self.state is State.BACKOFF else None,
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds; it is evaluated at every change of state."""
        await self._changed.wait_until(condition)

    async def wait_until_running(self) -> None:
        """
        Wait until an incarnation runs and is ready.

        Raises:
            ProcessDead: If the lifecycle settles first.
        """
        await self.until(lambda: self.is_ready or self.settled)
        if not self.is_ready:
            report = self.report()
            words, last = report.last_words if report else "", self.reason
            if words and words not in last:
                last = f"{words}; {last}"
            raise ProcessDead(self.name, "depend on it", last)

    async def wait_until_settled(self) -> None:
        """Wait until the lifecycle settles, even if it is started again at once."""
        before = self.settle_count
        await self.until(lambda: self.settled or self.settle_count != before)

    def _enter(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason
        if self.records:
            self.records[-1].mark(str(state))
        self._changed.notify()
