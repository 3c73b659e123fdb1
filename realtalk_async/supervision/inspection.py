"""The read side of a `ProcessManager`: status, history, explanation, leaks, events."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING

import anyio.to_thread

from realtalk_async.exceptions import NotStarted
from realtalk_async.supervision.kernel import leaks
from realtalk_async.supervision.reports.explanation import Explanation, explain
from realtalk_async.supervision.reports.report import ErrorHistory
from realtalk_async.times import now_local

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from realtalk_async.supervision.kernel.leaks import LeakReport
    from realtalk_async.supervision.process import ManagedProcess
    from realtalk_async.supervision.status import ProcessStatus
    from realtalk_async.supervision.supervisor import Subscriber, Supervisor
    from realtalk_async.supervision.task import SupervisedTask


class ManagerInspection:
    """
    What a manager knows about its processes. Nothing here changes a process.

    Args:
        supervisor: The supervisor of the manager.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._registry = supervisor.registry
        self._is_open = False
        self._main_task: asyncio.Task[None] | None = None

    @property
    def processes(self) -> Mapping[str, ManagedProcess]:
        """The registered processes by name, in the order of their start; read-only."""
        return MappingProxyType(self._registry.processes)

    @property
    def tasks(self) -> Mapping[str, SupervisedTask]:
        """The supervised coroutines by name; read-only."""
        return MappingProxyType(self._registry.tasks)

    @property
    def critical(self) -> Mapping[str, ProcessStatus]:
        """What is known of those that the app cannot do without, by name."""
        return {
            n: self._registry[n].get_status() for n in sorted(self._supervisor.critical)
        }

    @property
    def degraded(self) -> Mapping[str, str]:
        """What the app has to do without, by name, and why; empty when all is well."""
        return MappingProxyType(dict(self._supervisor.degraded))

    @property
    def status(self) -> str:
        """``"running"``, ``"degraded"``, ``"failed"``, ``"new"`` or ``"closed"``."""
        if self._supervisor.failure is not None:
            return "failed"
        if not self._is_open:
            return "new" if self._main_task is None else "closed"
        return "degraded" if self._supervisor.degraded else "running"

    async def check_process(self, name: str) -> ProcessStatus:
        """
        Look at one process now.

        Raises:
            UnknownProcess: If there is none of that name; it lists the known ones.
        """
        return await self._registry.find(name).check()

    async def check_processes(self) -> dict[str, ProcessStatus]:
        """Look at all processes now, and return their statuses by name."""
        await asyncio.sleep(0)
        now = now_local()
        for one in self._registry.values():
            one.mark_checked(now)
        return self.get_statuses()

    def get_statuses(self) -> dict[str, ProcessStatus]:
        """Return what is known of all processes and tasks, without looking afresh."""
        return {name: one.get_status() for name, one in self._registry.items()}

    def get_error_history(self, name: str | None = None) -> ErrorHistory:
        """
        Return all that happened to one process, or to all: by incarnation, with outputs.

        At any time, also after the manager has closed. Supervised coroutines are told of
        in the same way: what they raised stands in their stderr.

        Raises:
            UnknownProcess: If there is no process or task of that name.
        """
        if name is None:
            return self._registry.histories()
        return ErrorHistory({name: self._registry.history(name)})

    def explain(self, name: str) -> Explanation:
        """
        Say in words why a process or task is as it is, and what comes next.

        Which rule decides, with its numbers; when the next start, probe or step of its
        ladder is due; what it waits for; how many more failures it has; and the report of
        its newest life that failed. At any time, also after the manager has closed.

        Raises:
            UnknownProcess: If there is no process or task of that name.
        """
        return explain(
            self._registry.find(name).get_forecast(), self._supervisor.context(name)
        )

    async def leak_report(self) -> LeakReport:
        """
        Look for what is left of processes that should be gone; best after the end.

        Living members of the groups of the dead, daemons that have left their group and
        session (known by a tag in their environment, so not without the guard), and on
        our side descriptors, tasks and threads. What runs under supervision is no leak.
        It reads ``/proc`` in a thread, for some milliseconds.
        """
        traces = [
            trace for one in self._registry.all_ever for trace in one.get_traces()
        ]
        tag = self._supervisor.guard.tag if self._supervisor.guard else ""
        tasks = [] if self._is_open else self._supervisor.tasks.names
        return await anyio.to_thread.run_sync(leaks.look, traces, tag, tasks)

    async def wait_until_settled(self) -> dict[str, ProcessStatus]:
        """
        Wait until all processes and tasks are dead, and none will be started by itself.

        Returns:
            Their last statuses, by name.

        Cancellation: Safe; nobody is touched.
        """
        while active := [one for one in self._registry.values() if not one.is_settled]:
            for one in active:
                await one.wait_until_settled()
        return self.get_statuses()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """
        Have *subscriber* called with each event, at once, in the loop.

        It must be quick and must not block. One that raises is logged and called again.

        Returns:
            A function that ends the subscription.
        """
        return self._supervisor.events.subscribe(subscriber)

    def _must_be_open(self) -> None:
        if not self._is_open or self._supervisor.ending.is_set():
            state = "has been closed" if self._main_task else "has not been entered"
            raise NotStarted(
                f"the manager {state}: use it inside "
                f"'async with ProcessManager(logger) as manager:'"
            )
