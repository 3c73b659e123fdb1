"""
A coroutine supervised like a process: the same policy, events and states.

For what runs inside the app and must be there as surely as its children, such as the task
that holds a websocket.
"""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.exceptions import InvalidConfiguration

from .restart import TRANSIENT, GiveUp, Judge, Restart, RestartPolicy, Verdict
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
    """

    def __init__(
        self,
        function: TaskFunction,
        name: str,
        host: Host,
        *,
        restart: RestartPolicy = TRANSIENT,
        fatal: tuple[type[BaseException], ...] = (),
    ) -> None:
        if not callable(function):
            raise InvalidConfiguration(f"a task is an async function, not {function!r}")
        self._function = function
        self._name = name
        self._host = host
        self._judge = Judge(restart)
        self._fatal = fatal
        self._state = State.STARTING
        self._reason = "not started yet"
        self._incarnation = 0
        self._cause: Cause | None = None
        self._started: float | None = None
        self._started_at: datetime | None = None
        self._ended: float | None = None
        self._stop_asked = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None
        self.error: BaseException | None = None
        """What the last incarnation raised, if it raised."""

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
            None,
            max(0.0, end - began),
            self.restarts,
            None,
            self._cause,
            self._reason,
        )

    async def check(self) -> ProcessStatus:
        """Return its status."""
        return self.get_status()

    def start(self) -> None:
        """Begin."""
        if self._owner is None:
            self._stop_asked.clear()
            self._owner = self._host.own(self._own(), f"own {self._name}")

    async def stop(self) -> ProcessStatus:
        """Cancel it and wait for its end, 5 s at most. Idempotent."""
        self._stop_asked.set()
        owner = self._owner
        if owner is not None and owner is not asyncio.current_task():
            await asyncio.wait([owner], timeout=STOP_PATIENCE + 1.0)
        return self.get_status()

    async def _own(self) -> None:
        given_up: str | None = None
        try:
            while True:
                await self._run_once()
                verdict = self._decide()
                if isinstance(verdict, Restart):
                    if await self._back_off(verdict):
                        continue
                    break
                if isinstance(verdict, GiveUp):
                    given_up = verdict.reason
                    self._give_up(verdict)
                else:
                    self._enter(State.EXITED, verdict.reason)
                break
        finally:
            self._owner = None
            if self._state in {State.RUNNING, State.STOPPING}:
                self._enter(State.EXITED, "cancelled")
        self._host.settled(self._name, given_up)

    async def _run_once(self) -> None:
        """Call the function and wait for its end, or end it if we are stopped."""
        self._incarnation += 1
        self._started, self._started_at = time.monotonic(), now_local()
        self.error = None
        self._enter(State.RUNNING, "running")
        loop = asyncio.get_running_loop()
        work = loop.create_task(_call(self._function), name=self._name)
        stop = loop.create_task(self._stop_asked.wait())
        try:
            await asyncio.wait([work, stop], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self._enter(State.STOPPING, "being stopped")
                work.cancel()
                await asyncio.wait([work], timeout=STOP_PATIENCE)
        finally:
            stop.cancel()
            work.cancel()
        self._note_end(work)

    def _note_end(self, work: asyncio.Task[object]) -> None:
        self._ended = time.monotonic()
        uptime = self._ended - (self._started or self._ended)
        if self._stop_asked.is_set():
            self._cause, self._reason = Cause.STOPPED, "stopped by us"
            if work.done() and not work.cancelled():
                self.error = work.exception()
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
        if isinstance(self.error, self._fatal):
            return GiveUp(f"{self._reason}: trying again cannot mend that")
        share = random.random()  # noqa: S311 - jitter needs no secrecy
        return self._judge.decide(
            self._cause, None, time.monotonic(), share, how=self._reason
        )

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
        try:
            async with asyncio.timeout(verdict.delay):
                await self._stop_asked.wait()
        except TimeoutError:
            return True
        self._enter(State.EXITED, "stopped while it waited for its restart")
        return False

    def _give_up(self, verdict: GiveUp) -> None:
        if not verdict.allowed:
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

    def __repr__(self) -> str:
        up = clock_face(self.get_status().uptime)
        return f"<SupervisedTask {self._name} {self._state} up {up}>"


async def _call(function: TaskFunction) -> object:
    return await function()
