"""
`SupervisedTask`: a coroutine with the restart policy, events and states of a process.

It suits work inside the app that must be as reliable as its children, such as the task that
holds a websocket.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from realtalk_async import arguments, events
from realtalk_async.events import Cause
from realtalk_async.supervision.kernel.leaks import IncarnationResources
from realtalk_async.supervision.kernel.spawn import current_guard
from realtalk_async.supervision.lifecycle.app_callbacks import InternalFailure
from realtalk_async.supervision.lifecycle.lifecycle import Lifecycle
from realtalk_async.supervision.output.capture import Capture
from realtalk_async.supervision.policy.restart import (
    TRANSIENT,
    Decision,
    GiveUp,
    Mode,
    RestartPolicy,
    StayDown,
)
from realtalk_async.supervision.reports.failures import describe_error, format_failure
from realtalk_async.supervision.reports.report import (
    ProcessHistory,
)
from realtalk_async.supervision.reports.status import ProcessStatus, State
from realtalk_async.supervision.supervised import Supervised
from realtalk_async.times import format_hms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from realtalk_async.supervision.lifecycle.record import IncarnationRecord
    from realtalk_async.supervision.lifecycle.supervisor_port import SupervisorPort
    from realtalk_async.supervision.reports.explanation import Forecast

TaskFunction = Callable[[], Awaitable[object]]

CANCEL_TIMEOUT = 5.0
"""Seconds that a cancelled task may take to end."""

MAX_SIZE = 16 * 1024 * 1024
"""Bytes of tracebacks that are kept."""


class TaskLifecycle(Lifecycle):
    """All incarnations of a coroutine function; see `SupervisedTask`."""

    def __init__(
        self,
        function: TaskFunction,
        name: str,
        supervisor: SupervisorPort,
        *,
        restart: RestartPolicy,
        fatal: tuple[type[BaseException], ...],
        wait_for_dependencies: Callable[[], Awaitable[None]] | None,
        earlier: int,
    ) -> None:
        # The tracebacks of a task are captured as its stderr.
        capture = Capture(name, max_size=MAX_SIZE, on_error=_ignore_spill_error)
        super().__init__(
            name,
            restart,
            supervisor,
            capture,
            wait_for_dependencies=wait_for_dependencies,
            earlier=earlier,
        )
        self.error: BaseException | None = None
        """The exception of the last incarnation."""
        self._function = function
        self._fatal = fatal
        self._work: asyncio.Task[object] | None = None

    @property
    def still_runs(self) -> bool:
        """Whether the coroutine runs, even after its cancellation timed out."""
        return self._work is not None and not self._work.done()

    async def _start_next(self) -> None:
        current_guard.set(self._supervisor)  # for the commands that the task starts
        died = self.number
        function = self._function
        while isinstance(function, partial):
            function = function.func
        name = getattr(function, "__qualname__", repr(function))
        record = self._begin_record(f"async {name}()", is_task=True)
        if died:
            self.restarts += 1
            self._record_attempt(died, "called", succeeded=True)
        self._capture.begin(record.number, binary=False)
        self.error = None
        self._work = asyncio.get_running_loop().create_task(
            _call(self._function), name=self.name
        )
        self._work.add_done_callback(partial(self._on_end, record))
        self._enter(State.RUNNING, "running")

    async def _supervise(self) -> None:
        record, work = self.records[-1], self._work
        assert work is not None
        try:
            await self._wait_for_exit(record)
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait([work], timeout=CANCEL_TIMEOUT)
        if record.error is None:
            self._finish_incarnation(record, work)

    async def _end_broken(self, record: IncarnationRecord) -> None:
        record.stopping = True
        if self._work is not None and not self._work.done():
            self._work.cancel()
            await asyncio.wait([self._work], timeout=CANCEL_TIMEOUT)
        self._capture.end()
        if record.ended is None:
            record.end(None)
        record.cause, record.capture = Cause.INTERNAL_ERROR, "internal error"
        record.summary = self.reason = f"internal error: {record.error!r}"
        record.mark("ended")
        record.finished = True

    def _on_end(self, record: IncarnationRecord, _work: asyncio.Task[object]) -> None:
        """Record the time of its end at once; the cause is determined afterwards."""
        try:
            if not record.finished:
                record.end(None)
                self._wake_up.set()
        except Exception as error:  # noqa: BLE001 - the lifecycle must learn of the end
            self.fail(record, error)

    def _finish_incarnation(
        self, record: IncarnationRecord, work: asyncio.Task[object]
    ) -> None:
        """Record the cause of its end; publish a failure."""
        if not work.done():
            record.end(None)
        elif not work.cancelled():
            self.error = work.exception()
        record.cause, self.reason = self._cause_of_end(record, work)
        record.summary, record.capture = self.reason, "none"
        record.mark("ended")
        text = ""
        if self.error is not None:
            text = format_failure(self.error)
            self._capture.append(
                "stderr", text.encode(errors="replace"), time.monotonic()
            )
        self._capture.end()
        record.finished = True
        if record.cause is Cause.FAILED:
            self._supervisor.publish(
                events.TaskFailed(
                    process=self.name,
                    incarnation=record.number,
                    reason=self.reason,
                    uptime=record.uptime,
                    traceback=text,
                )
            )

    def _cause_of_end(
        self, record: IncarnationRecord, work: asyncio.Task[object]
    ) -> tuple[Cause, str]:
        """Return the cause of its end, and the reason in words."""
        if not work.done():
            how = f"it did not end within {CANCEL_TIMEOUT:g} s of its stop"
            return Cause.UNKNOWN, how
        if self._stop.is_set():
            return Cause.STOPPED, "it was stopped"
        if record.stopping:
            return Cause.STOPPED, record.group_restart
        if work.cancelled():
            return Cause.FAILED, "it was cancelled"
        if self.error is not None:
            return Cause.FAILED, describe_error(self.error)
        return Cause.FINISHED, "it returned"

    def _stay_down(self) -> StayDown:
        has_run = self.state in {State.RUNNING, State.STOPPING}
        how = self.reason if has_run else "stopped before it was started"
        return StayDown(self._supervisor.stop_reason(self.name) or how)

    def _decide_by_policy(self, now: float, share: float) -> Decision:
        """Apply the policy, unless another call cannot succeed."""
        if isinstance(self._start_failure, InternalFailure):
            how = str(self._start_failure)
            return self.decider.decide(Cause.INTERNAL_ERROR, None, now, share, how=how)
        if self._start_failure is not None:
            return GiveUp(str(self._start_failure))
        if self.still_runs:
            return GiveUp(f"{self.reason}, so no other incarnation is started")
        if isinstance(self.error, self._fatal):
            return GiveUp(f"{self.reason}, which is listed as fatal")
        cause = self.records[-1].cause
        assert cause is not None
        return self.decider.decide(cause, None, now, share, how=self.reason)

    def _abandon(self) -> None:
        if self._capture.is_open:
            self._capture.end()
        self._enter(State.EXITED, "cancelled")


class SupervisedTask(Supervised[TaskLifecycle]):
    """
    A coroutine function that is called again when it fails.

    Returning is success, raising is failure; `permanent` calls it again in either case.

    Args:
        function: Called without arguments for each incarnation.
        name: Unique among the processes and tasks of its manager.
        supervisor: The supervisor of its manager.
        restart: When to call it again; a policy or its word.
        fatal: Exceptions after which it is not called again.
        wait_for_dependencies: Waits until its dependencies run; raises `ProcessDead` if
            one of them is dead.
        earlier: The number of earlier incarnations under the same name.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """

    def __init__(
        self,
        function: TaskFunction,
        name: str,
        supervisor: SupervisorPort,
        *,
        restart: RestartPolicy | Mode = TRANSIENT,
        fatal: Iterable[type[BaseException]] = (),
        wait_for_dependencies: Callable[[], Awaitable[None]] | None = None,
        earlier: int = 0,
    ) -> None:
        arguments.function("function", function, "an async function, not yet called")
        arguments.one_line("name", name)
        arguments.like("supervisor", supervisor, "a supervisor", "publish", "run_task")
        what = "wait_for_dependencies"
        arguments.function(what, wait_for_dependencies, optional=True)
        arguments.integer("earlier", earlier, minimum=0)
        super().__init__(
            TaskLifecycle(
                function,
                name,
                supervisor,
                restart=RestartPolicy.of(restart),
                fatal=checked_exceptions(fatal),
                wait_for_dependencies=wait_for_dependencies,
                earlier=earlier,
            )
        )

    @property
    def error(self) -> BaseException | None:
        """The exception of the last incarnation, or the error of its start."""
        return self._lifecycle.start_error or self._lifecycle.error

    def get_history(self) -> ProcessHistory:
        """Return every incarnation; the tracebacks are its stderr."""
        lifecycle = self._lifecycle
        attempts = tuple(lifecycle.attempts)
        return ProcessHistory(
            self.get_status(),
            lifecycle.reports(),
            attempts,
            earlier=lifecycle.earlier,
        )

    def get_resources(self) -> list[IncarnationResources]:
        """Return a coroutine that still runs, for `ProcessManager.leak_report`."""
        name = f"{self.name}#{self.incarnation}"
        left = (self.name,) if self._lifecycle.still_runs and self.is_settled else ()
        return [IncarnationResources(name, 0, self.is_settled, tasks=left)]

    def get_forecast(self) -> Forecast:
        """Return what it does next; `ProcessManager.explain` puts it into words."""
        return self._lifecycle.forecast(self.get_status())

    async def start(self) -> ProcessStatus:
        """
        Start the lifecycle, and wait until the function has been called.

        Raises:
            ProcessDead: If a dependency is dead and will not be restarted.
            DeviceBusy: If a device did not become free.
            WrongEventLoop: If it is called from another event loop.
        """
        self._check_loop()
        lifecycle = self._lifecycle
        await lifecycle.start()
        if not lifecycle.records and lifecycle.start_error is not None:
            raise lifecycle.start_error
        return self.get_status()

    async def stop(self) -> ProcessStatus:
        """Cancel it and wait for its end, 5 s at most. Idempotent."""
        self._check_loop()
        self._lifecycle.request_stop()
        await self._lifecycle.wait_until_settled()
        return self.get_status()

    def __repr__(self) -> str:
        up = format_hms(self.get_status().uptime)
        return f"<SupervisedTask {self.name} {self.state} up {up}>"


async def _call(function: TaskFunction) -> object:
    return await function()


def checked_exceptions(
    fatal: Iterable[type[BaseException]],
) -> tuple[type[BaseException], ...]:
    """
    Return the exceptions after which a task is not called again.

    Raises:
        InvalidConfiguration: If one of them is no class of exceptions.
    """

    def check(argument: str, value: object) -> None:
        arguments.subclass(argument, value, BaseException, "a class of exceptions")

    return arguments.several("fatal", fatal, check, "classes of exceptions")


def _ignore_spill_error(_error: OSError) -> None:
    """Keep the tracebacks in memory if they cannot be moved to the disk."""
