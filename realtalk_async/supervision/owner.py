"""
The one task that owns a process: spawn, watch, drain, judge, wait, spawn again.

Others never act on the process; they set a wish and wait for what becomes of it. Stopping
beats restarting, and restarting beats waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from realtalk_async import events
from realtalk_async.exceptions import DeviceBusy, ProcessDead

from .asking import Asking, stop_asking
from .callbacks import Hopeless, Refused, RestartFunction, Source, ask, unless
from .changes import Changes, Flag
from .command import Command, explain_refusal
from .devices import DEVICE_BUSY, Patience
from .ending import climb
from .incarnation import Adopted, Incarnation, Spawned
from .ladder import AT_ONCE, SWIFT, Ladder, Step
from .life import Life
from .pace import pace
from .remains import Trace
from .report import RecoveryAttempt, recognise
from .restart import GiveUp, Judge, Rest, Restart, RestartPolicy, Verdict, classify
from .states import Cause, ExitStatus, State, now_local
from .warned import WarningScout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from datetime import datetime

    from realtalk_async.exceptions import SpawnFailed
    from realtalk_async.logs import Logger, PythonWarning

    from .capture import Capture
    from .host import Host
    from .output import StreamName
    from .pipes import Chunk
    from .probe import Probe, Probed


@dataclass(frozen=True, slots=True)
class Plan:
    """How a process is to be supervised."""

    restart: RestartPolicy
    recover: RestartFunction | None
    ladder: Ladder
    probes: tuple[Probe, ...]
    drain: float
    others: Callable[[], Awaitable[None]] | None = None
    """
    Waits for those that must run before it, and for its devices; raises `ProcessDead` or
    `DeviceBusy` if that is in vain.
    """
    devices: tuple[str, ...] = ()
    """What it has to have for itself alone."""
    device_patience: float = 0.0
    """Seconds that a device which a stranger holds is waited out."""

    @property
    def must_be_ready(self) -> bool:
        """Whether a probe tells when it is ready."""
        return any(probe.purpose == "readiness" for probe in self.probes)


@dataclass(frozen=True, slots=True)
class Request:
    """The app's wish for a new incarnation."""

    function: RestartFunction | None
    answer: asyncio.Future[bool]


