"""
`ProcessManager`: starts, supervises, inspects and stops the children of an app.

Its block is in `manager_block.py`: one task group runs the health checks and every child.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, get_args

from realtalk_async import arguments
from realtalk_async.exceptions import InvalidConfiguration, ProcessDead
from realtalk_async.supervision.command import Command
from realtalk_async.supervision.coordination.device_leases import checked_devices
from realtalk_async.supervision.inputs import Inputs
from realtalk_async.supervision.policy.devices import DEVICE_PATIENCE
from realtalk_async.supervision.policy.intensity import Intensity
from realtalk_async.supervision.policy.ladder import GRACEFUL, Ladder
from realtalk_async.supervision.policy.probes import checked_probes
from realtalk_async.supervision.policy.restart import (
    TEMPORARY,
    TRANSIENT,
    Mode,
    RestartPolicy,
    Strategy,
)
from realtalk_async.supervision.process import MAX_SIZE, ManagedProcess
from realtalk_async.supervision.reports.containment import Mechanism
from realtalk_async.supervision.reports.kept_history import KEEP_ALL, History
from realtalk_async.supervision.reports.status import ProcessStatus, State
from realtalk_async.supervision.specs.applied import AppliedSpecs
from realtalk_async.supervision.subprocess_compat import SubprocessMethods
from realtalk_async.supervision.supervisor import Supervisor
from realtalk_async.supervision.task import (
    SupervisedTask,
    TaskFunction,
    checked_exceptions,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from realtalk_async.logs import Logger
    from realtalk_async.supervision.kernel.spawning.command_checks import Word
    from realtalk_async.supervision.lifecycle.app_callbacks import (
        Process,
        RestartFunction,
    )
    from realtalk_async.supervision.policy.probes import Probe
    from realtalk_async.supervision.specs.child_spec import ChildSpec
    from realtalk_async.supervision.specs.difference import Difference

SHUTDOWN_TIMEOUT = 15.0
"""Seconds that the stop of all processes may take, by default."""


class ProcessManager(SubprocessMethods):
    """
    Starts, supervises, restarts and stops the processes of an app.

    Use it as ``async with ProcessManager(logger) as manager:``. The end of the block, also
    by an exception, stops all processes: each after those that depend on it, independent
    ones at the same time, with the first signals in the reverse order of their start. If a
    critical process is given up, all others are stopped in this way, the block is
    cancelled, and `CriticalProcessFailed` is raised at its end.

    The block may be entered in one task and left in another, as fixtures do.

    Args:
        logger: Where all events are logged.
        check_interval: Seconds between two rounds of health checks.
        guard: Whether a guard process ends the children if the app is killed.
        strategy: The processes that are restarted when the policy of one process
            restarts it: ``one_for_one``: only this one; ``rest_for_one``: also those
            started after it; ``one_for_all``: all. They are stopped in the reverse order
            of their start, and started in that order, each when its predecessor runs
            (and is ready).
        max_restarts: The number of restarts by policy that all processes together may
            have within *window*. One more has the effect of a lost critical process: all
            are stopped and `TooManyRestarts` is raised. By default there is only the
            limit of each process, because the loss of an uncritical process should not
            end the app.
        window: Seconds.
        shutdown_timeout: Seconds that the stop of all processes may take together. Then
            those that are left are killed, and a `ShutdownTimedOut` event names them.
        history: How much of the past is kept: by default the newest 100 incarnations of
            each name and the newest 1,000 dead names, with their output. What is older
            is counted. None keeps all.
        containment: How the descendants of a child are found and ended. ``"group"``: by
            its process group. ``"cgroup"``: by a cgroup (version 2) of its own, which a
            daemon cannot leave by a fork or a new session. It needs permission to make
            one: root, systemd's ``Delegate=yes``, or a container that may write to
            ``/sys/fs/cgroup``. Each run takes 0.9 ms longer; see `containment`.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """

    def __init__(
        self,
        logger: Logger,
        *,
        check_interval: float = 1.0,
        guard: bool = True,
        strategy: Strategy = "one_for_one",
        max_restarts: int | None = None,
        window: float = 60.0,
        shutdown_timeout: float = SHUTDOWN_TIMEOUT,
        history: History | None = History(),  # noqa: B008 - it is frozen
        containment: Mechanism = "group",
    ) -> None:
        arguments.a_logger("logger", logger)
        arguments.number("check_interval", check_interval, of="seconds", more_than=0)
        arguments.flag("guard", guard)
        arguments.choice("strategy", strategy, get_args(Strategy))
        arguments.integer("max_restarts", max_restarts, minimum=0, optional=True)
        arguments.number("window", window, of="seconds", more_than=0)
        arguments.seconds("shutdown_timeout", shutdown_timeout, infinite=True)
        arguments.choice("containment", containment, get_args(Mechanism))
        arguments.instance("history", history, History, "a History", optional=True)
        self._logger = logger
        supervisor = Supervisor(
            logger,
            guard=guard,
            strategy=strategy,
            intensity=Intensity(max_restarts, window),
            shutdown_timeout=shutdown_timeout,
            containment=containment,
            on_loss=self._cancel_block,
            history=KEEP_ALL if history is None else history,
        )
        super().__init__(supervisor, check_interval)
        run = supervisor.run_in_background
        self._inputs = Inputs(supervisor.registry, run, logger)
        self._specs = AppliedSpecs(supervisor, logger, self._start_spec)

    # ---- properties

    @property
    def logger(self) -> Logger:
        """Where all events are logged."""
        return self._logger

    @property
    def check_interval(self) -> float:
        """Seconds between two rounds of health checks."""
        return self._check_interval

    # ---- register, start, stop

    def register_process(
        self,
        process: Process,
        name: str,
        *,
        restart: RestartPolicy | Mode = TEMPORARY,
        restart_function: RestartFunction | None = None,
        critical: bool = False,
        ladder: Ladder = GRACEFUL,
        probes: Iterable[Probe] = (),
        max_size: int = MAX_SIZE,
    ) -> ManagedProcess:
        """
        Register an existing process: capture, supervise and stop it like all others.

        Args:
            process: A running or finished asyncio `Process`. The capture reads its pipes,
                so the app must not read them.
            name: Unique. The name of a dead process is reused with a WARNING, and the
                history of both is kept.
            restart: When to restart it automatically; a policy or its word.
            restart_function: Makes the next incarnation; receives the report of the last
                one if it takes an argument.
            critical: Whether the app cannot run without it.
            ladder: The steps of its stop.
            probes: The checks of its readiness and health.
            max_size: Bytes of output to keep of each stream.

        Raises:
            ProcessStillRunning: If a running process has this name.
            InvalidConfiguration: If an argument is invalid; nothing was changed.
            NotStarted: Outside the manager's block.
        """
        self._must_be_open()
        allowed = "an asyncio.subprocess.Process"
        arguments.instance("process", process, asyncio.subprocess.Process, allowed)
        arguments.one_line("name", name)
        arguments.function("restart_function", restart_function, optional=True)
        arguments.flag("critical", critical)
        policy = RestartPolicy.of(restart)
        if policy.mode != "temporary" and restart_function is None:
            raise InvalidConfiguration(
                f"an existing process such as {name!r} needs a restart_function to be "
                f"restarted by policy"
            )
        self._registry.check_free(name)
        managed = ManagedProcess(
            process,
            name,
            self._logger,
            max_size=max_size,
            restart=policy,
            recover=restart_function,
            ladder=ladder,
            probes=probes,
            earlier=self._registry.last_incarnation_of(name),
            supervisor=self._supervisor,
        )
        self._supervisor.add(managed, critical=critical)
        return managed

    async def start(
        self,
        name: str,
        command: Command | Sequence[Word],
        *,
        restart: RestartPolicy | Mode = TRANSIENT,
        critical: bool = False,
        depends_on: Iterable[str] = (),
        binds_to: Iterable[str] = (),
        devices: Iterable[str] = (),
        device_patience: float = DEVICE_PATIENCE,
        oneshot: bool = False,
        probes: Iterable[Probe] = (),
        recover: RestartFunction | None = None,
        ladder: Ladder = GRACEFUL,
        max_size: int = MAX_SIZE,
        containment: Mechanism | None = None,
    ) -> ManagedProcess:
        """
        Start a command and supervise it.

        Args:
            name: Unique. The name of a dead process is reused with a WARNING.
            command: The command to run, also as a list of words: ``["sox", "-d"]``.
            restart: When to restart it automatically, by default after a failure: a
                policy, or ``"permanent"``, ``"transient"`` or ``"temporary"``.
            critical: Whether the app cannot run without it: when it is given up, all
                others are stopped and `CriticalProcessFailed` is raised.
            depends_on: Names that must be running (and ready) before it is started.
            binds_to: Names that it depends on, restarts with and stops with. When one of
                them restarts, it is stopped first, and started when that one is ready.
                When one of them is given up, ends or is stopped, it is stopped too, and
                started when that one is started again. Neither counts as its failure;
                its own failure does not affect them. A ``temporary`` child is only
                stopped. This is systemd's ``BindsTo=`` with
                ``After=`` (``PartOf=`` is weaker), and what compose does for
                ``restart: true`` in ``depends_on``.
            devices: Devices that only one process can use at a time, such as ``"hw:0"``.
                It is started when no other process of this manager holds any of them;
                waiting processes are served in order. It holds them until it has settled
                and its group is empty: a restart does not release them. If it exits with
                the message that a device is busy, the start is retried and does not
                count as a failure.
            device_patience: Seconds to wait or retry; afterwards it counts as a failure.
                `math.inf` waits for ever.
            oneshot: Whether it is a program that does its work and exits, such as a
                migration: it is ready when it has exited with success, and stays so. This
                is systemd's ``Type=oneshot`` with ``RemainAfterExit=``, and compose's
                ``service_completed_successfully``.
            probes: The checks of its readiness and health.
            recover: Called before each restart with the report of the last incarnation;
                returns the next command or process, which can continue from its state.
            ladder: The steps of its stop.
            max_size: Bytes of output to keep of each stream.
            containment: ``"group"`` or ``"cgroup"``, see `ProcessManager`; by default that
                of the manager.

        Returns:
            The process: running (and ready, if a readiness probe was given), or in state
            ``backoff`` if it could not be started and another attempt is due.

        Raises:
            SpawnFailed: If it could not be started and no other attempt is due, or if no
                directory of ``PATH`` has the program.
            GaveUp: If it died before it was ready and no other attempt is due.
            ProcessDead: If a dependency is dead and will not be restarted.
            DeviceBusy: If a device did not become free and no other attempt is due.
            UnknownProcess: If a dependency, or the process of its stdin, is not
                registered.
            ProcessStillRunning: If a running process has this name.
            ContainmentUnavailable: If no cgroup can be made; nothing was changed.
            InvalidConfiguration: If an argument is invalid, or if the dependencies form a
                cycle.
            NotStarted: Outside the manager's block.

        Cancellation: The process stays registered, and is stopped with all others.
        """
        self._must_be_open()
        program, policy = Command.of(command), RestartPolicy.of(restart)
        cgroups = self._supervisor.cgroups
        mechanism = cgroups.mechanism if containment is None else containment
        arguments.one_line("name", name)
        arguments.flag("critical", critical)
        checked, wanted = (
            checked_probes(probes),
            checked_devices(devices, device_patience),
        )
        needs = arguments.several("depends_on", depends_on, arguments.one_line, "names")
        bound_to = arguments.several("binds_to", binds_to, arguments.one_line, "names")
        self._registry.check_free(name)
        self._inputs.check(name, program)
        dependencies = self._supervisor.check_dependencies(name, (*needs, *bound_to))
        managed = ManagedProcess(
            program,
            name,
            self._logger,
            max_size=max_size,
            restart=policy,
            recover=recover,
            ladder=ladder,
            probes=checked,
            devices=wanted,
            device_patience=device_patience,
            oneshot=oneshot,
            containment=mechanism,
            wait_for_dependencies=self._supervisor.dependency_waiter(
                name, dependencies, wanted, device_patience
            ),
            earlier=self._registry.last_incarnation_of(name),
            supervisor=self._supervisor,
        )
        cgroups.require(mechanism)
        self._supervisor.add(
            managed, critical=critical, dependencies=dependencies, bound_to=bound_to
        )
        self._inputs.connect(managed)
        await managed.start()
        if self._guard is not None:
            self._guard.flush()  # an app that is killed right now leaves nothing unsaid
        return managed

    async def start_task(
        self,
        name: str,
        function: TaskFunction,
        *,
        restart: RestartPolicy | Mode = TRANSIENT,
        critical: bool = False,
        depends_on: Iterable[str] = (),
        binds_to: Iterable[str] = (),
        devices: Iterable[str] = (),
        device_patience: float = DEVICE_PATIENCE,
        fatal: Iterable[type[BaseException]] = (),
    ) -> SupervisedTask:
        """
        Supervise a coroutine function under the same rules as a process.

        Args:
            name: Unique among processes and tasks.
            function: Called without arguments for each incarnation.
            restart: When to call it again, by default after an exception; a policy or its
                word.
            critical: Whether the app cannot run without it.
            depends_on: Names that must be running before it is called.
            binds_to: Names that it depends on, restarts with and stops with, as for
                `start`.
            devices: Devices that it uses exclusively, as for `start`.
            device_patience: Seconds to wait for them; then it is given up.
            fatal: Exceptions after which it is not called again.

        Raises:
            ProcessDead: If a dependency is dead and will not be restarted.
            DeviceBusy: If a device did not become free.
            UnknownProcess: If a dependency is not registered.
            ProcessStillRunning: If a running process or task has this name.
            InvalidConfiguration: If an argument is invalid, or if the dependencies form a
                cycle.
            NotStarted: Outside the manager's block.
        """
        self._must_be_open()
        arguments.function("function", function, "an async function, not yet called")
        policy, exceptions = RestartPolicy.of(restart), checked_exceptions(fatal)
        arguments.one_line("name", name)
        arguments.flag("critical", critical)
        wanted = checked_devices(devices, device_patience)
        needs = arguments.several("depends_on", depends_on, arguments.one_line, "names")
        bound_to = arguments.several("binds_to", binds_to, arguments.one_line, "names")
        self._registry.check_free(name)
        dependencies = self._supervisor.check_dependencies(name, (*needs, *bound_to))
        task = SupervisedTask(
            function,
            name,
            self._supervisor,
            restart=policy,
            fatal=exceptions,
            wait_for_dependencies=self._supervisor.dependency_waiter(
                name, dependencies, wanted, device_patience
            ),
            earlier=self._registry.last_incarnation_of(name),
        )
        self._supervisor.add(
            task, critical=critical, dependencies=dependencies, bound_to=bound_to
        )
        await task.start()
        return task

    async def apply(self, specs: Iterable[ChildSpec]) -> Difference:
        """
        Start, stop and restart processes until they are those of a list.

        What is new starts, what is gone stops, what has changed restarts, and what is the
        same never notices: a one-shot does not run again. Everything that ends has ended,
        dependants first, before anything starts. Processes that the app has started by
        other means are not touched.

        Args:
            specs: All that is to run from now on, in any order.

        Returns:
            What was done; ``failed`` has the processes that could not be started.

        Raises:
            InvalidConfiguration: If the list is invalid; nothing has changed, as after
                all errors but the last one.
            ProcessStillRunning: If the app has started a process of such a name itself.
            ContainmentUnavailable: If no cgroup can be made.
            NotStarted: Outside the manager's block, or if the block ends meanwhile.

        Cancellation: The list is applied all the same.
        """
        self._must_be_open()
        return await self._specs.apply(specs)

    def compare(self, specs: Iterable[ChildSpec]) -> Difference:
        """Return what `apply` would do, and change nothing; it raises the same errors."""
        self._must_be_open()
        return self._specs.compare(specs)

    async def _start_spec(self, spec: ChildSpec) -> ManagedProcess:
        return await self.start(spec.name, spec.command, **spec.options())

    def run_in_background(self, work: Coroutine[None, None, None]) -> None:
        """
        Run a coroutine that is cancelled, at the latest, when the manager closes.

        An exception in it is published as an `InternalError` of the manager, and the log
        has its traceback; everything else continues.

        Raises:
            InvalidConfiguration: If *work* is no coroutine.
        """
        arguments.instance("work", work, Coroutine, "a coroutine")
        self._supervisor.run_in_background(work)

    async def restart_process(
        self, name: str, restart_function: RestartFunction | None = None
    ) -> bool:
        """
        Restart a dead process; see `ManagedProcess.restart`. For any, see `restart`.

        Raises:
            UnknownProcess: If there is no process of this name.
            InvalidConfiguration: If an argument is invalid.
        """
        self._must_be_open()
        return await self._registry.find_process(name).restart(restart_function)

    async def restart(self, name: str) -> ProcessStatus:
        """
        Stop one process if it runs, and start it; wait until it runs.

        Those that are bound to it restart with it. Its failures so far count no more.

        Raises:
            UnknownProcess: If there is no process of this name.
            ProcessDead: If it could not be started; the message says why.
            NotStarted: Outside the manager's block.
        """
        self._must_be_open()
        process = self._registry.find_process(name)
        is_temporary = process.policy.mode == "temporary"
        if process.state is State.STOPPING or (
            process.status == "running" and is_temporary
        ):
            await process.stop()
        if process.status == "running":
            process.forget_failures()
            await process.restart_with_group("a restart was requested")
        elif not await process.restart():
            raise ProcessDead(name, "restart it", process.reason)
        return await process.wait_until_running()

    async def stop(self, name: str) -> ProcessStatus:
        """
        Stop one process or task; it is not restarted.

        Raises:
            UnknownProcess: If there is no process or task of this name.
            InvalidConfiguration: If *name* is no text.
        """
        self._check_loop()
        child = self._registry.find(name)
        if child.is_settled:  # it is not started again with a process it is bound to
            self._supervisor.bonds.losses.pop(name, None)
        return await child.stop()
