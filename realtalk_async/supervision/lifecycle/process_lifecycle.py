"""The lifecycle of a process: spawn, watch for the exit, stop, drain, record."""

from __future__ import annotations

import signal
import time
from functools import partial
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.events import Cause
from realtalk_async.supervision.command import Command, explain_refusal
from realtalk_async.supervision.kernel.leaks import IncarnationResources
from realtalk_async.supervision.kernel.spawn import current_guard
from realtalk_async.supervision.kernel.spawn_limiter import get_spawn_limiter
from realtalk_async.supervision.lifecycle import event_factories, termination
from realtalk_async.supervision.lifecycle.app_callbacks import (
    InternalFailure,
    RestartFunction,
    Source,
    StartRefused,
    call_app_function,
)
from realtalk_async.supervision.lifecycle.contained import spawn_incarnation
from realtalk_async.supervision.lifecycle.incarnation import Adopted, Incarnation
from realtalk_async.supervision.lifecycle.lifecycle import Lifecycle
from realtalk_async.supervision.lifecycle.lifecycle_state import starter
from realtalk_async.supervision.output.capture import CaptureListener
from realtalk_async.supervision.output.python_warnings import PythonWarningFinder
from realtalk_async.supervision.policy.devices import DEVICE_BUSY, RetryWindow
from realtalk_async.supervision.policy.ladder import AT_ONCE, SWIFT, Ladder, Step
from realtalk_async.supervision.policy.restart import Decision, GiveUp, StayDown
from realtalk_async.supervision.probing.incarnation_probes import IncarnationProbes
from realtalk_async.supervision.reports.report import recognise
from realtalk_async.supervision.reports.status import State
from realtalk_async.times import now_local

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from realtalk_async.logs import Logger, PythonWarning
    from realtalk_async.supervision.kernel.pipes import Chunk, StreamName
    from realtalk_async.supervision.lifecycle.options import SupervisionOptions
    from realtalk_async.supervision.lifecycle.record import IncarnationRecord
    from realtalk_async.supervision.lifecycle.supervisor_port import SupervisorPort
    from realtalk_async.supervision.output.capture import Capture
    from realtalk_async.supervision.policy.probes import Probe, Probed
    from realtalk_async.supervision.reports.containment import Mechanism


