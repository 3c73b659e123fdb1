"""
What becomes of one supervised thing from life to life, whatever it is that lives.

Wait for others, live, judge, back off, and live again, until it comes to rest. Others never
act on it; they set a wish and wait for what becomes of it. Stopping beats restarting, and
restarting beats waiting.
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
from realtalk_async.concurrency.condition import Changes, Flag
from realtalk_async.exceptions import DeviceBusy, ProcessDead
from realtalk_async.supervision.app_callbacks import (
    Hopeless,
    Refused,
    RestartFunction,
    unless,
)
from realtalk_async.supervision.incarnation_record import Life, newest_failure
from realtalk_async.supervision.policy.restart import (
    GiveUp,
    Judge,
    Rest,
    Restart,
    RestartPolicy,
    Verdict,
)
from realtalk_async.supervision.reports.explanation import Outlook
from realtalk_async.supervision.reports.report import RecoveryAttempt
from realtalk_async.supervision.reports.status import ProcessStatus, State
from realtalk_async.times import now_local

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from realtalk_async.exceptions import SpawnFailed
    from realtalk_async.supervision.output.capture import Capture
    from realtalk_async.supervision.reports.report import IncarnationReport
    from realtalk_async.supervision.supervisor_port import Host


@dataclass(frozen=True, slots=True)
class Request:
    """The app's wish for a new incarnation."""

    function: RestartFunction | None
    answer: asyncio.Future[bool]


