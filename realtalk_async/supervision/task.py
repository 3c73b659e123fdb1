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
from realtalk_async.exceptions import InvalidConfiguration, ProcessDead

from .callbacks import Hopeless, Refused, unless
from .changes import Changes
from .restart import TRANSIENT, GiveUp, Judge, Rest, Restart, RestartPolicy, Verdict
from .states import Cause, ProcessStatus, State, clock_face, now_local

if TYPE_CHECKING:
    from datetime import datetime

    from .host import Host

TaskFunction = Callable[[], Awaitable[object]]

STOP_PATIENCE = 5.0
"""Seconds that a cancelled task may take to end."""


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
        self._incarnation = 0
        self._cause: Cause | None = None
        self._started: float | None = None
        self._started_at: datetime | None = None
        self._ended: float | None = None
        self._stop_asked = asyncio.Event()
        self._changes = Changes()
        self._work: asyncio.Task[object] | None = None
        self._bounced = ""
        self._last_checked: datetime | None = None
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
        return max(0, self._incarnation - 1)

    @property
    def is_settled(self) -> bool:
        """Whether it has ended and will not be called again by itself."""
        return self._owner is None

    def get_status(self) -> ProcessStatus:
        """Return what is known now; a task has no pid and no exit status."""
        running = self._state in {State.RUNNING, State.STOPPING}
        began = self._started if self._started is not None else time.monotonic()
        end = time.monotonic() if running or self._ended is None else self._ended
        return ProcessStatus(
            self._name,
            None,
            "running" if running else "dead",
            self._state,
            self._incarnation,
            self._started_at,
            self._last_checked,
            max(0.0, end - began),
            self.restarts,
            None,
            self._cause,
            self._reason,
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
        """
        if self._owner is None:
            self._stop_asked.clear()
            self._enter(State.STARTING, "starting")
            self._owner = self._host.own(self._own(), f"own {self._name}")
            self._owner.add_done_callback(self._finish)
        await self._changes.until(lambda: self._state is not State.STARTING)
        if self._incarnation == 0 and isinstance(self.error, ProcessDead):
            raise self.error
        return self.get_status()

    async def bounce(self, why: str) -> None:
        """Cancel the current call, to be followed by another; wait until it is over."""
        work, number = self._work, self._incarnation
        if work is not None and not work.done():
            self._bounced = why
            work.cancel()
            await self._changes.until(
                lambda: self._state is not State.RUNNING or self._incarnation != number
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
            if isinstance(verdict, Restart) and await self._back_off(verdict):
                continue
            self._settle(verdict)
            return verdict

    async def _wait_for_others(self) -> None:
        if self._others is None:
            return
        if not self._incarnation:
            self._enter(State.STARTING, "waiting for what it depends on")
        try:
            await unless(self._stop_asked, self._others())
        except ProcessDead as exc:
            self.error = exc
            raise Hopeless(str(exc)) from exc

    def _refused(self, why: Refused) -> Verdict:
        if self._stop_asked.is_set():
            return Rest("stopped before it was started")
        return GiveUp(str(why))

    async def _run_once(self) -> None:
        """Call the function and wait for its end, or end it if we are stopped."""
        self._incarnation += 1
        self._started, self._started_at = time.monotonic(), now_local()
        self.error = None
        self._enter(State.RUNNING, "running")
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

    def _note_end(self, work: asyncio.Task[object]) -> None:
        self._ended = time.monotonic()
        uptime = self._ended - (self._started or self._ended)
        if self._stop_asked.is_set():
            self._cause, self._reason = Cause.STOPPED, "stopped by us"
            if not work.done():
                self._cause = Cause.UNKNOWN
                self._reason = f"it did not end within {STOP_PATIENCE:g} s of its stop"
            elif not work.cancelled():
                self.error = work.exception()
            return
        if self._bounced:
            self._cause, self._reason = Cause.STOPPED, self._bounced
            return
        if work.cancelled():
            self._cause, self._reason = Cause.FAILED, "it was cancelled"
        elif (error := work.exception()) is not None:
            self.error = error
            self._cause = Cause.FAILED
            self._reason = f"{type(error).__name__}: {error}"
        else:
            self._cause, self._reason = Cause.FINISHED, "it returned"
            return
        self._announce_failure(uptime)

    def _announce_failure(self, uptime: float) -> None:
        lines = traceback.format_exception(self.error) if self.error else []
        self._host.announce(
            events.TaskFailed(
                process=self._name,
                incarnation=self._incarnation,
                reason=self._reason,
                uptime=uptime,
                traceback="".join(lines),
            )
        )

    def _decide(self) -> Verdict:
        assert self._cause is not None
        if self._stop_asked.is_set():
            return Rest(self._reason)
        if self._bounced:
            again = not self._host.closing and self._judge.policy.mode != "temporary"
            return Restart(0.0, self._reason) if again else Rest(self._reason)
        if isinstance(self.error, self._fatal):
            return GiveUp(f"{self._reason}: trying again cannot mend that")
        share = random.random()  # noqa: S311 - jitter needs no secrecy
        verdict = self._judge.decide(
            self._cause, None, time.monotonic(), share, how=self._reason
        )
        if isinstance(verdict, Restart) and self._host.closing:
            return Rest("its manager is closing")
        return verdict

    async def _back_off(self, verdict: Restart) -> bool:
        self._enter(State.BACKOFF, verdict.reason)
        self._host.announce(
            events.RestartScheduled(
                process=self._name,
                incarnation=self._incarnation,
                delay=verdict.delay,
                reason=verdict.reason,
            )
        )
        deadline = time.monotonic() + verdict.delay
        preparation = None if self._bounced else self._host.before_restart(self._name)
        if preparation is not None:
            with contextlib.suppress(Refused):
                await unless(self._stop_asked, preparation)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._stop_asked.wait()
        except TimeoutError:
            return True
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
                incarnation=self._incarnation,
                reason=verdict.reason,
            )
        )

    def _enter(self, state: State, reason: str) -> None:
        self._state, self._reason = state, reason
        self._changes.tell()

    def __repr__(self) -> str:
        up = clock_face(self.get_status().uptime)
        return f"<SupervisedTask {self._name} {self._state} up {up}>"


async def _call(function: TaskFunction) -> object:
    return await function()