class Owner:
    """
    Owns one process over all of its lives.

    Args:
        source: What to run first: a command, or a process that exists.
        name: Its name.
        logger: Where warnings that it prints are logged.
        plan: How it is to be supervised.
        host: Those around it.
        capture: Where its output goes.
        face: What its probes may ask.
        earlier: How many incarnations of that name there were before.
    """

    def __init__(
        self,
        source: Source,
        name: str,
        logger: Logger,
        *,
        plan: Plan,
        host: Host,
        capture: Capture,
        face: Probed,
        earlier: int = 0,
    ) -> None:
        self.name = name
        self.plan = plan
        self.command = source if isinstance(source, Command) else None
        self.lives: list[Life] = []
        self.attempts: list[RecoveryAttempt] = []
        self.state = State.STARTING
        self.reason = "not started yet"
        self.restarts = 0
        self.endings = 0
        """How many times it came to rest."""
        self.start_error: SpawnFailed | ProcessDead | DeviceBusy | None = None
        """Why it could not be started the last time."""
        self.judge = Judge(plan.restart)
        self.due: float | None = None
        """When the next start is due, in monotonic seconds; None if none is."""
        self.asked: tuple[Asking, ...] = ()
        """The probes that are put to the current life."""
        self._deaf: tuple[asyncio.Task[None], ...] = ()
        self._patience = Patience(plan.device_patience) if plan.devices else None
        self._in_haste = False
        self._logger = logger
        self._host = host
        self._capture = capture
        self._face = face
        self._earlier = earlier
        self._first: Source | None = source
        self._task: asyncio.Task[None] | None = None
        self._stop = Flag()
        self._news = Flag()
        self._changes = Changes()
        self._request: Request | None = None
        self._trouble: Refused | None = None
        self._scout = WarningScout(capture.buffers["stderr"])
        capture.on_full = self._hold
        capture.on_room = self._release

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
        """Whether its program runs."""
        return bool(self.lives) and self.lives[-1].alive

    @property
    def settled(self) -> bool:
        """Whether it is dead and will not start again by itself."""
        return self._task is None

    def traces(self) -> list[Trace]:
        """Return what each of its lives has had."""
        found = [self._trace_of(life) for life in self.lives if life.body is not None]
        deaf = tuple(task.get_name() for task in self._deaf if not task.done())
        return [*found, Trace(self.name, 0, self.settled, tasks=deaf)]

    def _trace_of(self, life: Life) -> Trace:
        body = life.body
        assert body is not None
        group = body.pid if body.owns_group and not body.group_gone else 0
        name = f"{self.name}#{life.number}"
        return Trace(name, group, life.buried, tuple(body.descriptors()))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds; it is asked at every change."""
        await self._changes.until(condition)

    async def come_to_rest(self) -> None:
        """Wait until it is settled, or was since: another may start it again at once."""
        before = self.endings
        await self.until(lambda: self.settled or self.endings != before)

    # ---- what others wish

    def begin(self) -> None:
        """Begin to own it, if nobody does."""
        if self._task is None:
            self._stop.clear()
            self._in_haste = False
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

    def ask_to_kill(self) -> None:
        """Wish for its end, for good and without any grace."""
        self._in_haste = True
        life = self.life
        if life is not None and life.body is not None and life.stopping:
            life.body.signal(signal.SIGKILL)  # its ladder is being climbed already
        self.ask_to_stop()

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
        await self.until(
            lambda: life.buried or life.body is None or self.endings != rest
        )

    def adopt_first(self) -> None:
        """Begin to capture an existing process before the owner's first turn."""
        assert self._first is not None
        first, self._first = self._first, None
        self._embody(first)

    # ---- from life to life

    async def _own(self) -> None:
        """Own the process until no restart is due."""
        verdict = await self._live_on()
        task = self._task
        assert task is not None
        self._finish(task)
        given_up = verdict.reason if isinstance(verdict, GiveUp) else None
        self._host.settled(self.name, given_up)

    def _finish(self, task: asyncio.Task[None]) -> None:
        """
        Let go of the process, and tell all who wait for that.

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
            # An existing process was embodied before the owner's first turn.
            if not self._capture.is_open and not await self._revive():
                if verdict is None:
                    self._enter(*before)
                    return None
            else:
                await self._attend()
                verdict = self._decide()
            if not isinstance(verdict, Restart):
                self._settle(verdict)
                return verdict
            if not await self._back_off(verdict):
                return None

    async def _revive(self) -> bool:
        """
        Bring up the next incarnation.

        Returns:
            False if the app had asked for it and gave nothing to run: all is as before.
        """
        died, self._trouble = self.number, None
        try:
            await self._wait_for_others()
            source = await self._obtain()
        except Refused as exc:
            return self._stop.is_set() or self._refused(died, exc)
        if isinstance(source, Command):
            await pace().wait_for_turn()
            if self._stop.is_set():
                return True
        try:
            self._embody(source)
        except OSError as exc:
            self._spawn_refused(source, exc)
            self._attempted(died, str(self.start_error), succeeded=False)
            return True
        if died:
            self._revived(died)
        self._answer(succeeded=True)
        return True

    async def _wait_for_others(self) -> None:
        """Wait until all that it depends on runs."""
        if self.plan.others is None:
            return
        if not self.number:
            self._enter(State.STARTING, "waiting for what it depends on")
        try:
            await unless(self._stop, self.plan.others())
        except ProcessDead as exc:
            self.start_error = exc
            raise Hopeless(str(exc)) from exc
        except DeviceBusy as exc:
            self.start_error = exc
            raise Refused(str(exc)) from exc

    async def _obtain(self) -> Source:
        """Return what to run now."""
        if self._request and self._request.function is not None:
            made = await self._ask(self._request.function, "restart function")
            if made is None:
                raise Refused("the restart function returned None, not a new process")
            return made
        if self._first is not None:
            first, self._first = self._first, None
            return first
        again = await self._ask_recovery()
        if again is None:
            raise Refused("nothing says how: give a restart function")
        return again

    async def _ask_recovery(self) -> Source | None:
        """Ask the app what to run; its own command stands in if that fails."""
        if self.plan.recover is None:
            return self.command
        try:
            return await self._ask(self.plan.recover, "recovery function") or (
                self.command
            )
        except Refused as exc:
            if self.command is None or self._stop.is_set():
                raise
            self._host.announce(
                events.CallbackFailed(
                    process=self.name, callback="recover", reason=str(exc)
                )
            )
            return self.command

    async def _ask(self, function: RestartFunction, what: str) -> Source | None:
        report = self.life.report(self.name, self._capture) if self.life else None
        return await ask(function, report, what, stopped=self._stop)

    def _embody(self, source: Source) -> None:
        """Begin a new incarnation. Raises OSError if the system refuses."""
        is_command = isinstance(source, Command)
        number = self.number or self._earlier
        life = Life(number + 1, str(source) if is_command else "(adopted)")
        self.lives.append(life)
        self._enter(State.STARTING, "starting")
        binary = is_command and source.stdout == "binary"
        self._capture.begin(life.number, binary=binary)
        try:
            life.body = self._spawn(source, life)
        except OSError:
            self._capture.end()
            raise
        life.started = life.body.started
        self._host.begun(life.body.pid)
        self._host.announce(
            events.ProcessStarted(
                process=self.name,
                incarnation=life.number,
                pid=life.body.pid,
                command=life.command,
            )
        )
        if not self.plan.must_be_ready:
            self._enter(State.RUNNING, "running")

    def _spawn(self, source: Source, life: Life) -> Incarnation:
        if not isinstance(source, Command):
            return Adopted(
                source, on_data=self._heard, on_exit=lambda: self._exited(life)
            )
        return Spawned(
            source,
            environment=self._host.environment,
            on_data=self._heard,
            room=self._capture.room,
            on_exit=lambda: self._exited(life),
        )

    async def _attend(self) -> None:
        """Be with the current incarnation from its first moment to its burial."""
        life = self.life
        if life is None or life.body is None or life.capture != "open":
            return  # it never ran
        questions = self._put_questions(life)
        try:
            await self._stay(life, life.body)
        finally:
            await self._stop_asking(questions)
        await self._bury(life, life.body)

    async def _stay(self, life: Life, body: Incarnation) -> None:
        """Wait for its end, or bring it about."""
        while body.alive:
            if self._stop.is_set() or life.unhealthy or life.bounced:
                life.stopping = True
                self._enter(State.STOPPING, "being stopped")
                self._capture.make_room()
                ladder = AT_ONCE if self._in_haste else self.plan.ladder
                await self._climb(life, body, ladder)
                return
            self._news.clear()
            await self._news.wait()

    async def _climb(self, life: Life, body: Incarnation, ladder: Ladder) -> None:
        def on_step(step: Step, members: int) -> None:
            gentle, force = ladder.steps[0], ladder.steps[-1]
            life.escalated = life.escalated or (step is force and step is not gentle)
            life.climb(ladder, step)
            self._host.announce(
                events.StopStep(
                    process=self.name,
                    incarnation=life.number,
                    step=str(step),
                    members=members,
                )
            )

        survivors = await climb(body, ladder, on_step)
        if survivors:
            self._host.announce(
                events.Unkillable(
                    process=self.name, incarnation=life.number, survivors=survivors
                )
            )

    async def _bury(self, life: Life, body: Incarnation) -> None:
        """Read the rest of what it said, end what is left of its group, close all."""
        life.capture = await body.drain(self.plan.drain)
        self._capture.end()
        self._forward(self._scout.rest())
        if not life.stopping and not body.is_gone() and await body.members():
            await self._climb(life, body, SWIFT)
        if not body.alive:
            self._host.gone(body.pid)
        if self._stop.is_set() and life.stopping:
            self._host.announce(
                events.ProcessStopped(
                    process=self.name,
                    incarnation=life.number,
                    exit_status=_known(life.exit_status),
                    escalated=life.escalated,
                )
            )
        life.buried = True
        self._changes.tell()

    def _decide(self) -> Verdict:
        """Come to a verdict, and ask those around us whether a restart is all right."""
        verdict = self._judge()
        if isinstance(verdict, Restart):
            return self._host.permit(self.name, verdict)
        return verdict

    def _judge(self) -> Verdict:
        """Judge what has happened; the app's wishes go before the policy."""
        life, how = self.life, ""
        if self._stop.is_set():
            cause, status = Cause.STOPPED, None
        elif self._request is not None:
            return Restart(0.0, "the app asked for it", counted=False)
        elif isinstance(self._trouble, Hopeless):
            return GiveUp(str(self._trouble))
        elif self._trouble is not None:
            cause, status, how = Cause.SPAWN_FAILED, None, str(self._trouble)
        elif life is None or life.cause is None:
            return GiveUp("it cannot be killed, and nothing can take its place")
        elif life.bounced and life.cause in {Cause.STOPPED, Cause.ESCALATED}:
            return self._follow(life.bounced)
        else:
            cause, status = life.cause, life.exit_status
            if cause in {Cause.SPAWN_FAILED, Cause.UNHEALTHY}:
                how = life.summary
        now, share = time.monotonic(), random.random()  # noqa: S311 - no secret
        if self._patience is not None and life is not None:
            if not self._found_its_device_busy(life, cause):
                self._patience.forget()
            elif again := self._patience.wait_out(life.uptime, now, share):
                return again
            else:
                how = f"{life.summary}; {DEVICE_BUSY}, as long as that is waited out"
        return self.judge.decide(cause, status, now, share, how)

    def _found_its_device_busy(self, life: Life, cause: Cause) -> bool:
        """Return whether it died for want of a device that a stranger holds."""
        if cause is not Cause.FAILED or self.plan.restart.mode == "temporary":
            return False
        sign = recognise(self._capture.last_words(life.number))
        return sign is not None and sign.kind == DEVICE_BUSY

    def _follow(self, why: str) -> Verdict:
        """Judge a life that was ended for the sake of others."""
        if self.plan.restart.mode == "temporary":
            return Rest(f"{why}; nothing is to follow")
        return Restart(0.0, why, counted=False)

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

    def _abandon(self) -> None:
        """Leave nothing behind: the owner itself is being cancelled."""
        life = self.life
        if life is not None and life.body is not None and not life.buried:
            life.stopping = life.buried = True
            life.body.kill_now()
            if life.capture == "open":
                life.capture = "drain bound"
                self._capture.end()
            self._host.gone(life.body.pid)
        self._enter(State.EXITED, "killed: the task that owned it was cancelled")

    # ---- what the kernel tells

    def _heard(self, stream: StreamName, data: Chunk, now: float) -> None:
        """Keep what a pipe brought; called once a chunk."""
        if self._capture.take(stream, data, now):
            self._host.announce(
                events.OutputDropped(
                    process=self.name,
                    incarnation=self.number,
                    stream=stream,
                    max_size=self._capture.buffers[stream].max_size,
                )
            )
        if stream == "stderr":
            self._forward(self._scout.look(bytes(data)))

    def _forward(self, warnings: Iterable[PythonWarning]) -> None:
        """Log the Python warnings that a Python child has printed."""
        for warning in warnings:
            self._logger.warning(self.name, warning.message, warning.context)

    def _hold(self, stream: StreamName) -> None:
        if self.life is not None and self.life.body is not None:
            self.life.body.pause(stream)

    def _release(self, stream: StreamName) -> None:
        if self.life is not None and self.life.body is not None:
            self.life.body.resume(stream)

    def _exited(self, life: Life) -> None:
        """Note a death at once; what it still has to say is read afterwards."""
        body = life.body
        assert body is not None
        now = now_local()
        life.end(body.exit_status, body.ended, at=now)
        life.cause = classify(
            life.exit_status,
            self.plan.restart,
            stopped=life.stopping,
            escalated=life.escalated,
            unhealthy=bool(life.unhealthy),
        )
        life.summary = self.reason = life.summarise()
        life.mark("dead", now)
        self._tell_of_death(life, body, now)
        if life.buried:  # it died at last, long after its ladder
            self._host.gone(body.pid)
        self._news.set()
        self._capture.tell()
        self._changes.tell()

    def _tell_of_death(self, life: Life, body: Incarnation, now: datetime) -> None:
        last = self._capture.last_words(life.number)
        sign = recognise(last)
        self._host.announce(
            events.ProcessExited(
                process=self.name,
                at=now,
                incarnation=life.number,
                pid=body.pid,
                exit_status=_known(life.exit_status),
                cause=str(life.cause),
                uptime=life.uptime,
                summary=life.summary,
                sign=f"{sign.kind}: {sign.advice}" if sign else "",
                last_words=tuple(line.text for line in last),
                after=time.monotonic() - (body.noticed or time.monotonic()),
            )
        )

    # ---- probes

    def _put_questions(self, life: Life) -> list[asyncio.Task[None]]:
        """Begin to ask all probes."""
        self.asked = tuple(self._question(life, probe) for probe in self.plan.probes)
        loop = asyncio.get_running_loop()
        return [
            loop.create_task(
                one.run(), name=f"probe {one.health.probe.name} of {self.name}"
            )
            for one in self.asked
        ]

    def _question(self, life: Life, probe: Probe) -> Asking:
        return Asking(
            probe,
            self._face,
            on_ready=lambda: self._ready(life),
            on_unready=lambda reason: self._unready(life, probe, reason),
            on_unwell=lambda reason, after: self._unwell(life, probe, reason, after),
        )

    async def _stop_asking(self, questions: list[asyncio.Task[None]]) -> None:
        deaf = await stop_asking(questions)
        self._deaf = (*(one for one in self._deaf if not one.done()), *deaf)
        if deaf:
            why = f"{len(deaf)} probe(s) swallowed their cancellation, and go on"
            self._host.announce(
                events.CallbackFailed(process=self.name, callback="probe", reason=why)
            )

    def _ready(self, life: Life) -> None:
        all_are_content = all(
            one.health.is_content
            for one in self.asked
            if one.health.probe.purpose == "readiness"
        )
        if all_are_content and life.alive and self.state is State.STARTING:
            self._enter(State.RUNNING, "running and ready")
            self._host.announce(
                events.ProcessReady(
                    process=self.name, incarnation=life.number, after=life.uptime
                )
            )

    def _unready(self, life: Life, probe: Probe, reason: str) -> None:
        if not life.alive or self.state is not State.RUNNING:
            return
        self._enter(State.STARTING, f"not ready any more: {probe.name}: {reason}")
        self._host.announce(
            events.ReadinessLost(
                process=self.name,
                incarnation=life.number,
                probe=probe.name,
                reason=reason,
            )
        )

    def _unwell(self, life: Life, probe: Probe, reason: str, after: float) -> None:
        if not life.alive:
            return
        life.unhealthy = f"{probe.name}: {reason}"
        self._host.announce(
            events.ProbeFailed(
                process=self.name,
                incarnation=life.number,
                probe=probe.name,
                reason=reason,
                after=after,
            )
        )
        self._news.set()

    # ---- keeping the record

    def _refused(self, died: int, why: Refused) -> bool:
        """Note that nothing to run could be had; return whether that is a failure."""
        by_policy = self._request is None
        self._host.announce(
            events.RestartFailed(process=self.name, incarnation=died, reason=str(why))
        )
        self._attempted(died, str(why), succeeded=False)
        if by_policy:
            self._trouble = why
        return by_policy

    def _spawn_refused(self, source: Source, error: OSError) -> None:
        life = self.lives[-1]
        assert isinstance(source, Command)
        self.start_error = explain_refusal(self.name, source, error)
        life.end(None)
        life.cause, life.capture = Cause.SPAWN_FAILED, "none"
        life.summary = self.reason = str(self.start_error)
        life.mark("spawn failed")
        self._host.announce(
            events.SpawnRefused(
                process=self.name, incarnation=life.number, error=life.summary
            )
        )

    def _revived(self, died: int) -> None:
        self.restarts += 1
        life, before = self.lives[-1], self.lives[-2]
        assert life.body is not None
        self._attempted(died, f"pid {life.body.pid}", succeeded=True)
        self._host.announce(
            events.ProcessRestarted(
                process=self.name,
                incarnation=life.number,
                pid=life.body.pid,
                downtime=max(0.0, life.started - (before.ended or life.started)),
            )
        )

    def _attempted(self, died: int, detail: str, *, succeeded: bool) -> None:
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


def _known(status: ExitStatus | None) -> ExitStatus:
    return "unknown" if status is None else status


async def _happens(event: Flag, seconds: float) -> bool:
    """Wait for *event* for so long; return whether it happened."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