class Course(abc.ABC):
    """
    The course of one thing over all of its lives; what lives is said by who inherits.

    Args:
        name: Its name.
        policy: When it is restarted by itself.
        host: Those around it.
        capture: Where its output goes.
        others: Waits for those that must run before it, and for its devices; raises
            `ProcessDead` or `DeviceBusy` if that is in vain.
        earlier: How many incarnations of that name there were before.
    """

    def __init__(
        self,
        name: str,
        policy: RestartPolicy,
        host: Host,
        capture: Capture,
        *,
        others: Callable[[], Awaitable[None]] | None = None,
        earlier: int = 0,
    ) -> None:
        self.name = name
        self.lives: list[Life] = []
        self.attempts: list[RecoveryAttempt] = []
        self.state = State.STARTING
        self.reason = "not started yet"
        self.restarts: int = 0
        self.endings = 0
        """How many times it came to rest."""
        self.start_error: SpawnFailed | ProcessDead | DeviceBusy | None = None
        """Why it could not be started the last time."""
        self.judge = Judge(policy)
        self.due: float | None = None
        """When the next start is due, in monotonic seconds; None if none is."""
        self._host = host
        self._capture = capture
        self._others = others
        self._earlier = earlier
        self._task: asyncio.Task[None] | None = None
        self._stop = Flag()
        self._news = Flag()
        self._changes = Changes()
        self._request: Request | None = None
        self._trouble: Refused | None = None

    # ---- what lives

    @abc.abstractmethod
    async def _revive(self) -> None:
        """
        Bring up the next life, beginning its capture.

        Raises:
            Refused: If there is nothing to bring up. Not if it was stopped meanwhile.
        """

    @abc.abstractmethod
    async def _attend(self) -> None:
        """Be with the current life to its end, or bring that about; end its capture."""

    @abc.abstractmethod
    def _judge(self, now: float, share: float) -> Verdict:
        """Judge how the last life ended, or why none could be had."""

    @abc.abstractmethod
    def _abandon(self) -> None:
        """Leave nothing behind: we are being cancelled ourselves."""

    def _rest(self) -> Rest:
        """Return how it is after it was told to stop."""
        return Rest("it was stopped")

    # ---- what others see

    @property
    def life(self) -> Life | None:
        """The current or last incarnation."""
        return self.lives[-1] if self.lives else None

    @property
    def number(self) -> int:
        """The number of the current or last incarnation; 0 before the first."""
        return self.lives[-1].number if self.lives else 0

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return bool(self.lives) and self.lives[-1].alive

    @property
    def works(self) -> bool:
        """Whether it runs, and is ready."""
        # A dead one is in its last state until its output is read and it was judged.
        return self.state is State.RUNNING and self.alive

    @property
    def settled(self) -> bool:
        """Whether it is dead and will not start again by itself."""
        return self._task is None

    def status(self, last_checked: datetime | None) -> ProcessStatus:
        """Return what is known now; what runs inside the app has no pid and no exit."""
        life = self.life
        return ProcessStatus(
            self.name,
            life.body.pid if life and life.body else None,
            "running" if self.alive else "dead",
            self.state,
            self.number,
            life.started_at if life else None,
            last_checked,
            life.uptime if life else 0.0,
            self.restarts,
            life.exit_status if life else None,
            life.cause if life else None,
            self.reason,
        )

    def report(self) -> IncarnationReport | None:
        """Return the report of the current or last incarnation; None before the first."""
        return self.lives[-1].report(self.name, self._capture) if self.lives else None

    def reports(self) -> tuple[IncarnationReport, ...]:
        """Return the reports of all incarnations."""
        return tuple(life.report(self.name, self._capture) for life in self.lives)

    def outlook(self, status: ProcessStatus) -> Outlook:
        """Return what is to come of it."""
        now, failed = time.monotonic(), newest_failure(self.lives)
        return Outlook(
            status=status,
            last=self.report(),
            failed=failed.report(self.name, self._capture) if failed else None,
            attempts=tuple(
                one for one in self.attempts if failed and one.after == failed.number
            ),
            mode=self.judge.policy.mode,
            rule=self.judge.rule(now),
            failures_left=self.judge.failures_left(now),
            due=self.due - now if self.due and self.state is State.BACKOFF else None,
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds; it is asked at every change."""
        await self._changes.until(condition)

    async def until_running(self) -> None:
        """
        Wait until it is running, and ready.

        Raises:
            ProcessDead: If it is dead for good.
        """
        await self.until(lambda: self.works or self.settled)
        if not self.works:
            raise ProcessDead(self.name, "depend on it", self.reason)

    async def come_to_rest(self) -> None:
        """Wait until it is settled, or was since: another may start it again at once."""
        before = self.endings
        await self.until(lambda: self.settled or self.endings != before)

    # ---- what others wish

    async def start(self) -> None:
        """Begin if it is dead, and wait until it has been started, or could not be."""
        if self.settled and not self.alive:
            self.state = State.STARTING
            self.begin()
        # One that was found not to be well is ended first, and then judged.
        on_its_way = {State.STARTING, State.STOPPING}
        await self.until(lambda: self.state not in on_its_way)

    def begin(self) -> None:
        """Begin to own it, if nobody does."""
        if self._task is None:
            self._stop.clear()
            self.start_error = None
            self._capture.is_over = False
            self._task = self._host.own(self._own(), f"own {self.name}")
            self._task.add_done_callback(self._finish)

    def ask_to_stop(self) -> None:
        """Wish for its end, for good."""
        self._stop.set()
        self._news.set()
        if self._task is None and self.state is State.STARTING:
            self._enter(State.EXITED, "stopped before it was started")

    @property
    def refuses_to_restart(self) -> str:
        """Why a restart would be refused now; "" if it would be tried."""
        if self.alive:
            return "it is running; stop it first"
        if self._task is not None and self._stop.is_set():
            return "it is being stopped"
        return "its manager is closing" if self._host.closing else ""

    async def ask_to_restart(self, function: RestartFunction | None) -> bool:
        """Wish for a new incarnation; those who wish at once share the answer."""
        if self._request is None:
            answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._request = Request(function, answer)
            self._news.set()
            self.begin()
        return await asyncio.shield(self._request.answer)

    async def bounce(self, why: str) -> None:
        """End the current life, to be followed by another, and wait until it is buried."""
        life = self.life
        if self.settled or life is None:
            return
        if life.alive:
            life.bounced = why
            self._news.set()
        rest = self.endings
        await self.until(lambda: life.buried or self.endings != rest)

    # ---- from life to life

    async def _own(self) -> None:
        """Own it until no restart is due."""
        verdict = await self._live_on()
        task = self._task
        assert task is not None
        self._finish(task)
        given_up = verdict.reason if isinstance(verdict, GiveUp) else None
        self._host.settled(self.name, given_up)

    def _finish(self, task: asyncio.Task[None]) -> None:
        """
        Let go of it, and tell all who wait for that.

        A task that is cancelled before its first step never runs at all, so this is
        called when it is done as well.
        """
        if self._task is not task:
            return
        if task.done():
            self._abandon()
        self._task = None
        self.endings += 1
        self._capture.is_over = True
        self._answer(succeeded=False)
        self._capture.tell()
        self._changes.tell()

    async def _live_on(self) -> Verdict | None:
        """Go from life to life; return the verdict that ended it, None if none did."""
        before = self.state, self.reason
        verdict: Verdict | None = None
        while True:
            # An existing process lives before the first turn of its owner.
            if self._capture.is_open or await self._come_to_life():
                if self._capture.is_open:
                    await self._attend()
                verdict = self._decide()
            elif verdict is None:
                self._enter(*before)
                return None
            if not isinstance(verdict, Restart):
                self._settle(verdict)
                return verdict
            if not await self._back_off(verdict):
                return None

    async def _come_to_life(self) -> bool:
        """
        Bring up the next life when all that it depends on runs.

        Returns:
            False if the app had asked for it and gave nothing to run: all is as before.
        """
        self._trouble = None
        try:
            await self._wait_for_others()
            await self._revive()
        except Refused as exc:
            return self._stop.is_set() or self._refused(exc)
        return True

    async def _wait_for_others(self) -> None:
        """Wait until all that it depends on runs."""
        if self._others is None:
            return
        if not self.lives:
            self._enter(State.STARTING, "waiting for what it depends on")
        try:
            await unless(self._stop, self._others())
        except ProcessDead as exc:
            self.start_error = exc
            raise Hopeless(str(exc)) from exc
        except DeviceBusy as exc:
            self.start_error = exc
            raise Refused(str(exc)) from exc

    def _refused(self, why: Refused) -> bool:
        """Note that nothing to run could be had; return whether that is a failure."""
        if by_policy := self._request is None:
            self._trouble = why
        self._attempted(self.number, str(why), succeeded=False)
        return by_policy

    async def _stay(self, life: Life) -> None:
        """Wait for the end of a life, or until we have to bring that about."""
        while life.alive:
            if self._stop.is_set() or life.unhealthy or life.bounced:
                life.stopping = True
                self._enter(State.STOPPING, "being stopped")
                return
            self._news.clear()
            await self._news.wait()

    def _decide(self) -> Verdict:
        """Come to a verdict, and ask those around us whether a restart is all right."""
        share = random.random()  # noqa: S311 - jitter needs no secrecy
        verdict = self._wish() or self._judge(time.monotonic(), share)
        if isinstance(verdict, Restart):
            return self._host.permit(self.name, verdict)
        return verdict

    def _wish(self) -> Verdict | None:
        """Return what is wished, or cannot be helped: that goes before the policy."""
        if self._stop.is_set():
            return self._rest()
        if self._request is not None:
            return Restart(0.0, "the app asked for it", counted=False)
        if isinstance(self._trouble, Hopeless):
            return GiveUp(str(self._trouble))
        life, policy = self.life, self.judge.policy
        bounced = life.bounced if life and life.ended_as_asked else ""
        if self._trouble is not None or not bounced:
            return None
        if policy.mode == "temporary":
            return Rest(f"{bounced}; nothing is to follow")
        return Restart(0.0, bounced, counted=False)

    async def _back_off(self, verdict: Restart) -> bool:
        """Wait for the next start; return False if it was stopped meanwhile."""
        self.due = deadline = time.monotonic() + verdict.delay
        if not self._request:
            self._enter(State.BACKOFF, verdict.reason)
            self._host.announce(
                events.RestartScheduled(
                    process=self.name,
                    incarnation=self.number,
                    delay=verdict.delay,
                    reason=verdict.reason,
                )
            )
        await self._let_others_prepare()
        while not (self._stop.is_set() or self._request):
            self._news.clear()
            left = deadline - time.monotonic()
            if left <= 0 or not await _happens(self._news, left):
                break
        if self._host.closing:
            await self._stop.wait()  # nothing is started any more: a stop will come
        if self._stop.is_set():
            self._enter(State.EXITED, "stopped while it waited for its restart")
        return not self._stop.is_set()

    async def _let_others_prepare(self) -> None:
        """Have those ended that are restarted together with it."""
        if self._request or (self.life and self.life.bounced):
            return
        preparation = self._host.before_restart(self.name)
        if preparation is not None:
            with contextlib.suppress(Refused):
                await unless(self._stop, preparation)

    def _settle(self, verdict: Verdict) -> None:
        """Stay dead."""
        if not isinstance(verdict, GiveUp) or not verdict.allowed:
            self._enter(State.EXITED, verdict.reason)
            return
        self._enter(State.FATAL, verdict.reason)
        self._host.announce(
            events.ProcessGivenUp(
                process=self.name, incarnation=self.number, reason=verdict.reason
            )
        )

    # ---- keeping the record

    def _begin_life(self, command: str, *, inside: bool = False) -> Life:
        """Enter a new life into the record."""
        number = (self.number or self._earlier) + 1
        life = Life(number, command, inside=inside)
        self.lives.append(life)
        return life

    def _attempted(self, died: int, detail: str, *, succeeded: bool) -> None:
        """Note an attempt to revive what *died*, and answer who asked for it."""
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
        if self.lives:
            self.lives[-1].mark(str(state))
        self._changes.tell()


async def _happens(event: Flag, seconds: float) -> bool:
    """Wait for *event* for so long; return whether it happened."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