class ProcessLifecycle(Lifecycle, CaptureListener):
    """
    All incarnations of one process.

    Args:
        source: The first incarnation: a command, or an existing process.
        name: The name of the process.
        logger: Where Python warnings that the process prints are logged.
        options: How the process is supervised.
        supervisor: The supervisor, as this lifecycle sees it.
        capture: Where the output of the process goes.
        supervised: The process as its probes see it.
        earlier: The number of earlier incarnations under the same name.
    """

    _stuck_probes: tuple[asyncio.Task[None], ...] = ()
    _busy_retries: RetryWindow | None = None

    def __init__(
        self,
        source: Source,
        name: str,
        logger: Logger,
        *,
        options: SupervisionOptions,
        supervisor: SupervisorPort,
        capture: Capture,
        supervised: Probed,
        earlier: int = 0,
    ) -> None:
        # With 30 attributes, those of `Lifecycle` included, CPython gives each instance a
        # table of names of its own: 1.3 KiB more for each process. The rare ones are
        # attributes of the class.
        super().__init__(
            name,
            options.restart,
            supervisor,
            capture,
            wait_for_dependencies=options.wait_for_dependencies,
            earlier=earlier,
        )
        self.options = options
        self.command = source if isinstance(source, Command) else None
        self.probes: IncarnationProbes | None = None
        """The probes of the current incarnation; None if it has none."""
        if options.devices:
            self._busy_retries = RetryWindow(options.device_patience)
        self._logger = logger
        self._supervised = supervised
        self._first: Source | None = source
        self._warning_finder = PythonWarningFinder(capture.buffers["stderr"])
        capture.listener = self

    # ---- leak detection

    def resources(self) -> list[IncarnationResources]:
        """Return the resources of each incarnation, for the leak detection."""
        found = [
            record.resources(self.name)
            for record in self.records
            if record.running is not None
        ]
        stuck = tuple(task.get_name() for task in self._stuck_probes if not task.done())
        return [*found, IncarnationResources(self.name, 0, self.settled, tasks=stuck)]

    @property
    def is_oneshot(self) -> bool:
        """Whether it is ready when it has finished, and stays so."""
        return self.options.oneshot

    @property
    def containment(self) -> Mechanism:
        """How its descendants are found and ended."""
        return self.options.containment

    # ---- requests

    def request_kill(self) -> None:
        """Request a stop that begins with SIGKILL; no restart follows."""
        record = self.record
        if record is not None and record.running is not None:
            record.kill_requested = True
            if record.stopping:  # the stop ladder runs already
                record.escalated = record.step is not None
                record.running.signal(signal.SIGKILL)
        self.request_stop()

    def adopt_first(self) -> None:
        """Begin to capture an existing process before the lifecycle task runs."""
        assert self._first is not None
        first, self._first = self._first, None
        self._begin(first)

    # ---- one incarnation: start, supervise, stop, finish

    async def _start_next(self) -> None:
        current_guard.set(self._supervisor)  # for restart functions, and for probes
        died, source = self.number, await self._next_command()
        if isinstance(source, Command):
            await get_spawn_limiter().wait_for_turn()
            if self._stop.is_set():
                return
        try:
            self._begin(source)
        except OSError as exc:
            self._on_spawn_refused(source, exc)
            self._record_attempt(died, str(self.start_error), succeeded=False)
            return
        if died:
            self._on_restarted(died)
        self._answer(succeeded=True)

    async def _next_command(self) -> Source:
        """Return the command or process of the next incarnation."""
        if self._request and self._request.function is not None:
            made = await self._ask(self._request.function, "restart function")
            if made is None:
                raise StartRefused(
                    "the restart function returned None, not a new process"
                )
            return made
        if self._first is not None:
            first, self._first = self._first, None
            return first
        again = await self._ask_recovery()
        if again is None:
            raise StartRefused(
                "an adopted process has no command: give a restart function"
            )
        return again

    async def _ask_recovery(self) -> Source | None:
        """Call the app's recovery function; fall back to the command if it fails."""
        if self.options.recover is None:
            return self.command
        try:
            return await self._ask(self.options.recover, "recovery function") or (
                self.command
            )
        except StartRefused as exc:
            if self.command is None or self._stop.is_set():
                raise
            self._supervisor.publish(
                events.CallbackFailed(
                    process=self.name, callback="recover", reason=str(exc)
                )
            )
            return self.command

    async def _ask(self, function: RestartFunction, what: str) -> Source | None:
        return await call_app_function(
            function, self.report(), what, stopped=self._stop
        )

    def _begin(self, source: Source) -> None:
        """
        Begin a new incarnation.

        Raises:
            OSError: If the operating system refuses.
        """
        is_command = isinstance(source, Command)
        record = self._begin_record(str(source) if is_command else "(adopted)")
        self._enter(State.STARTING, "starting")
        binary = is_command and source.stdout == "binary"
        self._capture.begin(record.number, binary=binary)
        try:
            record.running = self._spawn(source, record)
        except OSError:
            self._capture.end()
            raise
        record.started = record.running.started
        self._supervisor.group_started(record.running.pid)
        self._supervisor.publish(event_factories.started(self.name, record))
        if not self.options.must_be_ready:
            self._enter(State.RUNNING, "running")

    def _spawn(self, source: Source, record: IncarnationRecord) -> Incarnation:
        on_exit, on_error = partial(self._on_exit, record), partial(self.fail, record)
        on_data = self._capture.append
        if not isinstance(source, Command):
            return Adopted(source, on_data=on_data, on_exit=on_exit, on_error=on_error)
        return spawn_incarnation(
            self.name,
            self.options.containment,
            self._supervisor,
            source,
            on_data=on_data,
            get_memory=self._capture.writable_memory,
            on_exit=on_exit,
            on_error=on_error,
        )

    async def _supervise(self) -> None:
        record = self.records[-1]
        assert record.running is not None
        current_guard.set(self._supervisor)
        self.probes = self._make_probes(record) if self.options.probes else None
        try:
            await self._wait_for_exit(record)
            if record.error is not None:
                return
            if record.stopping:
                self._capture.accept_more()
                ladder = AT_ONCE if record.kill_requested else self.options.ladder
                await self._run_ladder(record, record.running, ladder)
        finally:
            await self._stop_probes()
        await self._finish_incarnation(record, record.running)

    async def _end_broken(self, record: IncarnationRecord) -> None:
        record.stopping = True
        await self._stop_probes()
        running = record.running
        if running is not None:
            await self._run_ladder(record, running, AT_ONCE)
            await self._finish_incarnation(record, running)
        self._capture.end()
        if record.ended is None:
            record.end(running.exit_status if running else None)
        record.cause, record.capture = Cause.INTERNAL_ERROR, "internal error"
        record.summary = self.reason = record.summarise()
        record.finished = True

    async def _run_ladder(
        self, record: IncarnationRecord, running: Incarnation, ladder: Ladder
    ) -> None:
        def on_step(step: Step, members: int) -> None:
            record.note_step(ladder, step)
            self._supervisor.publish(
                event_factories.stop_step(self.name, record, step, members)
            )

        survivors = await termination.run_ladder(running, ladder, on_step)
        if survivors:
            self._supervisor.publish(
                event_factories.unkillable(self.name, record, survivors)
            )

    async def _finish_incarnation(
        self, record: IncarnationRecord, running: Incarnation
    ) -> None:
        """Drain the pipes, end the rest of the group, close everything."""
        self._capture.accept_more()
        record.capture = await running.drain(self.options.drain)
        self._capture.end()
        self._log_warnings(self._warning_finder.complete())
        if not record.stopping and not running.is_gone() and await running.members():
            await self._run_ladder(record, running, SWIFT)
        if not running.alive:
            self._supervisor.group_ended(running.pid)
        if self._stop.is_set() and record.stopping:
            self._supervisor.publish(event_factories.stopped(self.name, record))
        record.finished = True
        self._changed.notify()

    # ---- decision

    def _stay_down(self) -> StayDown:
        if self._busy_retries is not None:
            self._busy_retries.reset()
        return super()._stay_down()

    def _decide_by_policy(self, now: float, share: float) -> Decision:
        """Apply the policy; while another program holds a device, retry first."""
        record, how = self.record, ""
        if isinstance(self._start_failure, InternalFailure):
            cause, status, how = Cause.INTERNAL_ERROR, None, str(self._start_failure)
        elif self._start_failure is not None:
            cause, status, how = Cause.SPAWN_FAILED, None, str(self._start_failure)
        elif record is None or record.cause is None:
            return GiveUp("it cannot be killed, so no other incarnation is started")
        else:
            cause, status, how = record.cause, record.exit_status, record.why
        if self._busy_retries is not None and record is not None:
            if not self._device_was_busy(record, cause):
                self._busy_retries.reset()
            elif again := self._busy_retries.retry(record.uptime, now, share):
                return again
            else:
                how = f"{record.summary}; {DEVICE_BUSY} for longer than device_patience"
        return self.decider.decide(cause, status, now, share, how)

    def _device_was_busy(self, record: IncarnationRecord, cause: Cause) -> bool:
        """Return whether it failed because another program holds a device."""
        if cause is not Cause.FAILED or self.options.restart.mode == "temporary":
            return False
        sign = recognise(self._capture.last_lines(record.number))
        return sign is not None and sign.kind == DEVICE_BUSY

    def _abandon(self) -> None:
        record = self.record
        if record is not None and record.running is not None and not record.finished:
            record.stopping = record.finished = True
            if not record.alive and record.ended is None:
                self._judge_exit(record)
            record.running.kill_now()
            if record.capture == "open":
                record.capture = "drain bound"
                self._capture.end()
            self._supervisor.group_ended(record.running.pid)
        self._enter(State.EXITED, "killed: its lifecycle task was cancelled")

    # ---- callbacks of the capture, and of the incarnation: its exit

    def note_dropped(self, stream: StreamName) -> None:
        """Publish that a stream has reached its `max_size`."""
        most = self._capture.buffers[stream].max_size
        self._supervisor.publish(
            event_factories.output_dropped(self.name, self.number, stream, most)
        )

    def note_stderr(self, data: Chunk) -> None:
        """Log the Python warnings that a Python child printed."""
        self._log_warnings(self._warning_finder.feed(bytes(data)))

    def _log_warnings(self, warnings: Iterable[PythonWarning]) -> None:
        for warning in warnings:
            self._logger.warning(self.name, warning.message, warning.context)

    def pause_reading(self, stream: StreamName) -> None:
        """Make the child wait until the disk or the receiver has caught up."""
        if self.record is not None and self.record.running is not None:
            self.record.running.pause(stream)

    def resume_reading(self, stream: StreamName) -> None:
        """Continue to read."""
        if self.record is not None and self.record.running is not None:
            self.record.running.resume(stream)

    def _on_exit(self, record: IncarnationRecord) -> None:
        running = record.running
        assert running is not None
        is_ending = record.stopping or record.finished or self._stop.is_set()
        if running.exit_status in termination.GROUP_SIGNALS and not is_ending:
            self._wake_up.set()
        else:
            self._judge_exit(record)

    async def _wait_for_exit(self, record: IncarnationRecord) -> None:
        """Wait for the exit, and after a signal for the end of the app as well."""
        await super()._wait_for_exit(record)
        if record.alive or record.ended is not None or record.error is not None:
            return
        is_stopped = await self._stop.is_set_within(termination.SAME_EVENT)
        if is_stopped or self._supervisor.closing:
            record.stopping = True
            await self._end_bound(record)
        self._judge_exit(record)

    def _judge_exit(self, record: IncarnationRecord) -> None:
        """Record and publish the exit; the pipes are drained afterwards."""
        running, now = record.running, now_local()
        assert running is not None
        record.end(running.exit_status, running.ended, at=now)
        self.reason = record.judge(self.options.restart)
        record.mark("dead", now)
        self._supervisor.publish(
            event_factories.exited(
                self.name,
                record,
                self._capture.last_lines(record.number),
                at=now,
                after=time.monotonic() - (running.noticed or time.monotonic()),
                log=self._supervisor.log_path,
            )
        )
        if record.finished:  # it exited after the whole ladder had had no effect
            self._supervisor.group_ended(running.pid)
        self._wake_up.set()
        self._capture.notify()
        self._changed.notify()

    # ---- probes

    def _make_probes(self, record: IncarnationRecord) -> IncarnationProbes:
        return IncarnationProbes(
            self.name,
            self.options.probes,
            self._supervised,
            on_ready=lambda: self._on_ready(record),
            on_unready=lambda probe, why: self._on_readiness_lost(record, probe, why),
            on_unhealthy=lambda probe, why, after: self._on_unhealthy(
                record, probe, why, after
            ),
            on_error=lambda error: self.fail(record, error),
        )

    async def _stop_probes(self) -> None:
        stuck = await self.probes.stop() if self.probes else ()
        self._stuck_probes = (
            *(one for one in self._stuck_probes if not one.done()),
            *stuck,
        )
        if stuck:
            why = f"{len(stuck)} probe(s) ignored their cancellation and still run"
            self._supervisor.publish(
                events.CallbackFailed(process=self.name, callback="probe", reason=why)
            )

    def _on_ready(self, record: IncarnationRecord) -> None:
        if record.alive and self.state is State.STARTING:
            self._enter(State.RUNNING, "running and ready")
            self._supervisor.publish(event_factories.ready(self.name, record))

    def _on_readiness_lost(
        self, record: IncarnationRecord, probe: Probe, reason: str
    ) -> None:
        if not record.alive or self.state is not State.RUNNING:
            return
        self._enter(State.STARTING, f"no longer ready: {probe.name}: {reason}")
        self._supervisor.publish(
            event_factories.readiness_lost(self.name, record, probe, reason)
        )

    def _on_unhealthy(
        self, record: IncarnationRecord, probe: Probe, reason: str, after: float
    ) -> None:
        if not record.alive:
            return
        record.unhealthy = f"{probe.name}: {reason}"
        self._supervisor.publish(
            event_factories.probe_failed(self.name, record, probe, reason, after)
        )
        self._wake_up.set()

    # ---- records

    def _refused(self, why: StartRefused) -> bool:
        self._supervisor.publish(
            event_factories.restart_failed(self.name, self.number, why, starter.get())
        )
        return super()._refused(why)

    def _on_spawn_refused(self, source: Source, error: OSError) -> None:
        record = self.records[-1]
        assert isinstance(source, Command)
        self.start_error = explain_refusal(self.name, source, error)
        self.reason = str(self.start_error)
        record.refuse(self.reason)
        self._supervisor.publish(event_factories.spawn_refused(self.name, record))

    def _on_restarted(self, died: int) -> None:
        self.restarts += 1
        record, before = self.records[-1], self.records[-2]
        assert record.running is not None
        self._record_attempt(died, f"pid {record.running.pid}", succeeded=True)
        self._supervisor.publish(event_factories.restarted(self.name, record, before))
