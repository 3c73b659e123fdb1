"""
`ManagedProcess`: the public API of one supervised process.

It only reads state and sets requests; the `ProcessLifecycle` acts on the process.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from realtalk_async import arguments
from realtalk_async.events import Cause
from realtalk_async.exceptions import (
    GaveUp,
    InvalidConfiguration,
    NotStarted,
    ProcessDead,
    SpawnFailed,
)
from realtalk_async.supervision.command import Command, command_of
from realtalk_async.supervision.kernel.exit_status import ExitStatus, signal_name
from realtalk_async.supervision.lifecycle import event_factories
from realtalk_async.supervision.lifecycle.app_callbacks import (
    Process,
    RestartFunction,
    Source,
)
from realtalk_async.supervision.lifecycle.options import (
    SupervisionOptions,
    check_containment,
    check_stdin,
)
from realtalk_async.supervision.lifecycle.process_lifecycle import ProcessLifecycle
from realtalk_async.supervision.lifecycle.supervisor_port import (
    StandalonePort,
    SupervisorPort,
)
from realtalk_async.supervision.output.capture import Capture
from realtalk_async.supervision.policy.devices import DEVICE_PATIENCE
from realtalk_async.supervision.policy.ladder import (
    GRACEFUL,
    Ladder,
    checked_signal,
)
from realtalk_async.supervision.policy.probes import checked_probes
from realtalk_async.supervision.policy.restart import TEMPORARY, Mode, RestartPolicy
from realtalk_async.supervision.process_streams import ProcessStreams
from realtalk_async.supervision.reports.report import ProcessHistory
from realtalk_async.supervision.reports.status import ProcessStatus, State, Status
from realtalk_async.times import now_local

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from datetime import datetime

    from realtalk_async.logs import Logger
    from realtalk_async.supervision.kernel.leaks import IncarnationResources
    from realtalk_async.supervision.kernel.spawning.command_checks import Word
    from realtalk_async.supervision.policy.probes import Probe
    from realtalk_async.supervision.reports.containment import Mechanism
    from realtalk_async.supervision.reports.explanation import Forecast

MAX_SIZE = 1 << 40
"""Bytes of output kept of one stream: a terabyte, the safety limit for extreme cases."""

MAX_REFUSALS = 100
"""Refused restarts that the history keeps, the newest."""

DRAIN = 0.5
"""Seconds that capture goes on after the exit while something holds the pipes open."""


class ManagedProcess(ProcessStreams):
    """
    A supervised background process with its whole output and its whole history.

    Use it from one event loop. Constructed with an existing process, it begins to
    capture at once; with a `Command`, at `start`. The captured output is available at any
    time, also after the process has died.

    Args:
        process: A running or finished asyncio `Process`, adopted with its pipes (the app
            must not read them), or a `Command` to be started, also as a list of words.
        name: Unique among the processes of its manager.
        logger: Where events are logged.
        max_size: Bytes of output to keep of each stream. Reaching it is a WARNING and a
            counted gap at the end of the output; the child is not affected.
        restart: When to restart it automatically, a policy or its word; by default
            never.
        recover: Called before each restart by policy, with the report of the last
            incarnation if it takes an argument; returns the next command or process, or
            None for the same command.
        ladder: The steps of its stop.
        probes: The checks of its readiness and health.
        drain: Seconds to continue the capture after its exit while another process, such
            as a grandchild, holds its pipes open. The rest of its group is ended then.
        devices: Devices that only one process can use at a time. If it exits with the
            message that a device is busy, it is restarted, and this does not count as a
            failure …
        device_patience: … for so many seconds.
        oneshot: Whether it is ready when it has exited with success, and stays so.
        containment: How its descendants are found and ended, see `ProcessManager`;
            ``"cgroup"`` needs a manager.
        wait_for_dependencies: Waits until its dependencies run; raises `ProcessDead` if
            one of them is dead. A manager passes it.
        earlier: The number of earlier incarnations under the same name.
        supervisor: The supervisor of its manager; None without a manager.

    Raises:
        InvalidConfiguration: If an argument is invalid.
        NotStarted: If an existing process is given outside a running event loop.
    """

    def __init__(
        self,
        process: Source | Sequence[Word],
        name: str,
        logger: Logger,
        *,
        max_size: int = MAX_SIZE,
        restart: RestartPolicy | Mode = TEMPORARY,
        recover: RestartFunction | None = None,
        ladder: Ladder = GRACEFUL,
        probes: Iterable[Probe] = (),
        drain: float = DRAIN,
        devices: Iterable[str] = (),
        device_patience: float = DEVICE_PATIENCE,
        oneshot: bool = False,
        containment: Mechanism = "group",
        wait_for_dependencies: Callable[[], Awaitable[None]] | None = None,
        earlier: int = 0,
        supervisor: SupervisorPort | None = None,
    ) -> None:
        if not isinstance(process, (Command, Process)):
            process = command_of("process", process)
        arguments.one_line("name", name)
        arguments.a_logger("logger", logger)
        arguments.integer("max_size", max_size, of="bytes", minimum=1)
        arguments.function("recover", recover, optional=True)
        allowed = "a Ladder, such as Ladder(('TERM', 2))"
        arguments.instance("ladder", ladder, Ladder, allowed)
        arguments.seconds("drain", drain)
        arguments.seconds("device_patience", device_patience, infinite=True)
        function = wait_for_dependencies
        arguments.function("wait_for_dependencies", function, optional=True)
        arguments.integer("earlier", earlier, minimum=0)
        port, needed = supervisor, ("publish", "run_task")
        arguments.like("supervisor", port, "a supervisor", *needed, optional=True)
        policy, checked = RestartPolicy.of(restart), checked_probes(probes)
        wanted = arguments.several("devices", devices, arguments.one_line, "names")
        check_oneshot(oneshot, policy, checked)
        has_manager = supervisor is not None
        check_containment(containment, process, has_manager=has_manager)
        check_stdin(process, has_manager=has_manager)
        if not isinstance(process, Command):
            _check_running_loop(name)
        self._logger = logger
        self._max_size = max_size
        self._start_time = now_local()
        self._refusals: list[tuple[datetime, str, str]] = []
        self._supervisor = StandalonePort(logger) if supervisor is None else supervisor
        capture = Capture(name, max_size=max_size, on_error=self._log_spill_error)
        super().__init__(
            ProcessLifecycle(
                process,
                name,
                logger,
                options=SupervisionOptions(
                    policy,
                    recover,
                    ladder,
                    checked,
                    drain,
                    wait_for_dependencies,
                    wanted,
                    device_patience,
                    oneshot,
                    containment,
                ),
                supervisor=self._supervisor,
                capture=capture,
                supervised=self,
                earlier=earlier,
            ),
            capture,
        )
        if not isinstance(process, Command):
            self._loop = asyncio.get_running_loop()
            self._lifecycle.adopt_first()
            self._lifecycle.begin()

    # ---- properties

    @property
    def process_name(self) -> str:
        """Its name."""
        return self.name

    @property
    def process(self) -> Process | None:
        """The current or last incarnation as asyncio's `Process`; None before the first."""
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
        """The command that it runs; None if an existing process was given."""
        return self._lifecycle.command

    @property
    def restart_refusal(self) -> str:
        """Why `restart` would return False now; "" if it would start the process."""
        return self._lifecycle.restart_refusal

    @property
    def policy(self) -> RestartPolicy:
        """The policy by which it is restarted automatically."""
        return self._lifecycle.options.restart

    @property
    def ladder(self) -> Ladder:
        """The steps of its stop."""
        return self._lifecycle.options.ladder

    def __repr__(self) -> str:
        return f"<ManagedProcess {self.get_status()}>"

    # ---- history and forecast

    def get_history(self) -> ProcessHistory:
        """Return all incarnations, all attempts to restart it, all other errors."""
        return ProcessHistory(
            self.get_status(),
            self._lifecycle.reports(),
            tuple(self._lifecycle.attempts),
            tuple(self._refusals),
            self._lifecycle.earlier,
        )

    def get_resources(self) -> list[IncarnationResources]:
        """Return the resources of each incarnation, for `ProcessManager.leak_report`."""
        return self._lifecycle.resources()

    def get_forecast(self) -> Forecast:
        """Return what it does next; `ProcessManager.explain` puts it into words."""
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
                for one in (lifecycle.probes.runners if lifecycle.probes else ())
                if lifecycle.alive
            ),
        )

    # ---- control

    def send_signal(self, number: int | str) -> None:
        """
        Send a signal to the program only; `stop` ends its whole group.

        Args:
            number: The number of the signal, or its name such as ``"TERM"``.

        Raises:
            ProcessDead: If it is dead.
            InvalidConfiguration: If there is no such signal.
        """
        number = checked_signal("number", number)
        record = self._lifecycle.record
        if record is None or record.running is None or not record.alive:
            doing = f"send it {signal_name(number)}"
            raise ProcessDead(self.name, doing, self.reason)
        record.running.signal_alone(number)

    async def start(self) -> ProcessStatus:
        """
        Start the command, and wait until it runs (and is ready, with a readiness probe).

        Returns at once if it runs already; returns in state ``backoff`` if it could not
        be started and another attempt is due.

        Raises:
            SpawnFailed: If it could not be started and no other attempt is due.
            GaveUp: If it died before it was ready and no other attempt is due.
            NotStarted: If it is a dead process that was adopted, so that there is no
                command; or if its manager is closing.

        Cancellation: The process stays as it is; `stop` ends it.
        """
        self._check_loop()
        lifecycle = self._lifecycle
        if lifecycle.settled and not lifecycle.alive:
            if lifecycle.command is None:
                raise NotStarted(
                    f"cannot start {self.name!r}: it was adopted and has no command; "
                    f"restart it with a restart function"
                )
            if why := lifecycle.restart_refusal:
                raise NotStarted(f"cannot start {self.name!r}: {why}")
        await lifecycle.start()
        if lifecycle.state in {State.FATAL, State.EXITED}:
            self._raise_failed_start()
        return self.get_status()

    def _raise_failed_start(self) -> None:
        """Raise the error of a start whose process never ran or never became ready."""
        lifecycle = self._lifecycle
        if lifecycle.is_done:
            return
        if isinstance(lifecycle.start_error, SpawnFailed):
            raise lifecycle.start_error from lifecycle.start_error.error
        if lifecycle.start_error is not None:
            raise lifecycle.start_error
        record = lifecycle.record
        if record is None:
            never_began = lifecycle.state is State.FATAL
        else:
            never_began = (
                lifecycle.options.must_be_ready and record.cause is not Cause.STOPPED
            )
        if never_began:
            log = str(self.logger.path)
            raise GaveUp(self.name, self.reason, self.get_report(), log=log)

    async def wait(self) -> ProcessStatus:
        """
        Wait until the current incarnation is dead and all of its output is captured.

        Returns:
            Its last status, at once if it is dead already.

        Cancellation: Safe; the process is not affected.
        """
        self._check_loop()
        await asyncio.sleep(0)  # a caller that polls must not starve the other tasks
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
        End the process and its whole group with SIGKILL; no restart follows. Idempotent.

        It skips the ladder of a stop that has begun already. To kill only the program and
        let its restart policy decide what follows: ``send_signal(SIGKILL)``.
        """
        self._check_loop()
        self._lifecycle.request_kill()
        await self._lifecycle.wait_until_settled()
        return self.get_status()

    async def stop(self) -> ProcessStatus:
        """
        End the process and its whole group by its ladder. Idempotent.

        It overrides every other request: a process that is starting, about to be
        restarted or waiting in backoff is not spawned again.

        Returns:
            The status, when the group contains only zombies, or when all steps of the
            ladder have run (then an ``Unkillable`` event is published).

        Cancellation: Only the waiting ends; the stop continues.
        """
        self._check_loop()
        self._lifecycle.request_stop()
        await self._lifecycle.wait_until_settled()
        return self.get_status()

    async def restart(self, restart_function: RestartFunction | None = None) -> bool:
        """
        Start a dead process again; output and history of earlier incarnations are kept.

        Args:
            restart_function: Returns a new asyncio `Process`, or a `Command` for one;
                sync (then it runs in a thread) or async. If it takes an argument, it
                receives the report of the last incarnation. By default the process's own
                command is run again.

        Returns:
            True if a new incarnation runs. False, with a WARNING and the event
            `RestartRefused`, if it was running, is being stopped, or its manager is
            closing: `restart_refusal` says which. False, with an ERROR entry, if the
            function raised, took longer than 10 s or returned something else, or if the
            spawn was refused.

        Simultaneous calls share one restart and its result.

        Raises:
            InvalidConfiguration: If *restart_function* cannot be called.
        """
        arguments.function("restart_function", restart_function, optional=True)
        self._check_loop()
        if why := self._lifecycle.restart_refusal:
            self._refusals.append((now_local(), "restart refused", why))
            del self._refusals[:-MAX_REFUSALS]
            refused = event_factories.restart_refused
            self._supervisor.publish(
                refused(self.name, self.incarnation, self.pid, why)
            )
            return False
        return await self._lifecycle.request_restart(restart_function)

    def forget_failures(self) -> None:
        """Clear the failure score of its restart policy."""
        self._lifecycle.decider.forget_failures()

    def _log_spill_error(self, error: OSError) -> None:
        self._logger.warning(
            self.name,
            "Old output cannot be moved to the disk: output beyond the memory limit is "
            "counted, not kept; free some space, or set TMPDIR to another file system",
            {"error": str(error)},
        )


def _check_running_loop(name: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise NotStarted(
            f"the existing process {name!r} can only be managed inside the event loop "
            f"that created it"
        ) from None


def check_oneshot(
    oneshot: object, policy: RestartPolicy, probes: Iterable[Probe]
) -> None:
    """
    Check the options of a process that is ready when it has exited with success.

    Raises:
        InvalidConfiguration: If it would be restarted after that, or has another readiness.
    """
    arguments.flag("oneshot", oneshot)
    if oneshot and policy.mode == "permanent":
        allowed = "'transient' or 'temporary' with oneshot=True"
        raise arguments.refused("restart", allowed, policy.mode)
    if oneshot and any(one.purpose == "readiness" for one in probes):
        raise InvalidConfiguration(
            "probes must contain no readiness probe with oneshot=True: it is ready when "
            "it has exited with success"
        )
