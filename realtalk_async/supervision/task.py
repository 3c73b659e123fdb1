"""
A coroutine supervised like a process: the same policy, events and states.

For what runs inside the app and must be there as surely as its children, such as the task
that holds a websocket.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.exceptions import DeviceBusy, InvalidConfiguration, ProcessDead

from .callbacks import Hopeless, Refused, unless
from .capture import Capture
from .changes import Changes
from .explanation import Outlook
from .life import Life, newest_failure
from .remains import Trace
from .report import IncarnationReport, ProcessHistory, RecoveryAttempt
from .restart import TRANSIENT, GiveUp, Judge, Rest, Restart, RestartPolicy, Verdict
from .states import Cause, ProcessStatus, State, clock_face, now_local

if TYPE_CHECKING:
    from datetime import datetime

    from .host import Host

TaskFunction = Callable[[], Awaitable[object]]

STOP_PATIENCE = 5.0
"""Seconds that a cancelled task may take to end."""

MAX_SIZE = 16 * 1024 * 1024
"""Bytes of tracebacks that are kept."""


class SupervisedTask:
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
        self._function = function
        self._name = name
        self._host = host
        self._judge = Judge(restart)
        self._fatal = fatal
        self._others = others
        self._state = State.STARTING
        self._reason = "not started yet"
        self._lives: list[Life] = []
        self._earlier = earlier
        self._attempts: list[RecoveryAttempt] = []
        # What a task has to say is its tracebacks: they are its stderr.
        self._capture = Capture(name, max_size=MAX_SIZE, on_trouble=_accept)
        self._stop_asked = asyncio.Event()
        self._changes = Changes()
        self._work: asyncio.Task[object] | None = None
        self._bounced = ""
        self._last_checked: datetime | None = None
        self._due: float | None = None
        self._owner: asyncio.Task[None] | None = None
        self.error: BaseException | None = None
        """What the last incarnation raised, or why it could not be called."""

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def state(self) -> State:
        """Where it stands."""
        return self._state

    @property
    def restarts(self) -> int:
        """How many times it was called again."""
        return max(0, len(self._lives) - 1)

    @property
    def is_settled(self) -> bool:
        """Whether it has ended and will not be called again by itself."""
        return self._owner is None

    @property
    def incarnation(self) -> int:
        """The number of the current or last call; 0 before the first."""
        return self._lives[-1].number if self._lives else 0

    def get_status(self) -> ProcessStatus:
        """Return what is known now; a task has no pid and no exit status."""
        life = self._lives[-1] if self._lives else None
        running = self._state in {State.RUNNING, State.STOPPING}
        return ProcessStatus(
            self._name,
            None,
            "running" if running else "dead",
            self._state,
            self.incarnation,
            life.started_at if life else None,
            self._last_checked,
            life.uptime if life else 0.0,
            self.restarts,
            None,
            life.cause if life else None,
            self._reason,
        )

    def get_report(self) -> IncarnationReport | None:
        """Return the report of the current or last incarnation; None before the first."""
        return (
            self._lives[-1].report(self._name, self._capture) if self._lives else None
        )

    def get_history(self) -> ProcessHistory:
        """Return every incarnation; what it raised stands in its stderr."""
        return ProcessHistory(
            self.get_status(),
            tuple(life.report(self._name, self._capture) for life in self._lives),
            tuple(self._attempts),
        )

    def get_traces(self) -> list[Trace]:
        """Return what each of its lives has had, for `ProcessManager.leak_report`."""
        name = f"{self._name}#{self.incarnation}"
        goes_on = self._work is not None and not self._work.done()
        left = (self._name,) if goes_on and self.is_settled else ()
        return [Trace(name, 0, self.is_settled, tasks=left)]

    def get_outlook(self) -> Outlook:
        """Return what is to come of it; `ProcessManager.explain` says it in words."""
        now = time.monotonic()
        failed = newest_failure(self._lives)
        is_due = self._due is not None and self._state is State.BACKOFF
        return Outlook(
            status=self.get_status(),
            last=self.get_report(),
            failed=failed.report(self._name, self._capture) if failed else None,
            attempts=tuple(
                one for one in self._attempts if failed and one.after == failed.number
            ),
            mode=self._judge.policy.mode,
            rule=self._judge.rule(now),
            failures_left=self._judge.failures_left(now),
            due=self._due - now if is_due and self._due else None,
        )

    async def check(self) -> ProcessStatus:
        """Note the time and return its status."""
        self.look(now_local())
        return self.get_status()

    def look(self, now: datetime) -> None:
        """Note that its manager has looked."""
        self._last_checked = now

    async def start(self) -> ProcessStatus:
        """
        Begin, and wait until it has been called.

        Raises:
            ProcessDead: If it depends on one that is dead for good.
            DeviceBusy: If it waited for a device in vain.
        """
        if self._owner is None:
            self._stop_asked.clear()
            self._enter(State.STARTING, "starting")
            self._owner = self._host.own(self._own(), f"own {self._name}")
            self._owner.add_done_callback(self._finish)
        await self._changes.until(lambda: self._state is not State.STARTING)
        if not self._lives and isinstance(self.error, (ProcessDead, DeviceBusy)):
            raise self.error
        return self.get_status()

    async def bounce(self, why: str) -> None:
        """Cancel the current call, to be followed by another; wait until it is over."""
        work, number = self._work, len(self._lives)
        if work is not None and not work.done():
            self._bounced = why
            work.cancel()
            await self._changes.until(
                lambda: self._state is not State.RUNNING or len(self._lives) != number
            )

    async def wait_until_running(self) -> ProcessStatus:
        """
        Wait until it runs.

        Raises:
            ProcessDead: If it has ended for good.
        """
        await self._changes.until(
            lambda: self._state is State.RUNNING or self._owner is None
        )
        if self._state is not State.RUNNING:
            raise ProcessDead(self._name, "depend on it", self._reason)
        return self.get_status()

    async def wait_until_settled(self) -> ProcessStatus:
        """Wait until it has ended and will not be called again by itself."""
        await self._changes.until(lambda: self._owner is None)
        return self.get_status()

    def reset(self) -> None:
        """Forget past failures, so that the next one is judged as the first."""
        self._judge.reset()

    async def stop(self) -> ProcessStatus:
        """Cancel it and wait for its end, 5 s at most. Idempotent."""
        self._stop_asked.set()
        owner = self._owner
        if owner is not None and owner is not asyncio.current_task():
            await asyncio.wait([owner], timeout=STOP_PATIENCE + 1.0)
        return self.get_status()

    async def _own(self) -> None:
        verdict = await self._live_on()
        owner = self._owner
        assert owner is not None
        self._finish(owner)
        given_up = verdict.reason if isinstance(verdict, GiveUp) else None
        self._host.settled(self._name, given_up)

    def _finish(self, owner: asyncio.Task[None]) -> None:
        """Tell all who wait for its end; called when the owner is done as well."""
        if self._owner is not owner:
            return
        self._owner = None
        if owner.done():
            self._enter(State.EXITED, "cancelled")
        self._changes.tell()

    async def _live_on(self) -> Verdict:
        """Call it again and again, until no further call is due."""
        while True:
            try:
                await self._wait_for_others()
            except Refused as exc:
                verdict: Verdict = self._refused(exc)
            else:
                await self._run_once()
                verdict = self._decide()
            if isinstance(verdict, Restart):
                verdict = self._host.permit(self._name, verdict)
            if isinstance(verdict, Restart) and await self._back_off(verdict):
                continue
            self._settle(verdict)
            return verdict

    async def _wait_for_others(self) -> None:
        if self._others is None:
            return
        if not self._lives:
            self._enter(State.STARTING, "waiting for what it depends on")
        try:
            await unless(self._stop_asked, self._others())
        except (ProcessDead, DeviceBusy) as exc:
            self.error = exc
            raise Hopeless(str(exc)) from exc

    def _refused(self, why: Refused) -> Verdict:
        if self._stop_asked.is_set():
            return Rest("stopped before it was started")
        return GiveUp(str(why))

    async def _run_once(self) -> None:
        """Call the function and wait for its end, or end it if we are stopped."""
        self._begin_life()
        loop = asyncio.get_running_loop()
        self._bounced = ""
        work = loop.create_task(_call(self._function), name=self._name)
        self._work = work
        stop = loop.create_task(self._stop_asked.wait())
        try:
            await asyncio.wait([work, stop], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self._enter(State.STOPPING, "being stopped")
                work.cancel()
                await asyncio.wait([work], timeout=STOP_PATIENCE)
        finally:
            stop.cancel()
            if not work.done():
                work.cancel()
                await asyncio.wait([work], timeout=STOP_PATIENCE)
        self._note_end(work)

    def _begin_life(self) -> None:
        name = getattr(self._function, "__qualname__", repr(self._function))
        number = self.incarnation or self._earlier
        life = Life(number + 1, f"async {name}()", inside=True)
        if self._lives:
            again = RecoveryAttempt(
                now_local(), self.incarnation, "policy", succeeded=True, detail="called"
            )
            self._attempts.append(again)
        self._lives.append(life)
        self._capture.begin(life.number, binary=False)
        self.error = None
        self._enter(State.RUNNING, "running")

    def _note_end(self, work: asyncio.Task[object]) -> None:
        life = self._lives[-1]
        life.cause, self._reason = self._judge_end(work)
        life.end(None)
        life.summary, life.capture = self._reason, "none"
        life.mark("ended")
        if self.error is not None:
            told = "".join(traceback.format_exception(self.error))
            self._capture.take(
                "stderr", told.encode(errors="replace"), time.monotonic()
            )
        self._capture.end()
        if life.cause is Cause.FAILED:
            self._announce_failure(life)

    def _judge_end(self, work: asyncio.Task[object]) -> tuple[Cause, str]:
        """Return why it ended, and in words how."""
        if work.done() and not work.cancelled():
            self.error = work.exception()
        if self._stop_asked.is_set():
            if work.done():
                return Cause.STOPPED, "stopped by us"
            return (
                Cause.UNKNOWN,
                f"it did not end within {STOP_PATIENCE:g} s of its stop",
            )
        if self._bounced:
            return Cause.STOPPED, self._bounced
        if work.cancelled():
            return Cause.FAILED, "it was cancelled"
        if self.error is not None:
            return Cause.FAILED, f"{type(self.error).__name__}: {self.error}"
        return Cause.FINISHED, "it returned"

    def _announce_failure(self, life: Life) -> None:
        lines = traceback.format_exception(self.error) if self.error else []
        self._host.announce(
            events.TaskFailed(
                process=self._name,
                incarnation=life.number,
                reason=self._reason,
                uptime=life.uptime,
                traceback="".join(lines),
            )
        )

    def _decide(self) -> Verdict:
        cause = self._lives[-1].cause
        assert cause is not None
        if self._stop_asked.is_set():
            return Rest(self._reason)
        if self._bounced:
            if self._judge.policy.mode == "temporary":
                return Rest(self._reason)
            return Restart(0.0, self._reason, counted=False)
        if isinstance(self.error, self._fatal):
            return GiveUp(f"{self._reason}: trying again cannot mend that")
        share = random.random()  # noqa: S311 - jitter needs no secrecy
        return self._judge.decide(
            cause, None, time.monotonic(), share, how=self._reason
        )

    async def _back_off(self, verdict: Restart) -> bool:
        self._due = deadline = time.monotonic() + verdict.delay
        self._enter(State.BACKOFF, verdict.reason)
        self._host.announce(
            events.RestartScheduled(
                process=self._name,
                incarnation=self.incarnation,
                delay=verdict.delay,
                reason=verdict.reason,
            )
        )
        preparation = None if self._bounced else self._host.before_restart(self._name)
        if preparation is not None:
            with contextlib.suppress(Refused):
                await unless(self._stop_asked, preparation)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._stop_asked.wait()
        except TimeoutError:
            if not self._host.closing:
                return True
            await self._stop_asked.wait()  # nothing is started any more: it will come
        return False

    def _settle(self, verdict: Verdict) -> None:
        """Stay dead."""
        if isinstance(verdict, Restart):
            self._enter(State.EXITED, "stopped while it waited for its restart")
            return
        if not isinstance(verdict, GiveUp) or not verdict.allowed:
            self._enter(State.EXITED, verdict.reason)
            return
        self._enter(State.FATAL, verdict.reason)
        self._host.announce(
            events.ProcessGivenUp(
                process=self._name,
                incarnation=self.incarnation,
                reason=verdict.reason,
            )
        )

    def _enter(self, state: State, reason: str) -> None:
        self._state, self._reason = state, reason
        if self._lives:
            self._lives[-1].mark(str(state))
        self._changes.tell()

    def __repr__(self) -> str:
        up = clock_face(self.get_status().uptime)
        return f"<SupervisedTask {self._name} {self._state} up {up}>"


async def _call(function: TaskFunction) -> object:
    return await function()


def _accept(_error: OSError) -> None:
    """Let tracebacks stay in memory if they cannot be moved to the disk."""
