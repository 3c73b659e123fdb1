"""The one that owns a process over its `Course`: spawn, watch, end, drain, bury."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.events import Cause
from realtalk_async.supervision import event_factories
from realtalk_async.supervision.app_callbacks import (
    Refused,
    RestartFunction,
    Source,
    ask,
)
from realtalk_async.supervision.command import Command, explain_refusal
from realtalk_async.supervision.incarnation import Adopted, Incarnation, Spawned
from realtalk_async.supervision.kernel.leaks import Trace
from realtalk_async.supervision.kernel.spawn_limiter import pace
from realtalk_async.supervision.kernel.termination import climb
from realtalk_async.supervision.lifecycle import Course
from realtalk_async.supervision.output.python_warnings import WarningScout
from realtalk_async.supervision.policy.devices import DEVICE_BUSY, Patience
from realtalk_async.supervision.policy.ladder import AT_ONCE, SWIFT, Ladder, Step
from realtalk_async.supervision.policy.restart import (
    GiveUp,
    Rest,
    RestartPolicy,
    Verdict,
    classify,
)
from realtalk_async.supervision.probing.runner import Asking, stop_asking
from realtalk_async.supervision.reports.report import recognise
from realtalk_async.supervision.reports.status import State
from realtalk_async.times import now_local

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from realtalk_async.logs import Logger, PythonWarning
    from realtalk_async.supervision.incarnation_record import Life
    from realtalk_async.supervision.output.buffer import StreamName
    from realtalk_async.supervision.output.capture import Capture
    from realtalk_async.supervision.output.pipes import Chunk
    from realtalk_async.supervision.policy.probes import Probe, Probed
    from realtalk_async.supervision.supervisor_port import Host


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


class Owner(Course):
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
        # With 30 attributes, those of `Course` included, CPython would give each owner a
        # table of names of its own: 1.3 KiB more for each process.
        super().__init__(
            name, plan.restart, host, capture, others=plan.others, earlier=earlier
        )
        self.plan = plan
        self.command = source if isinstance(source, Command) else None
        self.asked: tuple[Asking, ...] = ()
        """The probes that are put to the current life."""
        self._deaf: tuple[asyncio.Task[None], ...] = ()
        self._patience = Patience(plan.device_patience) if plan.devices else None
        self._logger = logger
        self._face = face
        self._first: Source | None = source
        self._scout = WarningScout(capture.buffers["stderr"])
        capture.on_full = self._hold
        capture.on_room = self._release

    # ---- what others see

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

    # ---- what others wish

    def ask_to_kill(self) -> None:
        """Wish for its end, for good and without any grace."""
        life = self.life
        if life is not None and life.body is not None:
            life.in_haste = True
            if life.stopping:
                life.body.signal(signal.SIGKILL)  # its ladder is being climbed already
        self.ask_to_stop()

    def adopt_first(self) -> None:
        """Begin to capture an existing process before the owner's first turn."""
        assert self._first is not None
        first, self._first = self._first, None
        self._embody(first)

    # ---- from birth to burial

    async def _revive(self) -> None:
        """Spawn or adopt the next incarnation."""
        died, source = self.number, await self._obtain()
        if isinstance(source, Command):
            await pace().wait_for_turn()
            if self._stop.is_set():
                return
        try:
            self._embody(source)
        except OSError as exc:
            self._spawn_refused(source, exc)
            self._attempted(died, str(self.start_error), succeeded=False)
            return
        if died:
            self._revived(died)
        self._answer(succeeded=True)

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
        return await ask(function, self.report(), what, stopped=self._stop)

    def _embody(self, source: Source) -> None:
        """Begin a new incarnation. Raises OSError if the system refuses."""
        is_command = isinstance(source, Command)
        life = self._begin_life(str(source) if is_command else "(adopted)")
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
        self._host.announce(event_factories.started(self.name, life))
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
        life = self.lives[-1]
        assert life.body is not None
        questions = self._put_questions(life)
        try:
            await self._stay(life)
            if life.stopping:
                self._capture.make_room()
                ladder = AT_ONCE if life.in_haste else self.plan.ladder
                await self._climb(life, life.body, ladder)
        finally:
            await self._stop_asking(questions)
        await self._bury(life, life.body)

    async def _climb(self, life: Life, body: Incarnation, ladder: Ladder) -> None:
        def on_step(step: Step, members: int) -> None:
            gentle, force = ladder.steps[0], ladder.steps[-1]
            life.escalated = life.escalated or (step is force and step is not gentle)
            life.climb(ladder, step)
            self._host.announce(event_factories.step(self.name, life, step, members))

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
            self._host.announce(event_factories.stopped(self.name, life))
        life.buried = True
        self._changes.tell()

    # ---- judging

    def _rest(self) -> Rest:
        if self._patience is not None:
            self._patience.forget()
        return super()._rest()

    def _judge(self, now: float, share: float) -> Verdict:
        """Judge by the policy; a device that a stranger holds is waited out before."""
        life, how = self.life, ""
        if self._trouble is not None:
            cause, status, how = Cause.SPAWN_FAILED, None, str(self._trouble)
        elif life is None or life.cause is None:
            return GiveUp("it cannot be killed, and nothing can take its place")
        else:
            cause, status = life.cause, life.exit_status
            if cause in {Cause.SPAWN_FAILED, Cause.UNHEALTHY}:
                how = life.summary
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
        self._host.announce(
            event_factories.exited(
                self.name,
                life,
                self._capture.last_words(life.number),
                at=now,
                after=time.monotonic() - (body.noticed or time.monotonic()),
            )
        )
        if life.buried:  # it died at last, long after its ladder
            self._host.gone(body.pid)
        self._news.set()
        self._capture.tell()
        self._changes.tell()

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
            self._host.announce(event_factories.ready(self.name, life))

    def _unready(self, life: Life, probe: Probe, reason: str) -> None:
        if not life.alive or self.state is not State.RUNNING:
            return
        self._enter(State.STARTING, f"not ready any more: {probe.name}: {reason}")
        self._host.announce(event_factories.unready(self.name, life, probe, reason))

    def _unwell(self, life: Life, probe: Probe, reason: str, after: float) -> None:
        if not life.alive:
            return
        life.unhealthy = f"{probe.name}: {reason}"
        self._host.announce(
            event_factories.unwell(self.name, life, probe, reason, after)
        )
        self._news.set()

    # ---- keeping the record

    def _refused(self, why: Refused) -> bool:
        """Tell that nothing to run could be had."""
        died, reason = self.number, str(why)
        self._host.announce(
            events.RestartFailed(process=self.name, incarnation=died, reason=reason)
        )
        return super()._refused(why)

    def _spawn_refused(self, source: Source, error: OSError) -> None:
        life = self.lives[-1]
        assert isinstance(source, Command)
        self.start_error = explain_refusal(self.name, source, error)
        life.end(None)
        life.cause, life.capture = Cause.SPAWN_FAILED, "none"
        life.summary = self.reason = str(self.start_error)
        life.buried = True
        life.mark("spawn failed")
        self._host.announce(event_factories.refused(self.name, life))

    def _revived(self, died: int) -> None:
        self.restarts += 1
        life, before = self.lives[-1], self.lives[-2]
        assert life.body is not None
        self._attempted(died, f"pid {life.body.pid}", succeeded=True)
        self._host.announce(event_factories.restarted(self.name, life, before))
