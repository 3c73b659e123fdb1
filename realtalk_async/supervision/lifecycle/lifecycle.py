"""
The lifecycle that processes and tasks share: from incarnation to incarnation.

One coroutine waits for dependencies, starts an incarnation, supervises it, decides whether
a restart follows, backs off, and starts the next one, until the lifecycle settles. Callers
only set requests and wait for their effect. A stop overrides a restart; a restart request
ends a backoff.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from realtalk_async import events
from realtalk_async.concurrency.condition import Condition, LightEvent
from realtalk_async.exceptions import DeviceBusy, ProcessDead
from realtalk_async.supervision.lifecycle.app_callbacks import (
    RestartFunction,
    StartImpossible,
    StartRefused,
    run_unless_stopped,
)
from realtalk_async.supervision.lifecycle.record import (
    IncarnationRecord,
    newest_failure,
)
from realtalk_async.supervision.policy.restart import (
    Decision,
    GiveUp,
    Restart,
    RestartDecider,
    RestartPolicy,
    StayDown,
)
from realtalk_async.supervision.reports.explanation import Forecast
from realtalk_async.supervision.reports.report import RecoveryAttempt
from realtalk_async.supervision.status import ProcessStatus, State
from realtalk_async.times import now_local

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from realtalk_async.exceptions import SpawnFailed
    from realtalk_async.supervision.lifecycle.supervisor_port import SupervisorPort
    from realtalk_async.supervision.output.capture import Capture
    from realtalk_async.supervision.reports.report import IncarnationReport


@dataclass(frozen=True, slots=True)
class RestartRequest:
    """A request of the app for a new incarnation."""

    function: RestartFunction | None
    answer: asyncio.Future[bool]


class Lifecycle(abc.ABC):
    """
    All incarnations of one process or task; a subclass starts and supervises each.

    Args:
        name: The name of the process or task.
        policy: When it is restarted automatically.
        supervisor: The supervisor, as this lifecycle sees it.
        capture: Where its output goes.
        wait_for_dependencies: Waits until its dependencies run and its devices are free;
            raises `ProcessDead` or `DeviceBusy` if that fails.
        earlier: The number of earlier incarnations under the same name.
    """

    def __init__(
        self,
        name: str,
        policy: RestartPolicy,
        supervisor: SupervisorPort,
        capture: Capture,
        *,
        wait_for_dependencies: Callable[[], Awaitable[None]] | None = None,
        earlier: int = 0,
    ) -> None:
        self.name = name
        self.records: list[IncarnationRecord] = []
        self.attempts: list[RecoveryAttempt] = []
        self.state = State.STARTING
        self.reason = "not started yet"
        self.restarts: int = 0
        self.settle_count = 0
        """How many times this lifecycle has settled."""
        self.start_error: SpawnFailed | ProcessDead | DeviceBusy | None = None
        """Why the last start failed."""
        self.decider = RestartDecider(policy)
        self.due: float | None = None
        """When the next start is due, in monotonic seconds; None if no start is due."""
        self._supervisor = supervisor
        self._capture = capture
        self._dependencies = wait_for_dependencies
        self._earlier = earlier
        self._task: asyncio.Task[None] | None = None
        self._stop = LightEvent()
        self._wake_up = LightEvent()
        self._changed = Condition()
        self._request: RestartRequest | None = None
        self._start_failure: StartRefused | None = None

    # ---- implemented by subclasses

    @abc.abstractmethod
    async def _start_next(self) -> None:
        """
        Start the next incarnation and its capture; return if a stop arrives meanwhile.

        Raises:
            StartRefused: If there is nothing to start.
        """

    @abc.abstractmethod
    async def _supervise(self) -> None:
        """Wait for the end of the current incarnation, or end it; end its capture."""

    @abc.abstractmethod
    def _decide_by_policy(self, now: float, share: float) -> Decision:
        """Decide what follows the last incarnation, or the failure to start one."""

    @abc.abstractmethod
    def _abandon(self) -> None:
        """Release everything without waiting: the lifecycle task is being cancelled."""

    def _stay_down(self) -> StayDown:
        """Return the decision that follows a stop request."""
        return StayDown("it was stopped")

    # ---- state and reports

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
    def is_ready(self) -> bool:
        """Whether an incarnation runs and is ready."""
        # After a death the state stays RUNNING until the output is drained.
        return self.state is State.RUNNING and self.alive

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
        )

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
            raise ProcessDead(self.name, "depend on it", self.reason)

    async def wait_until_settled(self) -> None:
        """Wait until the lifecycle settles, even if it is started again at once."""
        before = self.settle_count
        await self.until(lambda: self.settled or self.settle_count != before)

    # ---- requests

    async def start(self) -> None:
        """Start the lifecycle if it is settled; wait until the start succeeds or fails."""
        if self.settled and not self.alive:
            self.state = State.STARTING
            self.begin()
        # A failed startup probe first stops the incarnation; the decision comes after.
        undecided = {State.STARTING, State.STOPPING}
        await self.until(lambda: self.state not in undecided)

    def begin(self) -> None:
        """Start the lifecycle task if there is none."""
        if self._task is None:
            self._stop.clear()
            self.start_error = None
            self._capture.is_over = False
            self._task = self._supervisor.run_task(
                self._run(), f"lifecycle of {self.name}"
            )
            self._task.add_done_callback(self._finish)

    def request_stop(self) -> None:
        """Request a stop; no restart follows."""
        self._stop.set()
        self._wake_up.set()
        if self._task is None and self.state is State.STARTING:
            self._enter(State.EXITED, "stopped before it was started")

    @property
    def restart_refusal(self) -> str:
        """Why a restart request would be refused now; "" if it would be accepted."""
        if self.alive:
            return "it is running; stop it first"
        if self._task is not None and self._stop.is_set():
            return "it is being stopped"
        return "its manager is closing" if self._supervisor.closing else ""

    async def request_restart(self, function: RestartFunction | None) -> bool:
        """Request a new incarnation; simultaneous requests share one answer."""
        if self._request is None:
            answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._request = RestartRequest(function, answer)
            self._wake_up.set()
            self.begin()
        return await asyncio.shield(self._request.answer)

    async def restart_with_group(self, why: str) -> None:
        """End the current incarnation so that the next one follows; wait until it ended."""
        record = self.record
        if self.settled or record is None:
            return
        if record.alive:
            record.group_restart = why
            self._wake_up.set()
        before = self.settle_count
        await self.until(lambda: record.finished or self.settle_count != before)

    # ---- the lifecycle task

    async def _run(self) -> None:
        """Run incarnations until no restart is due."""
        decision = await self._run_incarnations()
        task = self._task
        assert task is not None
        self._finish(task)
        given_up = decision.reason if isinstance(decision, GiveUp) else None
        self._supervisor.settled(self.name, given_up)

    def _finish(self, task: asyncio.Task[None]) -> None:
        """
        Settle, and notify all waiters.

        This is also the done callback of the task: a task that is cancelled before its
        first step never runs `_run`.
        """
        if self._task is not task:
            return
        if task.done():
            self._abandon()
        self._task = None
        self.settle_count += 1
        self._capture.is_over = True
        self._answer(succeeded=False)
        self._capture.notify()
        self._changed.notify()

    async def _run_incarnations(self) -> Decision | None:
        """Run one incarnation after the other; return the last decision, if any."""
        before = self.state, self.reason
        decision: Decision | None = None
        while True:
            # An adopted process has its first incarnation before this task runs.
            if self._capture.is_open or await self._start_incarnation():
                if self._capture.is_open:
                    await self._supervise()
                decision = self._decide()
            elif decision is None:
                self._enter(*before)
                return None
            if not isinstance(decision, Restart):
                self._settle(decision)
                return decision
            if not await self._back_off(decision):
                return None

    async def _start_incarnation(self) -> bool:
        """
        Start the next incarnation once its dependencies run.

        Returns:
            False if the restart function of the app gave nothing to run: nothing changed.
        """
        self._start_failure = None
        try:
            await self._wait_for_dependencies()
            await self._start_next()
        except StartRefused as exc:
            return self._stop.is_set() or self._refused(exc)
        return True

    async def _wait_for_dependencies(self) -> None:
        if self._dependencies is None:
            return
        if not self.records:
            self._enter(State.STARTING, "waiting for its dependencies")
        try:
            await run_unless_stopped(self._stop, self._dependencies())
        except ProcessDead as exc:
            self.start_error = exc
            raise StartImpossible(str(exc)) from exc
        except DeviceBusy as exc:
            self.start_error = exc
            raise StartRefused(str(exc)) from exc

    def _refused(self, why: StartRefused) -> bool:
        """Record that there is nothing to start; return whether that is a failure."""
        if by_policy := self._request is None:
            self._start_failure = why
        self._record_attempt(self.number, str(why), succeeded=False)
        return by_policy

    async def _wait_for_exit(self, record: IncarnationRecord) -> None:
        """Wait for the end of an incarnation, or for a reason to end it."""
        while record.alive:
            if self._stop.is_set() or record.unhealthy or record.group_restart:
                record.stopping = True
                self._enter(State.STOPPING, "being stopped")
                return
            self._wake_up.clear()
            await self._wake_up.wait()

    def _decide(self) -> Decision:
        """Decide what follows; the supervisor may veto a restart."""
        share = random.random()  # noqa: S311 - jitter needs no secrecy
        decision = self._decide_without_policy() or self._decide_by_policy(
            time.monotonic(), share
        )
        if isinstance(decision, Restart):
            return self._supervisor.allow_restart(self.name, decision)
        return decision

    def _decide_without_policy(self) -> Decision | None:
        """Return the decision where a request or a failed dependency determines it."""
        if self._stop.is_set():
            return self._stay_down()
        if self._request is not None:
            return Restart(0.0, "the app asked for it", counted=False)
        if isinstance(self._start_failure, StartImpossible):
            return GiveUp(str(self._start_failure))
        record, policy = self.record, self.decider.policy
        group_restart = record.group_restart if record and record.ended_as_asked else ""
        if self._start_failure is not None or not group_restart:
            return None
        if policy.mode == "temporary":
            return StayDown(f"{group_restart}; its policy says never to restart it")
        return Restart(0.0, group_restart, counted=False)

    async def _back_off(self, decision: Restart) -> bool:
        """Wait until the next start is due; return False if a stop arrives meanwhile."""
        self.due = deadline = time.monotonic() + decision.delay
        if not self._request:
            self._enter(State.BACKOFF, decision.reason)
            self._supervisor.publish(
                events.RestartScheduled(
                    process=self.name,
                    incarnation=self.number,
                    delay=decision.delay,
                    reason=decision.reason,
                )
            )
        await self._stop_restart_group()
        while not (self._stop.is_set() or self._request):
            self._wake_up.clear()
            left = deadline - time.monotonic()
            if left <= 0 or not await _is_set_within(self._wake_up, left):
                break
        if self._supervisor.closing:
            await self._stop.wait()  # a closing manager stops every child
        if self._stop.is_set():
            self._enter(State.EXITED, "stopped while waiting for its restart")
        return not self._stop.is_set()

    async def _stop_restart_group(self) -> None:
        """End the incarnations of the processes that are restarted with this one."""
        if self._request or (self.record and self.record.group_restart):
            return
        preparation = self._supervisor.stop_restart_group(self.name)
        if preparation is not None:
            with contextlib.suppress(StartRefused):
                await run_unless_stopped(self._stop, preparation)

    def _settle(self, decision: Decision) -> None:
        """Enter the final state that the decision gives."""
        if not isinstance(decision, GiveUp) or not decision.allowed:
            self._enter(State.EXITED, decision.reason)
            return
        self._enter(State.FATAL, decision.reason)
        self._supervisor.publish(
            events.ProcessGivenUp(
                process=self.name, incarnation=self.number, reason=decision.reason
            )
        )

    # ---- records

    def _begin_record(
        self, command: str, *, is_task: bool = False
    ) -> IncarnationRecord:
        """Add the record of a new incarnation."""
        number = (self.number or self._earlier) + 1
        record = IncarnationRecord(number, command, is_task=is_task)
        self.records.append(record)
        return record

    def _record_attempt(self, died: int, detail: str, *, succeeded: bool) -> None:
        """Record an attempt to restart after incarnation *died*; answer the request."""
        asked_by: Literal["app", "policy"] = "app" if self._request else "policy"
        if died:
            self.attempts.append(
                RecoveryAttempt(now_local(), died, asked_by, succeeded, detail)
            )
        self._answer(succeeded=succeeded)

    def _answer(self, *, succeeded: bool) -> None:
        request, self._request = self._request, None
        if request is not None and not request.answer.done():
            request.answer.set_result(succeeded)

    def _enter(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason
        if self.records:
            self.records[-1].mark(str(state))
        self._changed.notify()


async def _is_set_within(event: LightEvent, seconds: float) -> bool:
    """Wait for *event* for at most *seconds*; return whether it was set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
