"""
The supervisor of all children of one manager: order, devices, critical losses, shutdown.

Each lifecycle uses it as its `SupervisorPort`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.concurrency.condition import Condition
from realtalk_async.event_bus import EventBus
from realtalk_async.events import MANAGER
from realtalk_async.events.base import APP, POLICY, acting_as
from realtalk_async.events.event import Failure
from realtalk_async.exceptions import GaveUp, ProcessDead
from realtalk_async.supervision.coordination.background import BackgroundWork
from realtalk_async.supervision.coordination.bonds import Bonds
from realtalk_async.supervision.coordination.cgroups import Cgroups
from realtalk_async.supervision.coordination.device_leases import DeviceLeases
from realtalk_async.supervision.coordination.health_checks import check_periodically
from realtalk_async.supervision.coordination.host import log_what_is_missing
from realtalk_async.supervision.coordination.losses import fatal_loss
from realtalk_async.supervision.coordination.shutdown import (
    KILL_WAIT,
    Shutdown,
    at_once,
    within,
)
from realtalk_async.supervision.coordination.survivors import Survivors
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.supervision.kernel.guard import Guard
from realtalk_async.supervision.lifecycle import event_factories
from realtalk_async.supervision.lifecycle.supervisor_port import log_first_counted
from realtalk_async.supervision.policy.restart import (
    Decision,
    GiveUp,
    Restart,
    StayDown,
    Strategy,
    restarted_together,
)
from realtalk_async.supervision.policy.strategies import StartOrder
from realtalk_async.supervision.process import ManagedProcess
from realtalk_async.supervision.registry import ProcessOrTask, Registry
from realtalk_async.supervision.reports.explanation import SupervisorContext
from realtalk_async.supervision.reports.incidents import IncidentReporter
from realtalk_async.supervision.reports.status import State
from realtalk_async.supervision.task import SupervisedTask

if TYPE_CHECKING:
    from realtalk_async.logs import Logger
    from realtalk_async.supervision.kernel.cgroups.cgroup import Cgroup
    from realtalk_async.supervision.kernel.spawning.limits import Limits
    from realtalk_async.supervision.policy.intensity import Intensity
    from realtalk_async.supervision.reports.containment import Mechanism
    from realtalk_async.supervision.reports.kept_history import History

Subscriber = Callable[[events.Event], object]


class Supervisor:
    """
    The supervisor of all processes and tasks of one manager.

    Args:
        logger: Where all events are logged.
        guard: Whether a guard process ends the children if the app is killed.
        strategy: The processes that are restarted together.
        intensity: The limit of restarts of all processes together.
        shutdown_timeout: Seconds after which the children that are left are killed.
        containment: How the descendants of a child are found and ended, by default.
        on_loss: Called when a loss shuts the manager down, before the children are stopped.
        history: How much of the past is kept.
    """

    def __init__(
        self,
        logger: Logger,
        *,
        guard: bool,
        strategy: Strategy,
        intensity: Intensity,
        shutdown_timeout: float,
        containment: Mechanism,
        on_loss: Callable[[], object],
        history: History,
    ) -> None:
        self.registry = Registry(
            logger, history, is_needed=self._is_needed, on_forget=self._forget
        )
        self.history = history
        self.order = StartOrder()
        self.bonds = Bonds(self.registry, self.run_in_background)
        self.device_leases = DeviceLeases(self._describe, self._on_device_wait)
        self.intensity = intensity
        self.guard = Guard(self._guard_lost) if guard else None
        self.cgroups = Cgroups(self.guard, containment, logger)
        self.ending = asyncio.Event()
        """Set when no process may be started any more."""
        self.critical: set[str] = set()
        self.degraded: dict[str, str] = {}
        """The uncritical processes that were given up, by name, with the reasons."""
        self.events: EventBus[events.Event] = EventBus(logger, MANAGER)
        self.failure: GaveUp | None = None
        """The loss that shuts the manager down."""
        self.incidents = IncidentReporter(self.publish, self.degraded)
        self._logger = logger
        self.log_path = str(logger.path)
        """Where its events are logged."""
        self._strategy: Strategy = strategy
        self._on_loss = on_loss
        self._shutdown_timeout = shutdown_timeout
        self._shutdown: Shutdown | None = None
        self._ending_groups: list[tuple[str, ...]] = []
        """The groups of which not all incarnations have ended yet."""
        self._group_ended = Condition()
        self._survivors = Survivors()
        self._lifecycles: set[asyncio.Task[None]] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._background = BackgroundWork(self.publish, self._publish_error)

    def begin(self, tasks: asyncio.TaskGroup, check_interval: float) -> None:
        """Run everything in *tasks* from now on, with the periodic health checks."""
        self._tasks = tasks
        log_what_is_missing(self._logger)
        self.run_in_background(
            check_periodically(self.registry, check_interval, self._publish_error),
            "health checks",
        )

    # ---- children and their dependencies

    def add(
        self,
        child: ProcessOrTask,
        *,
        critical: bool,
        dependencies: tuple[str, ...] = (),
        bound_to: tuple[str, ...] = (),
    ) -> None:
        """Register a process or task."""
        name = child.name
        self._forget(name)
        self.registry.add(child)
        self.bonds.bind(name, bound_to)
        self.order.set_dependencies(name, dependencies)
        if critical:
            self.critical.add(name)

    def _is_needed(self, name: str) -> bool:
        needed = name in self._survivors.names or self.order.is_needed(name)
        return needed or bool(self.bonds.dependants(name))

    def _forget(self, name: str) -> None:
        """Forget a dead name, or what is known of its former holder."""
        self.bonds.bind(name, ())
        self.bonds.losses.pop(name, None)
        self.order.set_dependencies(name, ())
        self.degraded.pop(name, None)
        self.incidents.forget(name)
        self.critical.discard(name)

    def check_dependencies(self, name: str, names: Iterable[str]) -> tuple[str, ...]:
        """
        Return the dependencies of *name*.

        Raises:
            UnknownProcess: If one of *names* is not registered.
            InvalidConfiguration: If the dependencies would form a cycle.
        """
        dependencies = tuple(dict.fromkeys(names))
        for dependency in dependencies:
            self.registry.find(dependency)
        self.order.reject_cycles(name, dependencies)
        return dependencies

    def dependency_waiter(
        self,
        name: str,
        dependencies: tuple[str, ...],
        devices: tuple[str, ...],
        device_patience: float,
    ) -> Callable[[], Awaitable[None]] | None:
        """Return a function that waits until *name* may be started."""

        async def wait() -> None:
            await self._group_ended.wait_until(
                lambda: not any(name in group for group in self._ending_groups)
            )
            for dependency in self.order.needs(name):
                await self.registry.find(dependency).wait_until_running()
            await self._wait_for_turn(name)
            # Devices come last: no process holds a device while it waits for a dependency.
            await self.device_leases.acquire(name, devices, device_patience)
            if self.ending.is_set():  # a closing manager stops every child
                await asyncio.get_running_loop().create_future()

        has_to_wait = dependencies or devices or self._strategy != "one_for_one"
        return wait if has_to_wait else None

    async def _wait_for_turn(self, name: str) -> None:
        """Wait for the predecessor in the start order of a common restart."""
        before = self.order.take_turn(name, self.registry)
        if before is not None:
            with contextlib.suppress(ProcessDead):
                await self.registry[before].wait_until_running()

    def context(self, name: str) -> SupervisorContext:
        """Return the influence of the other processes on a process, for `explain`."""
        present = self.registry
        waits = present[name].state in {State.STARTING, State.BACKOFF}
        together: tuple[str, ...] = ()
        if self._strategy != "one_for_one":
            order = self.order.arrange(present)
            together = restarted_together(name, order, self._strategy)
        return SupervisorContext(
            critical=name in self.critical,
            dependencies={
                other: f"{present[other].state}, {present[other].get_status().reason}"
                for other in self.order.needs(name)
                if waits
                and not (
                    present[other].state is State.RUNNING or present[other].is_done
                )
            },
            holders=self.device_leases.blockers(name),
            device_wait=self.device_leases.remaining_wait(name),
            devices=self.device_leases.table.held_by(name),
            incident=self.incidents.describe(name),
            together=tuple(other for other in together if other != name),
            bound_to=self.bonds.needs(name),
            bound=tuple(self.bonds.all_dependants(name)),
            lost=name in self.bonds.losses,
            intensity=self.intensity.describe(time.monotonic()),
        )

    # ---- shutdown

    async def end(self) -> None:
        """Stop all children, then the background tasks, then the guard."""
        self.incidents.report_all()
        try:
            with acting_as(APP if self.failure is None else POLICY):
                await self._stop_all()
            await self._end_escapees()
        finally:
            self.incidents.report_all()  # of those that died meanwhile
            self._background.cancel()
            try:
                await self.cgroups.aclose()
            finally:
                if self.guard is not None:
                    await self.guard.aclose()

    def kill_now(self) -> None:
        """Kill all children without waiting for the loop."""
        self.cgroups.close_now()
        if self.guard is not None:
            self.guard.kill_now()

    async def _stop_all(self) -> None:
        """
        Stop all children, each after its dependants; kill what is left at the timeout.

        A child that does not end within `KILL_WAIT` after SIGKILL is left to the kernel.
        """
        registry = self.registry
        children = {name: registry[name] for name in self.order.arrange(registry)}
        self._shutdown = shutdown = Shutdown(
            children,
            self.order.needs,
            lambda n: isinstance(registry[n], ManagedProcess),
        )
        if await within(self._shutdown_timeout, shutdown.run()):
            return
        left, seconds = shutdown.left, self._shutdown_timeout
        shown = tuple(map(self._describe, left))
        self.publish(
            events.ShutdownTimedOut(process=MANAGER, seconds=seconds, left=shown)
        )
        kills = (
            one.stop() if isinstance(one, SupervisedTask) else one.kill()
            for one in map(registry.__getitem__, left)
        )
        await within(KILL_WAIT, at_once(kills))
        for task in list(self._lifecycles):
            task.cancel()

    async def _end_escapees(self) -> None:
        """End and log processes that left their group and session, as daemons do."""
        left = await process_groups.end_tagged(self.guard.tag) if self.guard else []
        if not left:
            return
        self._logger.warning(
            MANAGER,
            f"Ended {len(left)} process(es) that had left their session",
            {"escapees": [str(one) for one in left]},
        )

    def _guard_lost(self, reason: str, replaced: bool) -> None:  # noqa: FBT001
        lost = events.GuardLost(process=MANAGER, reason=reason, replaced=replaced)
        self.publish(lost)

    # ---- the `SupervisorPort` of each lifecycle

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables by which the guard recognises the children."""
        return self.guard.environment if self.guard else {}

    @property
    def closing(self) -> bool:
        """Whether no process may be started any more."""
        return self.ending.is_set()

    def counts_earlier(self, name: str) -> None:
        """Log that incarnations of *name* are counted, not kept, from now on."""
        log_first_counted(self._logger, name, self.history)

    def restart_refusal(self, name: str) -> str:
        """Return why *name* may not be started again; "" if it may."""
        forgotten = "" if name in self.registry else "its manager has forgotten it"
        return "its manager is closing" if self.closing else forgotten

    def publish(self, event: events.Event) -> None:
        """Publish an event to the log and to all subscribers."""
        if isinstance(event, events.ProcessGivenUp) and event.process in self.critical:
            event = replace(event, critical=True)
        if isinstance(event, Failure):
            event = self.incidents.note(event)
        if isinstance(event, events.ProcessRestarted):
            self.degraded.pop(event.process, None)
        elif isinstance(event, events.Unkillable):
            self._survivors.names.add(event.process)
        elif isinstance(event, events.StopStep):
            self._note_for_shutdown(event.process)
        self.events.publish(event)

    def _publish_error(self, error: Exception) -> None:
        self.publish(event_factories.internal_error(MANAGER, 0, error))

    def run_task(
        self, coroutine: Coroutine[None, None, None], name: str
    ) -> asyncio.Task[None]:
        """Run a lifecycle as a task of the manager's task group; it never raises."""
        assert self._tasks is not None
        task = self._tasks.create_task(coroutine, name=name)
        self._lifecycles.add(task)
        task.add_done_callback(self._lifecycles.discard)
        return task

    def run_in_background(
        self, work: Coroutine[None, None, None], name: str = "background task"
    ) -> None:
        """Run a coroutine until the manager ends; an error in it is published."""
        assert self._tasks is not None
        self._background.run(self._tasks, work, name)

    def group_started(self, pid: int) -> None:
        """Tell the guard of a new process group."""
        if self.guard is not None:
            self.guard.add(pid)

    def make_cgroup(self, name: str, limits: Limits | None) -> Cgroup:
        """Make the cgroup of an incarnation of *name*."""
        return self.cgroups.make(name, limits)

    def _note_for_shutdown(self, name: str) -> None:
        """Record that a process got a signal of its stop ladder, or has ended."""
        if self._shutdown is not None:
            self._shutdown.note(name)

    def _describe(self, name: str) -> str:
        """Return the name, state and pid of a process, for people."""
        one = self.registry[name]
        pid = f", pid {one.pid}" if isinstance(one, ManagedProcess) else ""
        unkillable = ", which cannot be killed" if name in self._survivors.names else ""
        return f"{name!r} ({one.state}{pid}){unkillable}"

    async def _release_when_gone(self, name: str) -> None:
        """Release the devices of a process that could not be killed when it has ended."""
        await self._survivors.wait_until_gone(name, self.registry[name])
        if self.registry[name].is_settled:
            self.device_leases.release(name)

    def _on_device_wait(self, name: str, holders: dict[str, str]) -> None:
        self.publish(events.DeviceAwaited(process=name, holders=holders))

    def group_ended(self, pid: int) -> None:
        """Tell the guard that a process group has ended."""
        self._survivors.note_end()
        if self.guard is not None:
            self.guard.discard(pid)

    def allow_restart(self, name: str, restart: Restart) -> Decision:
        """Return *restart*, unless the manager closes or its limit is exceeded."""
        if self.ending.is_set():
            return StayDown("its manager is closing")
        if not restart.counted:
            return restart
        counts, delay = self.incidents.decide_restart(name)
        if counts and (why := self.intensity.add(name, time.monotonic())):
            return GiveUp(f"{restart.reason}; {why}")
        return replace(restart, delay=restart.delay + delay)

    def stop_restart_group(self, name: str) -> Awaitable[None] | None:
        """Return an awaitable that ends the processes that are restarted with *name*."""
        if self._strategy == "one_for_one":
            return None
        order = [
            other
            for other in self.order.arrange(self.registry)
            if other == name or not self.registry[other].is_settled
        ]
        names = restarted_together(name, order, self._strategy)
        return self._end_together(name, names) if len(names) > 1 else None

    async def _end_together(self, name: str, names: tuple[str, ...]) -> None:
        """End the others of a group; none of them starts before all have ended."""
        self.order.set_restart_order(names)
        self._ending_groups.append(names)
        try:
            for other in reversed(names):
                if other != name:
                    with acting_as(POLICY):
                        await self.registry[other].restart_with_group(
                            f"restarted together with {name!r}"
                        )
        finally:
            self._ending_groups.remove(names)
            self._group_ended.notify()

    def end_bound(self, name: str, *, for_good: bool) -> Awaitable[object] | None:
        """Return an awaitable that ends what restarts and stops with *name*, if any."""
        if self.ending.is_set():  # the shutdown keeps the order
            return None
        return self.bonds.stop(name) if for_good else self.bonds.restart(name)

    def begins(self, name: str) -> None:
        """Start what was stopped because *name* had ended: it starts again."""
        if not self.ending.is_set():
            self.bonds.begin(name)

    def stop_reason(self, name: str) -> str:
        """Return why *name* is stopped; "" if the app requested it."""
        loss = self.bonds.losses.get(name)
        return loss.reason if loss else ""

    def settled(self, name: str, given_up: str | None) -> None:
        """Continue without a process that was given up, or shut down if it is critical."""
        self.order.cancel_turn(name)
        self._note_for_shutdown(name)
        if name not in self._survivors.names:
            self.device_leases.release(name)
        elif not self.ending.is_set():  # a survivor may still hold the device
            self.run_in_background(self._release_when_gone(name), f"end of {name}")
        if self.ending.is_set():
            return
        self.registry.note_settled(name)
        loss, failure = self.bonds.losses.get(name), None
        if given_up is not None:
            failure = self._fatal_loss(name, given_up)
        elif name in self.critical and loss and loss.failed:
            failure = self._fatal_loss(name, loss.reason)
        if failure is not None:
            self._shut_down(failure)
            return
        if given_up is not None:
            self.degraded[name] = given_up
            self.publish(events.Degraded(process=name, reason=given_up))
        failed = given_up is not None or bool(loss and loss.failed)
        if self.registry[name].is_done:
            return
        how = "was given up" if given_up else "ended"
        self.bonds.lose(name, f"{how}: {self.registry[name].reason}", failed=failed)

    def _fatal_loss(self, name: str, reason: str) -> GaveUp | None:
        """Return the failure that shuts the manager down; None if the app continues."""
        get_report, is_critical = self.registry[name].get_report, name in self.critical
        return fatal_loss(
            name, reason, get_report, self.intensity, is_critical, log=self.log_path
        )

    def _shut_down(self, failure: GaveUp) -> None:
        """Begin the shutdown of all children."""
        self.failure = failure
        self.publish(
            events.ShutdownStarted(process=failure.name, reason=failure.reason)
        )
        self.ending.set()
        self._on_loss()
