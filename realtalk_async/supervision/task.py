"""
A coroutine supervised like a process: the same policy, events and states.

For what runs inside the app and must be there as surely as its children, such as the task
that holds a websocket.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.events import Cause
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision.kernel.leaks import Trace
from realtalk_async.supervision.lifecycle import Course
from realtalk_async.supervision.output.capture import Capture
from realtalk_async.supervision.policy.restart import (
    TRANSIENT,
    GiveUp,
    Rest,
    RestartPolicy,
    Verdict,
)
from realtalk_async.supervision.reports.report import ProcessHistory
from realtalk_async.supervision.reports.status import ProcessStatus, State
from realtalk_async.supervision.supervised import Face
from realtalk_async.times import format_hms

if TYPE_CHECKING:
    from realtalk_async.supervision.incarnation_record import Life
    from realtalk_async.supervision.reports.explanation import Outlook
    from realtalk_async.supervision.supervisor_port import Host

TaskFunction = Callable[[], Awaitable[object]]

STOP_PATIENCE = 5.0
"""Seconds that a cancelled task may take to end."""

MAX_SIZE = 16 * 1024 * 1024
"""Bytes of tracebacks that are kept."""


class TaskOwner(Course):
    """Calls a coroutine function over all of its lives; see `SupervisedTask`."""

    def __init__(
        self,
        function: TaskFunction,
        name: str,
        host: Host,
        *,
        restart: RestartPolicy,
        fatal: tuple[type[BaseException], ...],
        others: Callable[[], Awaitable[None]] | None,
        earlier: int,
    ) -> None:
        # What a task has to say is its tracebacks: they are its stderr.
        capture = Capture(name, max_size=MAX_SIZE, on_trouble=_accept)
        super().__init__(name, restart, host, capture, others=others, earlier=earlier)
        self.error: BaseException | None = None
        """What the last incarnation raised."""
        self._function = function
        self._fatal = fatal
        self._work: asyncio.Task[object] | None = None

    @property
    def goes_on(self) -> bool:
        """Whether it runs, be it that it should have ended."""
        return self._work is not None and not self._work.done()

    async def _revive(self) -> None:
        """Call it."""
        died = self.number
        name = getattr(self._function, "__qualname__", repr(self._function))
        life = self._begin_life(f"async {name}()", inside=True)
        if died:
            self.restarts += 1
            self._attempted(died, "called", succeeded=True)
        self._capture.begin(life.number, binary=False)
        self.error = None
        self._work = asyncio.get_running_loop().create_task(
            _call(self._function), name=self.name
        )
        self._work.add_done_callback(partial(self._ended, life))
        self._enter(State.RUNNING, "running")

    async def _attend(self) -> None:
        """Wait for its end, or cancel it if it has to end."""
        life, work = self.lives[-1], self._work
        assert work is not None
        try:
            await self._stay(life)
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait([work], timeout=STOP_PATIENCE)
        self._bury(life, work)

    def _ended(self, life: Life, _work: asyncio.Task[object]) -> None:
        """Note its end at once; how it ended is looked at afterwards."""
        if not life.buried:
            life.end(None)
            self._news.set()

    def _bury(self, life: Life, work: asyncio.Task[object]) -> None:
        """Note how it ended, and tell of it."""
        if not work.done():
            life.end(None)
        elif not work.cancelled():
            self.error = work.exception()
        life.cause, self.reason = self._look_at_end(life, work)
        life.summary, life.capture = self.reason, "none"
        life.mark("ended")
        told = ""
        if self.error is not None:
            told = "".join(traceback.format_exception(self.error))
            self._capture.take(
                "stderr", told.encode(errors="replace"), time.monotonic()
            )
        self._capture.end()
        life.buried = True
        if life.cause is Cause.FAILED:
            self._host.announce(
                events.TaskFailed(
                    process=self.name,
                    incarnation=life.number,
                    reason=self.reason,
                    uptime=life.uptime,
                    traceback=told,
                )
            )

    def _look_at_end(self, life: Life, work: asyncio.Task[object]) -> tuple[Cause, str]:
        """Return why it ended, and in words how."""
        if not work.done():
            how = f"it did not end within {STOP_PATIENCE:g} s of its stop"
            return Cause.UNKNOWN, how
        if self._stop.is_set():
            return Cause.STOPPED, "stopped by us"
        if life.stopping:
            return Cause.STOPPED, life.bounced
        if work.cancelled():
            return Cause.FAILED, "it was cancelled"
        if self.error is not None:
            return Cause.FAILED, f"{type(self.error).__name__}: {self.error}"
        return Cause.FINISHED, "it returned"

    def _rest(self) -> Rest:
        has_run = self.state in {State.RUNNING, State.STOPPING}
        return Rest(self.reason if has_run else "stopped before it was started")

    def _judge(self, now: float, share: float) -> Verdict:
        """Judge by the policy, unless calling it again would be of no use."""
        if self._trouble is not None:
            return GiveUp(str(self._trouble))
        if self.goes_on:
            return GiveUp(f"{self.reason}, and nothing can take its place")
        if isinstance(self.error, self._fatal):
            return GiveUp(f"{self.reason}: trying again cannot mend that")
        cause = self.lives[-1].cause
        assert cause is not None
        return self.judge.decide(cause, None, now, share, how=self.reason)

    def _abandon(self) -> None:
        """Leave the capture closed; its call was cancelled with us."""
        if self._capture.is_open:
            self._capture.end()
        self._enter(State.EXITED, "cancelled")


class SupervisedTask(Face[TaskOwner]):
    """
    A coroutine function that is called again when it fails.

    Returning is success, raising is failure; `permanent` calls it again in either case.

    Args:
        function: Called without arguments for each incarnation.
        name: Unique among the processes and tasks of its manager.
        host: Those around it; a manager passes itself.
        restart: When to call it again.
        fatal: Exceptions after which calling again would be of no use.
        others: Waits until all that it depends on runs; raises `ProcessDead` if one of
            them will not.
        earlier: How many incarnations of that name there were before.
    """

    def __init__(
        self,
        function: TaskFunction,
        name: str,
        host: Host,
        *,
        restart: RestartPolicy = TRANSIENT,
        fatal: tuple[type[BaseException], ...] = (),
        others: Callable[[], Awaitable[None]] | None = None,
        earlier: int = 0,
    ) -> None:
        if not callable(function):
            raise InvalidConfiguration(f"a task is an async function, not {function!r}")
        super().__init__(
            TaskOwner(
                function,
                name,
                host,
                restart=restart,
                fatal=fatal,
                others=others,
                earlier=earlier,
            )
        )

    @property
    def error(self) -> BaseException | None:
        """What the last incarnation raised, or why it could not be called."""
        return self._owner.start_error or self._owner.error

    def get_history(self) -> ProcessHistory:
        """Return every incarnation; what it raised stands in its stderr."""
        owner = self._owner
        attempts = tuple(owner.attempts)
        return ProcessHistory(self.get_status(), owner.reports(), attempts)

    def get_traces(self) -> list[Trace]:
        """Return what each of its lives has had, for `ProcessManager.leak_report`."""
        name = f"{self.name}#{self.incarnation}"
        left = (self.name,) if self._owner.goes_on and self.is_settled else ()
        return [Trace(name, 0, self.is_settled, tasks=left)]

    def get_outlook(self) -> Outlook:
        """Return what is to come of it; `ProcessManager.explain` says it in words."""
        return self._owner.outlook(self.get_status())

    async def start(self) -> ProcessStatus:
        """
        Begin, and wait until it has been called.

        Raises:
            ProcessDead: If it depends on one that is dead for good.
            DeviceBusy: If it waited for a device in vain.
        """
        owner = self._owner
        await owner.start()
        if not owner.lives and owner.start_error is not None:
            raise owner.start_error
        return self.get_status()

    async def stop(self) -> ProcessStatus:
        """Cancel it and wait for its end, 5 s at most. Idempotent."""
        self._owner.ask_to_stop()
        await self._owner.come_to_rest()
        return self.get_status()

    def __repr__(self) -> str:
        up = format_hms(self.get_status().uptime)
        return f"<SupervisedTask {self.name} {self.state} up {up}>"


async def _call(function: TaskFunction) -> object:
    return await function()


def _accept(_error: OSError) -> None:
    """Let tracebacks stay in memory if they cannot be moved to the disk."""
