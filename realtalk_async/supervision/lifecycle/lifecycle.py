"""
The lifecycle that processes and tasks share: from incarnation to incarnation.

One coroutine waits for dependencies, starts an incarnation, supervises it, decides whether
a restart follows, backs off, and starts the next one, until the lifecycle settles. Callers
only set requests and wait for their effect. A stop overrides a restart; a restart request
ends a backoff.

An error of this package in the supervision of an incarnation ends only this incarnation:
its processes are killed, the error is published once, and the policy decides what follows.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Literal

from realtalk_async import events
from realtalk_async.concurrency.condition import LightEvent
from realtalk_async.concurrency.waiting import error_of
from realtalk_async.events.base import APP, POLICY, act_as, get_actor
from realtalk_async.exceptions import DeviceBusy, ProcessDead
from realtalk_async.supervision.lifecycle import event_factories
from realtalk_async.supervision.lifecycle.app_callbacks import (
    InternalFailure,
    RestartFunction,
    StartImpossible,
    StartRefused,
    run_unless_stopped,
)
from realtalk_async.supervision.lifecycle.lifecycle_state import (
    LifecycleState,
    RestartRequest,
    starter,
)
from realtalk_async.supervision.lifecycle.record import (
    IncarnationRecord,
)
from realtalk_async.supervision.policy.restart import (
    Decision,
    GiveUp,
    Restart,
    RestartPolicy,
    StayDown,
)
from realtalk_async.supervision.reports.report import RecoveryAttempt
from realtalk_async.supervision.reports.status import State
from realtalk_async.times import now_local

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from realtalk_async.supervision.lifecycle.supervisor_port import SupervisorPort
    from realtalk_async.supervision.output.capture import Capture


class Lifecycle(LifecycleState, abc.ABC):
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
        super().__init__(name, policy, capture)
        self._supervisor = supervisor
        self._dependencies = wait_for_dependencies
        self._earlier = earlier
        self._stop = LightEvent()
        self._wake_up = LightEvent()
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
    async def _end_broken(self, record: IncarnationRecord) -> None:
        """Kill an incarnation whose supervision failed; end its capture."""

    @abc.abstractmethod
    def _decide_by_policy(self, now: float, share: float) -> Decision:
        """Decide what follows the last incarnation, or the failure to start one."""

    @abc.abstractmethod
    def _abandon(self) -> None:
        """Release everything without waiting: the lifecycle task is being cancelled."""

    def _stay_down(self) -> StayDown:
        """Return the decision that follows a stop request."""
        return StayDown(self._supervisor.stop_reason(self.name) or "it was stopped")

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
            work = self._run(get_actor())
            try:
                self._task = self._supervisor.run_task(
                    work, f"lifecycle of {self.name}"
                )
            except BaseException:
                work.close()
                raise
            self._task.add_done_callback(self._finish)
            self._supervisor.begins(self.name)

    @property
    def stop_requested(self) -> bool:
        """Whether a stop was requested since the last start."""
        return self._stop.is_set()

    def request_stop(self) -> None:
        """Request a stop; no restart follows."""
        record = self.record
        if record is not None and (record.finished or not record.stopping):
            record.ended_by = get_actor()
        self._stop.set()
        self._wake_up.set()
        if self._task is None and self.state is State.STARTING:
            self._enter(State.EXITED, "stopped before it was started")

    @property
    def restart_refusal(self) -> str:
        """Why a restart request would be refused now; "" if it would be accepted."""
        if self.alive:
            return "it is running; stop it first, or use ProcessManager.restart(name)"
        if self._task is not None and self._stop.is_set():
            return "it is being stopped"
        return self._supervisor.restart_refusal(self.name)

    async def request_restart(self, function: RestartFunction | None) -> bool:
        """Request a new incarnation; simultaneous requests share one answer."""
        if self._request is None:
            self.decider.forget_failures()
            answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._request = RestartRequest(function, answer, get_actor())
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
            record.ended_by = get_actor()
            self._wake_up.set()
        before = self.settle_count
        await self.until(lambda: record.finished or self.settle_count != before)

    # ---- the lifecycle task

    async def _run(self, actor: str) -> None:
        """
        Run incarnations until no restart is due. Never raises, unless cancelled.

        Args:
            actor: Who requested the first start.
        """
        starter.set(actor)
        try:
            act_as(APP)  # the app's own functions run in this task
            decision = await self._run_incarnations()
            task = self._task
            assert task is not None
            self._finish(task)
            given_up = decision.reason if isinstance(decision, GiveUp) else None
            self._supervisor.settled(self.name, given_up)
        except Exception as error:  # noqa: BLE001 - no error may reach other children
            self._publish_error(error)

    def _finish(self, task: asyncio.Task[None]) -> None:
        """
        Settle, and notify all waiters.

        This is also the done callback of the task, which may have been cancelled before
        its first step, or have failed.
        """
        if self._task is task:
            if task.done():
                self._abandon()
                if (error := error_of(task)) is not None:
                    self._publish_error(error)
            self._task = None
            self.settle_count += 1
            self._capture.is_over = True
        if self._task is None:
            self._answer(succeeded=False)
            self._capture.notify()
            self._changed.notify()

    async def _run_incarnations(self) -> Decision | None:
        """Run one incarnation after the other; return the last decision, if any."""
        before = self.state, self.reason
        decision: Decision | None = None
        error: BaseException | None = None
        while True:
            try:
                if error is not None:
                    await self._end_after_error(error)
                    decision = self._decide()
                elif await self._run_incarnation():
                    decision = self._decide()
                elif decision is None:
                    self._enter(*before)
                    return None
                if not isinstance(decision, Restart):
                    self._settle(decision)
                    return decision
                if not await self._back_off(decision):
                    return None
                error = None
            except (Exception, asyncio.CancelledError) as exc:
                if _is_being_cancelled():
                    raise
                if error is not None:  # the second one without an incarnation between
                    return self._give_up_after(exc)
                error = exc

    async def _run_incarnation(self) -> bool:
        """
        Start the next incarnation, and supervise it to its end.

        Returns:
            False if the restart function of the app gave nothing to run: nothing changed.

        Raises:
            BaseException: The error of this package that ended the incarnation.
        """
        # An adopted process has its first incarnation before this task runs.
        if not self._capture.is_open and not await self._start_incarnation():
            return False
        starter.set(POLICY)
        if self._capture.is_open:
            await self._supervise()
            record = self.records[-1]
            if record.error is not None and not record.error_is_known:
                raise record.error
        return True

    # ---- errors of this package

    def fail(self, record: IncarnationRecord, error: BaseException) -> None:
        """End an incarnation whose supervision has failed outside this task."""
        if record.error is None:
            record.error = error
            self._wake_up.set()

    async def _end_after_error(self, error: BaseException) -> None:
        """End the current incarnation because its supervision failed; publish that."""
        record = self.record
        if record is None or record.finished:
            self._start_failure = InternalFailure(error)
        else:
            record.error = record.error or error
        self._publish_error(error)
        if record is not None and not record.finished:
            await self._end_broken(record)

    def _give_up_after(self, error: BaseException) -> GiveUp:
        """Kill what runs without waiting: the end after an error has failed too."""
        self._abandon()
        self._publish_error(error)
        decision = GiveUp(f"internal error: {error!r}")
        self._settle(decision)
        return decision

    def _publish_error(self, error: BaseException) -> None:
        record = self.record
        if record is not None and record.error is error:
            record.error_is_known = True
        self._supervisor.publish(
            event_factories.internal_error(self.name, self.number, error)
        )

    async def _start_incarnation(self) -> bool:
        """
        Start the next incarnation once its dependencies run.

        Returns:
            False if the restart function of the app gave nothing to run: nothing changed.
        """
        self._start_failure = None
        if self._request is not None:
            starter.set(self._request.actor)
        try:
            await self._wait_for_dependencies()
            await self._start_next()
        except StartRefused as exc:
            return self._stop.is_set() or self._refused(exc)
        return True

    async def _wait_for_dependencies(self) -> None:
        if self._dependencies is None:
            return
        if not self.records or self.state is State.STARTING:
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
            if record.error is not None:
                return
            if self._stop.is_set() or record.unhealthy or record.group_restart:
                record.stopping = True
                self._enter(State.STOPPING, "being stopped")
                await self._end_bound(record)
                return
            self._wake_up.clear()
            await self._wake_up.wait()

    async def _end_bound(self, record: IncarnationRecord) -> None:
        """First end what is bound to this child, unless this one hangs or is killed."""
        if not (record.unhealthy or record.kill_requested):
            ending = self._supervisor.end_bound(self.name, for_good=self._stop.is_set())
            if ending is not None:
                await ending

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
        if policy.mode != "temporary" and self.number == self._earlier + 1:
            # Later, a program may be missing during an update.
            if getattr(self.start_error, "is_lasting", False):
                return GiveUp(str(self.start_error))
            if record is not None and record.shell_cannot_run_it:
                return GiveUp(f"{record.summary}: the shell cannot run the program")
        group_restart = record.group_restart if record and record.ended_as_asked else ""
        if self._start_failure is not None or not group_restart:
            return None
        assert record is not None
        starter.set(record.ended_by)
        if policy.mode == "temporary":
            return StayDown(f"{group_restart}; its policy says never to restart it")
        return Restart(0.0, group_restart, counted=False)

    async def _back_off(self, decision: Restart) -> bool:
        """Wait until the next start is due; return False if a stop arrives meanwhile."""
        self.due = deadline = time.monotonic() + decision.delay
        if not self._request:
            when = f"next start in {decision.delay:.2f} s"
            self._enter(State.BACKOFF, f"{decision.reason}; {when}")
            self._supervisor.publish(
                event_factories.restart_scheduled(
                    self.name, self.number, decision, starter.get()
                )
            )
        await self._stop_restart_group()
        while not (self._stop.is_set() or self._request):
            self._wake_up.clear()
            left = deadline - time.monotonic()
            if left <= 0 or not await self._wake_up.is_set_within(left):
                break
        if self._supervisor.closing:
            await self._stop.wait()  # a closing manager stops every child
        if self._stop.is_set():
            why = self._supervisor.stop_reason(self.name)
            self._enter(State.EXITED, why or "stopped while waiting for its restart")
            if (record := self.record) is not None:
                self._supervisor.publish(
                    event_factories.restart_cancelled(self.name, record)
                )
        return not self._stop.is_set()

    async def _stop_restart_group(self) -> None:
        """End the incarnations of the processes that are restarted with this one."""
        by_policy = not (self._request or (self.record and self.record.group_restart))
        for ending in (
            self._supervisor.stop_restart_group(self.name) if by_policy else None,
            self._supervisor.end_bound(self.name, for_good=False),
        ):
            if ending is not None:
                with contextlib.suppress(StartRefused):
                    await run_unless_stopped(self._stop, ending)

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
        record.started_by = starter.get()
        if self._add_record(record, self._supervisor.history):
            self._supervisor.counts_earlier(self.name)
        return record

    def _record_attempt(self, died: int, detail: str, *, succeeded: bool) -> None:
        """Record an attempt to restart after incarnation *died*; answer the request."""
        asked_by: Literal["app", "policy"] = "app" if self._request else "policy"
        if died:
            new = RecoveryAttempt(now_local(), died, asked_by, succeeded, detail)
            self._add_attempt(new, self._supervisor.history.incarnations)
        self._answer(succeeded=succeeded)

    def _answer(self, *, succeeded: bool) -> None:
        request, self._request = self._request, None
        if request is not None and not request.answer.done():
            request.answer.set_result(succeeded)


def _is_being_cancelled() -> bool:
    """Return whether the running task is cancelled; a callee may raise the same error."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
