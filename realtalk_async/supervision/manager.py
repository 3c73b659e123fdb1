"""
The app's one supervisor: starts, watches, explains and ends its children.

A task of its own hosts everything that lives, so that neither a cancellation of the app's
task nor an exception in it can get between a child and its end.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self, get_args

import anyio

from realtalk_async.exceptions import (
    InvalidConfiguration,
)
from realtalk_async.supervision.command import Command
from realtalk_async.supervision.policy.devices import DEVICE_TIMEOUT
from realtalk_async.supervision.policy.intensity import Intensity
from realtalk_async.supervision.policy.ladder import GRACEFUL, Ladder
from realtalk_async.supervision.policy.restart import (
    TEMPORARY,
    TRANSIENT,
    RestartPolicy,
    Strategy,
)
from realtalk_async.supervision.process import MAX_SIZE, ManagedProcess
from realtalk_async.supervision.subprocess_compat import SubprocessMethods
from realtalk_async.supervision.supervisor import Supervisor
from realtalk_async.supervision.task import SupervisedTask, TaskFunction

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping
    from types import TracebackType

    from realtalk_async.logs import Logger
    from realtalk_async.supervision.lifecycle.app_callbacks import (
        Process,
        RestartFunction,
    )
    from realtalk_async.supervision.policy.probes import Probe
    from realtalk_async.supervision.status import ProcessStatus


class ProcessManager(SubprocessMethods):
    """
    Starts, watches, restarts and ends the processes of an app.

    Use it as ``async with ProcessManager(logger) as manager:``. Leaving the block, in
    whatever way, stops all processes in the reverse order of their start. If a critical
    process is lost, all others are stopped, the block is cancelled, and
    `CriticalProcessFailed` is raised at its end.

    The block may be entered in one task and left in another, as fixtures do.

    Args:
        logger: Where everything that happens is logged.
        check_interval: Seconds between two rounds of health checks.
        guard: Whether a small process of its own ends the children if the app is killed.
        strategy: Who is restarted when a process is restarted by its policy:
            ``one_for_one``: it alone; ``rest_for_one``: also those started after it;
            ``one_for_all``: all. They are ended in the reverse order of their start, and
            started in that order, each when the one before it runs (and is ready).
        max_restarts: How many restarts by policy all processes together may need within
            *window*. One more is as if a critical process were lost: all are stopped and
            `TooManyRestarts` is raised. Without it there is no such limit: each process
            has its own, and one that the app can do without should not end the app.
        window: Seconds.

    Raises:
        InvalidConfiguration: If an argument makes no sense.
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
    ) -> None:
        if strategy not in get_args(Strategy):
            raise InvalidConfiguration(
                f"strategy is one of {', '.join(get_args(Strategy))}, not {strategy!r}"
            )
        if not check_interval > 0:
            raise InvalidConfiguration(
                f"check_interval must be more than 0 s, not {check_interval}"
            )
        if not window > 0 or (max_restarts is not None and max_restarts < 0):
            raise InvalidConfiguration(
                f"0 restarts or more in more than 0 s can be allowed, not {max_restarts} "
                f"in {window} s"
            )
        self._logger = logger
        self._check_interval = check_interval
        supervisor = Supervisor(
            logger,
            guard=guard,
            strategy=strategy,
            intensity=Intensity(max_restarts, window),
            on_loss=self._cancel_block,
        )
        super().__init__(supervisor)
        self._guard = supervisor.guard
        self._block_task: asyncio.Task[object] | None = None
        self._cancelled_block = False

    # ---- its own life

    async def __aenter__(self) -> Self:
        """
        Begin: start the guard and the health checks.

        Raises:
            RuntimeError: If it was entered before: a manager has one life.
            OSError: If the guard cannot be started.
        """
        if self._main_task is not None:
            raise RuntimeError("a ProcessManager can be entered only once")
        # anyio loads most of itself when it is first used. Some 20 ms: better now, while
        # nothing runs, than at the first stop.
        _ = anyio.get_current_task()
        if self._guard is not None:
            self._guard.start()
        self._block_task = asyncio.current_task()
        ready = asyncio.Event()
        self._main_task = asyncio.get_running_loop().create_task(
            self._run_block(ready), name="realtalk-async manager"
        )
        try:
            await ready.wait()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop everything, and tell of a critical process that was lost."""
        cancelled = await self._close()
        failure = self._supervisor.failure
        if failure is None:
            if cancelled:
                raise cancelled
            return
        running = asyncio.current_task()
        if (
            self._cancelled_block
            and running is not None
            and running is self._block_task
        ):
            # The cancellation was ours: it must not count for who awaits the app's task.
            if running.uncancel():
                cancelled = cancelled or asyncio.CancelledError()
            else:
                cancelled = None
                exc = None if isinstance(exc, asyncio.CancelledError) else exc
        if cancelled:
            raise cancelled
        if exc is None or isinstance(exc, Exception):
            raise failure from exc  # what the block raised may well come of it

    async def aclose(self) -> None:
        """
        Stop all processes in the reverse order of their start. Idempotent.

        Bounded by the sum of their ladders. Cancellation: held back until all is over.
        """
        if cancelled := await self._close():
            raise cancelled

    async def _close(self) -> asyncio.CancelledError | None:
        """
        Wait for the end of the host, however often the waiting is cancelled.

        Returns:
            The cancellation that was held back, if there was one.
        """
        self._supervisor.ending.set()
        cancelled: asyncio.CancelledError | None = None
        while self._main_task is not None and not self._main_task.done():
            try:
                await asyncio.wait([self._main_task])
            except asyncio.CancelledError as exc:
                cancelled = exc
        if self._main_task is not None and not self._main_task.cancelled():
            self._main_task.result()
        return cancelled

    async def _run_block(self, ready: asyncio.Event) -> None:
        """Hold together everything that lives, and end it."""
        try:
            self._is_open = True
            checking = self._supervisor.run_health_checks(self._check_interval)
            _ = self._supervisor.tasks.add(checking, "check all")
            ready.set()
            await self._supervisor.ending.wait()
            await self._supervisor.end()
        except BaseException:  # the loop is going down: nothing can be waited for
            self._supervisor.kill_now()
            raise
        finally:
            self._supervisor.ending.set()
            self._is_open = False

    def _cancel_block(self) -> None:
        """Cancel the app's task: it cannot go on."""
        if self._block_task is not None and not self._block_task.done():
            self._cancelled_block = self._block_task.cancel()

    # ---- registering

    @property
    def logger(self) -> Logger:
        """Where everything that happens is logged."""
        return self._logger

    @property
    def check_interval(self) -> float:
        """Seconds between two rounds of health checks."""
        return self._check_interval

    @property
    def closing(self) -> bool:
        """Whether nothing is to be started any more."""
        return self._supervisor.closing

    @property
    def environment(self) -> Mapping[str, str]:
        """What children carry in their environment, so that the guard knows them."""
        return self._supervisor.environment

    def register_process(
        self,
        process: Process,
        name: str,
        *,
        restart: RestartPolicy = TEMPORARY,
        restart_function: RestartFunction | None = None,
        critical: bool = False,
        ladder: Ladder = GRACEFUL,
        probes: Iterable[Probe] = (),
        max_size: int = MAX_SIZE,
    ) -> ManagedProcess:
        """
        Take charge of an existing process: capture, supervise, end it with all others.

        Args:
            process: A running or finished asyncio `Process`. Its pipes are read from here
                on, so nobody else may read them.
            name: Unique; a name whose process is dead is taken over with a WARNING, and
                the history of both is kept.
            restart: When to restart it by itself.
            restart_function: How to: called with the report of what died if it takes an
                argument.
            critical: Whether the app cannot do without it.
            ladder: How to end it.
            probes: How to know that it is well.
            max_size: Bytes of output to keep of each stream.

        Raises:
            ProcessStillRunning: If the name is that of a process that runs.
            InvalidConfiguration: If an argument makes no sense; nothing was changed.
            NotStarted: Outside the manager's block.
        """
        self._must_be_open()
        if restart.mode != "temporary" and restart_function is None:
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
            restart=restart,
            recover=restart_function,
            ladder=ladder,
            probes=tuple(probes),
            earlier=self._registry.last_incarnation_of(name),
            supervisor=self._supervisor,
        )
        self._supervisor.add(managed, critical=critical)
        return managed

    async def start(
        self,
        name: str,
        command: Command,
        *,
        restart: RestartPolicy = TRANSIENT,
        critical: bool = False,
        depends_on: Iterable[str] = (),
        devices: Iterable[str] = (),
        device_timeout: float = DEVICE_TIMEOUT,
        probes: Iterable[Probe] = (),
        recover: RestartFunction | None = None,
        ladder: Ladder = GRACEFUL,
        max_size: int = MAX_SIZE,
    ) -> ManagedProcess:
        """
        Start a command and supervise it.

        Args:
            name: Unique; a name whose process is dead is taken over with a WARNING.
            command: What to run.
            restart: When to restart it by itself; after a failure, unless said.
            critical: Whether the app cannot do without it: when it is given up, all
                others are stopped and `CriticalProcessFailed` is raised.
            depends_on: Names that must be running (and ready) before it is started.
            devices: What only one process can have at a time, such as ``"hw:0"``. It is
                started when nobody else of this manager has any of them; who came first
                is served first. It has them until it is dead for good and its group is
                gone: a restart does not give them back. If it exits and says that a
                device is busy, that is waited out, and counts as no failure.
            device_timeout: Seconds to wait in either case; then it counts as a failure.
            probes: How to know that it is ready, and well.
            recover: Called before each restart with the report of what died; returns
                what to run now, so that it can carry state over.
            ladder: How to end it.
            max_size: Bytes of output to keep of each stream.

        Returns:
            The process: running (and ready, if a readiness probe was given), or in state
            ``backoff`` if it could not be started and another try is due.

        Raises:
            SpawnFailed: If it could not be started and no other try is due.
            GaveUp: If it died before it was ready and no other try is due.
            ProcessDead: If it depends on one that is dead for good, now or in the end.
            DeviceBusy: If it waited for a device in vain and no other try is due.
            UnknownProcess: If a dependency is not registered.
            ProcessStillRunning: If the name is that of a process that runs.
            InvalidConfiguration: If an argument makes no sense, or if it would depend on
                itself by way of others.
            NotStarted: Outside the manager's block.

        Cancellation: The process stays registered, and is ended with all others.
        """
        self._must_be_open()
        _must_be_a_command(name, command)
        self._registry.check_free(name)
        needs = self._supervisor.check_dependencies(name, depends_on)
        wanted = _devices(name, devices, device_timeout)
        managed = ManagedProcess(
            command,
            name,
            self._logger,
            max_size=max_size,
            restart=restart,
            recover=recover,
            ladder=ladder,
            probes=tuple(probes),
            devices=wanted,
            device_timeout=device_timeout,
            wait_for_dependencies=self._supervisor.dependency_waiter(
                name, needs, wanted, device_timeout
            ),
            earlier=self._registry.last_incarnation_of(name),
            supervisor=self._supervisor,
        )
        self._supervisor.add(managed, critical=critical, needs=needs)
        await managed.start()
        return managed

    async def start_task(
        self,
        name: str,
        function: TaskFunction,
        *,
        restart: RestartPolicy = TRANSIENT,
        critical: bool = False,
        depends_on: Iterable[str] = (),
        devices: Iterable[str] = (),
        device_timeout: float = DEVICE_TIMEOUT,
        fatal: tuple[type[BaseException], ...] = (),
    ) -> SupervisedTask:
        """
        Supervise a coroutine function under the same rules as a process.

        Args:
            name: Unique among processes and tasks.
            function: Called without arguments for each incarnation.
            restart: When to call it again; when it raised, unless said.
            critical: Whether the app cannot do without it.
            depends_on: Names that must be running before it is called.
            devices: What it has to have for itself alone, as for `start`.
            device_timeout: Seconds to wait for them; then it is given up.
            fatal: Exceptions after which it is not called again.

        Raises:
            ProcessDead: If it depends on one that is dead for good, now or in the end.
            DeviceBusy: If it waited for a device in vain.
            UnknownProcess: If a dependency is not registered.
            ProcessStillRunning: If the name is that of something that runs.
            InvalidConfiguration: If it would depend on itself by way of others.
            NotStarted: Outside the manager's block.
        """
        self._must_be_open()
        self._registry.check_free(name)
        needs = self._supervisor.check_dependencies(name, depends_on)
        wanted = _devices(name, devices, device_timeout)
        task = SupervisedTask(
            function,
            name,
            self._supervisor,
            restart=restart,
            fatal=fatal,
            wait_for_dependencies=self._supervisor.dependency_waiter(
                name, needs, wanted, device_timeout
            ),
            earlier=self._registry.last_incarnation_of(name),
        )
        self._supervisor.add(task, critical=critical, needs=needs)
        await task.start()
        return task

    def run_in_background(self, work: Coroutine[None, None, None]) -> None:
        """Run a coroutine that is cancelled, at the latest, when the manager closes."""
        _ = self._supervisor.tasks.add(work, "beside the processes")

    async def restart_process(
        self, name: str, restart_function: RestartFunction | None = None
    ) -> bool:
        """
        Restart a dead process; see `ManagedProcess.restart`.

        Raises:
            UnknownProcess: If there is none of that name.
        """
        self._must_be_open()
        return await self._registry.find_process(name).restart(restart_function)

    async def stop(self, name: str) -> ProcessStatus:
        """
        End one process or task and keep it from being restarted.

        Raises:
            UnknownProcess: If there is none of that name.
        """
        return await self._registry.find(name).stop()


def _devices(name: str, devices: Iterable[str], patience: float) -> tuple[str, ...]:
    if isinstance(devices, str):
        raise InvalidConfiguration(
            f"devices of {name!r} are several: write ({devices!r},)"
        )
    if not patience >= 0:
        raise InvalidConfiguration(f"device_timeout is 0 s or more, not {patience}")
    return tuple(dict.fromkeys(devices))


def _must_be_a_command(name: str, command: object) -> None:
    if not isinstance(command, Command):
        raise InvalidConfiguration(
            f"{name!r} needs a Command, such as Command('sox', '-d'), not {command!r}"
        )
