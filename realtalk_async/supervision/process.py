"""
A named process over all of its lives, as the app sees it: look, follow, feed, ask.

Nothing here acts on the process; its `ProcessLifecycle` does.
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from realtalk_async.events import Cause
from realtalk_async.exceptions import (
    GaveUp,
    InvalidConfiguration,
    NotStarted,
    ProcessDead,
    SpawnFailed,
)
from realtalk_async.supervision.command import Command
from realtalk_async.supervision.kernel.exit_status import ExitStatus, signal_name
from realtalk_async.supervision.lifecycle.app_callbacks import (
    Process,
    RestartFunction,
    Source,
)
from realtalk_async.supervision.lifecycle.options import SupervisionOptions
from realtalk_async.supervision.lifecycle.process_lifecycle import ProcessLifecycle
from realtalk_async.supervision.lifecycle.supervisor_port import (
    StandalonePort,
    SupervisorPort,
)
from realtalk_async.supervision.output.capture import Capture
from realtalk_async.supervision.policy.devices import DEVICE_TIMEOUT
from realtalk_async.supervision.policy.ladder import GRACEFUL, Ladder
from realtalk_async.supervision.policy.restart import TEMPORARY, RestartPolicy
from realtalk_async.supervision.process_streams import ProcessStreams
from realtalk_async.supervision.reports.report import ProcessHistory
from realtalk_async.supervision.status import ProcessStatus, State, Status
from realtalk_async.times import now_local

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from datetime import datetime

    from realtalk_async.logs import Logger
    from realtalk_async.supervision.kernel.leaks import Trace
    from realtalk_async.supervision.policy.probes import Probe
    from realtalk_async.supervision.reports.explanation import Forecast

MAX_SIZE = 1 << 40
"""Bytes of output kept of one stream: a terabyte, the safety limit for extreme cases."""

DRAIN = 0.5
"""Seconds that capture goes on after the exit while something holds the pipes open."""


class ManagedProcess(ProcessStreams):
    """
    A background process with its whole output and its whole history.

    Use it from one event loop. Constructed with an existing process, it begins to
    capture at once; with a `Command`, at `start`. What it has captured can be asked for
    at any time, also after its death.

    Args:
        process: A running or finished asyncio `Process`, adopted with its pipes (nobody
            else may read them), or a `Command` that is to be started.
        name: Unique among the processes of its manager.
        logger: Where events are logged.
        max_size: Bytes of output to keep of each stream. Reaching it is a WARNING and a
            counted gap at the end of the output; the child is not disturbed.
        restart: When to restart it by itself; never, unless said.
        recover: Called before each restart by policy, with the report of what died if it
            takes an argument; returns what to run now, or None for the same again.
        ladder: How to end it.
        probes: How to know that it is ready, and well.
        drain: Seconds to go on capturing after its exit while something else, such as a
            grandchild, holds its pipes open. What is left of its group is ended then.
        devices: What only one process can have at a time. If it exits and says that one
            is busy, that is waited out, and counts as no failure …
        device_timeout: … for so many seconds.
        others: Waits until all that it depends on runs; raises `ProcessDead` if one of
            them will not. A manager passes it.
        earlier: How many incarnations of that name there were before, of a process whose
            name it takes over.
        host: Those around it; a manager passes itself.

    Raises:
        InvalidConfiguration: If an argument makes no sense.
        NotStarted: If an existing process is given outside a running event loop.
    """

    def __init__(
        self,
        process: Source,
        name: str,
        logger: Logger,
        *,
        max_size: int = MAX_SIZE,
        restart: RestartPolicy = TEMPORARY,
        recover: RestartFunction | None = None,
        ladder: Ladder = GRACEFUL,
        probes: Iterable[Probe] = (),
        drain: float = DRAIN,
        devices: tuple[str, ...] = (),
        device_timeout: float = DEVICE_TIMEOUT,
        wait_for_dependencies: Callable[[], Awaitable[None]] | None = None,
        earlier: int = 0,
        supervisor: SupervisorPort | None = None,
    ) -> None:
        _refuse_nonsense(process, name, max_size, drain)
        self._logger = logger
        self._max_size = max_size
        self._start_time = now_local()
        self._refusals: list[tuple[datetime, str, str]] = []
        capture = Capture(name, max_size=max_size, on_error=self._no_room)
        super().__init__(
            ProcessLifecycle(
                process,
                name,
                logger,
                options=SupervisionOptions(
                    restart,
                    recover,
                    ladder,
                    tuple(probes),
                    drain,
                    wait_for_dependencies,
                    devices,
                    device_timeout,
                ),
                supervisor=StandalonePort(logger) if supervisor is None else supervisor,
                capture=capture,
                supervised=self,
                earlier=earlier,
            ),
            capture,
        )
        if not isinstance(process, Command):
            _must_have_a_loop(name)
            self._lifecycle.adopt_first()
            self._lifecycle.begin()

    # ---- what it is

    @property
    def process_name(self) -> str:
        """Its name."""
        return self.name

    @property
    def process(self) -> Process | None:
        """The current or last incarnation, asyncio's own; None before the first."""
        record = self._lifecycle.record
        return record.running.process if record and record.running else None

    @property
    def pid(self) -> int | None:
        """The pid of the current or last incarnation; None before the first."""
        record = self._lifecycle.record
        return record.running.pid if record and record.running else None

    @property
    def status(self) -> Status:
        """``"running"`` or ``"dead"``."""
        return "running" if self._lifecycle.alive else "dead"

    @property
    def exit_status(self) -> ExitStatus | None:
        """The exit code, ``-n`` for signal n, ``"unknown"``; None while it runs."""
        return self._lifecycle.record.exit_status if self._lifecycle.record else None

    @property
    def started_at(self) -> datetime | None:
        """When the current or last incarnation started, local time."""
        return self._lifecycle.record.started_at if self._lifecycle.record else None

    @property
    def start_time(self) -> datetime:
        """When the output buffers were created, local time."""
        return self._start_time

    @property
    def max_size(self) -> int:
        """Bytes of output kept of each stream."""
        return self._max_size

    @property
    def logger(self) -> Logger:
        """Where its events are logged."""
        return self._logger

    @property
    def command(self) -> Command | None:
        """What it runs; None if an existing process was given."""
        return self._lifecycle.command

    @property
    def policy(self) -> RestartPolicy:
        """When it is restarted by itself."""
        return self._lifecycle.options.restart

    @property
    def ladder(self) -> Ladder:
        """How it is ended."""
        return self._lifecycle.options.ladder

    def __repr__(self) -> str:
        return f"<ManagedProcess {self.get_status()}>"

    # ---- looking

    def get_history(self) -> ProcessHistory:
        """Return every incarnation, every attempt to revive it, every other error."""
        return ProcessHistory(
            self.get_status(),
            self._lifecycle.reports(),
            tuple(self._lifecycle.attempts),
            tuple(self._refusals),
        )

    def get_traces(self) -> list[Trace]:
        """Return what each of its lives has had, for `ProcessManager.leak_report`."""
        return self._lifecycle.traces()

    def get_forecast(self) -> Forecast:
        """Return what is to come of it; `ProcessManager.explain` says it in words."""
        lifecycle, now = self._lifecycle, time.monotonic()
        record = lifecycle.record
        stops = record is not None and lifecycle.state is State.STOPPING
        step, then = (
            (record.step, record.next_step) if record and stops else (None, None)
        )
        if stops and step is None:
            then = self.ladder.steps[0]
        return replace(
            lifecycle.forecast(self.get_status()),
            step=str(step or ""),
            next_step=str(then or ""),
            next_step_in=record.next_step_at - now if record else 0.0,
            probes=tuple(
                (one.health, one.due and one.due - now)
                for one in lifecycle.probe_runners
                if lifecycle.alive
            ),
        )

    # ---- control

    def send_signal(self, number: int) -> None:
        """
        Send a signal to the program alone; to end it, and all of its group, use `stop`.

        Raises:
            ProcessDead: If it is dead.
            InvalidConfiguration: If there is no such signal.
        """
        record = self._lifecycle.record
        if record is None or record.running is None or not record.alive:
            doing = f"send it {signal_name(number)}"
            raise ProcessDead(self.name, doing, self.reason)
        if number not in signal.valid_signals():
            raise InvalidConfiguration(f"no signal has the number {number}")
        record.running.signal_alone(number)

    async def start(self) -> ProcessStatus:
        """
        Start the command, and wait until it runs (and is ready, if a probe tells).

        Returns at once if it runs already; returns in state ``backoff`` if it could not
        be started and another try is due.

        Raises:
            SpawnFailed: If it could not be started and no other try is due.
            GaveUp: If it died before it was ready and no other try is due.
            NotStarted: If it is an existing process that is dead: nothing says how to
                start it; or if its manager is closing.

        Cancellation: The process stays as it is; `stop` ends it.
        """
        lifecycle = self._lifecycle
        if lifecycle.settled and not lifecycle.alive:
            if lifecycle.command is None:
                raise NotStarted(
                    f"{self.name!r} was given as an existing process; restart it with "
                    f"a restart function"
                )
            if lifecycle.restart_refusal:
                raise NotStarted(f"cannot start {self.name!r}: its manager is closing")
        await lifecycle.start()
        if lifecycle.state in {State.FATAL, State.EXITED}:
            self._raise_failed_start()
        return self.get_status()

    def _raise_failed_start(self) -> None:
        """Raise what a start is told whose process never ran, or never was ready."""
        lifecycle = self._lifecycle
        if isinstance(lifecycle.start_error, SpawnFailed):
            raise lifecycle.start_error from lifecycle.start_error.error
        if lifecycle.start_error is not None:
            raise lifecycle.start_error
        if (
            lifecycle.options.must_be_ready
            and lifecycle.records[-1].cause is not Cause.STOPPED
        ):
            raise GaveUp(self.name, self.reason, self.get_report())

    async def wait(self) -> ProcessStatus:
        """
        Wait until the current incarnation is dead and all that it said is captured.

        Returns:
            Its last status, at once if it is dead already.

        Cancellation: Safe; the process is not touched.
        """
        await asyncio.sleep(0)  # who asks again and again lets the others have a turn
        lifecycle, number = self._lifecycle, self._lifecycle.number
        await lifecycle.until(
            lambda: (
                lifecycle.number != number
                or lifecycle.settled
                or (lifecycle.number > 0 and not self._capture.is_open)
            )
        )
        return self.get_status()

    async def kill(self) -> ProcessStatus:
        """
        End the process and its whole group with SIGKILL, and keep it dead. Idempotent.

        As `stop`, but without any grace, also for one that is being stopped already. To
        kill the program alone and have its policy judge that: ``send_signal(SIGKILL)``.
        """
        self._lifecycle.request_kill()
        await self._lifecycle.wait_until_settled()
        return self.get_status()

    async def stop(self) -> ProcessStatus:
        """
        End the process and its whole group by its ladder. Idempotent.

        It wins over everything else: a process that is starting, about to be restarted
        or waiting in backoff is not spawned again.

        Returns:
            The status, when the group is empty of all but zombies, or when the ladder
            had no further step (then an ``Unkillable`` event says so).

        Cancellation: Only the waiting is given up; the stop goes on.
        """
        self._lifecycle.request_stop()
        await self._lifecycle.wait_until_settled()
        return self.get_status()

    async def restart(self, restart_function: RestartFunction | None = None) -> bool:
        """
        Start a dead process again; output and history of earlier lives stay.

        Args:
            restart_function: Returns a new asyncio `Process`, or a `Command` for one;
                sync (then it runs in a thread) or async. If it takes an argument, it is
                given the report of what died. Without one the process's own command is
                run again.

        Returns:
            True if a new incarnation runs. False, with a WARNING, if it was running, is
            being stopped, or its manager is closing; False, with an ERROR entry, if the
            function raised, took longer than 10 s or returned something else, or if the
            spawn was refused.

        Callers that come while a restart is under way share its result.
        """
        if why := self._lifecycle.restart_refusal:
            self._refusals.append((now_local(), "restart refused", why))
            what = f"Restart refused: {why}"
            self._logger.warning(self.name, what, {"pid": self.pid})
            return False
        return await self._lifecycle.request_restart(restart_function)

    def _no_room(self, error: OSError) -> None:
        self._logger.warning(
            self.name,
            "Old output cannot be moved to the disk: what memory does not hold is counted, "
            "not kept; make room, or set TMPDIR to where there is some",
            {"error": str(error)},
        )


def _must_have_a_loop(name: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise NotStarted(
            f"an existing process such as {name!r} can only be managed inside the event "
            f"loop that it was created in"
        ) from None


def _refuse_nonsense(
    process: object, name: object, max_size: int, drain: float
) -> None:
    if not isinstance(process, (Command, Process)):
        raise InvalidConfiguration(
            f"a process is an asyncio.subprocess.Process or a Command, not {process!r}"
        )
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InvalidConfiguration(f"a name is printable text, not {name!r}")
    if max_size < 1:
        raise InvalidConfiguration(f"max_size is at least 1 byte, not {max_size}")
    if not drain >= 0:
        raise InvalidConfiguration(f"drain is 0 s or more, not {drain}")
