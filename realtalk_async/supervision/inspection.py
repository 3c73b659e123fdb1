"""The read side of a `ProcessManager`: status, history, explanation, leaks, events."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING, TextIO

from realtalk_async import arguments
from realtalk_async.concurrency.daemon_thread import call_in_thread
from realtalk_async.exceptions import NotStarted
from realtalk_async.supervision.kernel import leaks
from realtalk_async.supervision.reports.event_printer import EventPrinter
from realtalk_async.supervision.reports.explanation import Explanation, explain
from realtalk_async.supervision.reports.report import ErrorHistory
from realtalk_async.supervision.reports.status import ProcessStatuses
from realtalk_async.times import now_local

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from realtalk_async.event_bus import EventFeed
    from realtalk_async.events import Event
    from realtalk_async.supervision.kernel.leaks import LeakReport
    from realtalk_async.supervision.process import ManagedProcess
    from realtalk_async.supervision.reports.containment import Containment
    from realtalk_async.supervision.reports.status import ProcessStatus
    from realtalk_async.supervision.supervisor import Subscriber, Supervisor
    from realtalk_async.supervision.task import SupervisedTask


class ManagerInspection:
    """
    The queries of a `ProcessManager`; none of them changes a process.

    Args:
        supervisor: The supervisor of the manager.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._registry = supervisor.registry
        self._details: dict[str, Callable[[], Sequence[str]]] = {}
        self._is_open = False
        self._main_task: asyncio.Task[None] | None = None

    @property
    def closing(self) -> bool:
        """Whether no process may be started any more."""
        return self._supervisor.closing

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables by which the guard recognises the children."""
        return self._supervisor.environment

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
        """The statuses of the critical processes and tasks, by name."""
        return {
            n: self._registry[n].get_status() for n in sorted(self._supervisor.critical)
        }

    @property
    def degraded(self) -> Mapping[str, str]:
        """The processes that were given up, by name, with the reasons; usually empty."""
        return MappingProxyType(dict(self._supervisor.degraded))

    @property
    def containment(self) -> Containment:
        """How the descendants of the children are found and ended, and what that cannot do."""
        return self._supervisor.cgroups.describe()

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
        Check one process now.

        Raises:
            UnknownProcess: If there is no process of this name; it lists the known names.
            InvalidConfiguration: If *name* is no text.
        """
        return await self._registry.find(name).check()

    async def check_processes(self) -> dict[str, ProcessStatus]:
        """Check all processes now, and return their statuses by name."""
        self._check_loop()
        await asyncio.sleep(0)
        now = now_local()
        for one in self._registry.values():
            one.mark_checked(now)
        return self.get_statuses()

    def get_statuses(self) -> ProcessStatuses:
        """
        Return the statuses of all processes and tasks by name, without a new check.

        ``print()`` shows them as a table.
        """
        return ProcessStatuses(
            {name: one.get_status() for name, one in self._registry.items()}
        )

    def process_status(self) -> ProcessStatuses:
        """Return the same as `get_statuses`, by the name that `Stream` has for it."""
        return self.get_statuses()

    def get_error_history(self, name: str | None = None) -> ErrorHistory:
        """
        Return the history of one process or of all: each incarnation with its output.

        It is available at any time, also after the manager has closed. For a supervised
        coroutine, the tracebacks are its stderr.

        Raises:
            UnknownProcess: If there is no process or task of this name.
        """
        if name is None:
            return self._registry.histories()
        return ErrorHistory({name: self._registry.history(name)})

    def explain(self, name: str) -> Explanation:
        """
        Explain why a process or task is in its state, and what follows.

        The explanation contains the rule that decides, with its numbers; when the next
        start, probe or stop step is due; what it waits for; how many failures are left;
        and the report of its newest failed incarnation. It is available at any time, also
        after the manager has closed.

        Raises:
            UnknownProcess: If there is no process or task of this name.
        """
        forecast = self._registry.find(name).get_forecast()
        details = tuple(self.get_details(name))
        return explain(forecast, self._supervisor.context(name), details)

    def set_details(self, name: str, function: Callable[[], Sequence[str]]) -> None:
        """
        Set what an app itself can tell about a process, such as the level of its sound.

        `explain` shows all lines, and the live view the first one, for a process whose
        output has no lines.

        Args:
            name: The name of the process or task, which may start later.
            function: Returns the lines, when they are asked for; it must not block.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.text("name", name)
        arguments.function("function", function)
        self._details[name] = function

    def get_details(self, name: str) -> Sequence[str]:
        """
        Return what the app tells about a process; see `set_details`.

        Raises:
            InvalidConfiguration: If *name* is no text.
        """
        arguments.text("name", name)
        function = self._details.get(name)
        try:
            return () if function is None else function()
        except Exception as error:  # noqa: BLE001 - the app's own mistake hides no state
            return (f"the app's function for details raised {error!r}",)

    async def leak_report(self) -> LeakReport:
        """
        Find the resources that dead processes have left behind; best after the block.

        These are living members of their groups, daemons that have left their group and
        session (recognised by a tag in their environment, which needs the guard), and the
        app's own descriptors, tasks and threads. Running supervised processes are no leak.
        It reads ``/proc`` in a thread of its own, for some milliseconds.
        """
        incarnations = [
            trace for one in self._registry.all_ever for trace in one.get_resources()
        ]
        tag = self._supervisor.guard.tag if self._supervisor.guard else ""
        return await call_in_thread(
            lambda: leaks.find_leaks(incarnations, tag), "realtalk-async finds leaks"
        )

    async def wait_until_settled(self) -> dict[str, ProcessStatus]:
        """
        Wait until all processes and tasks are dead and will not be restarted.

        Returns:
            Their last statuses, by name.

        Cancellation: Safe; no process is affected.
        """
        self._check_loop()
        while active := [one for one in self._registry.values() if not one.is_settled]:
            for one in active:
                await one.wait_until_settled()
        return self.get_statuses()

    def subscribe(
        self, subscriber: Subscriber, *kinds: type[Event]
    ) -> Callable[[], None]:
        """
        Call *subscriber* with each event, at once, in the loop.

        It must be quick and must not block. If it raises, the exception is logged with its
        traceback, and the subscription continues.

        Args:
            subscriber: A function that is not async.
            *kinds: Only events of these classes; all if there are none.

        Returns:
            A function that ends the subscription.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        return self._supervisor.events.subscribe(subscriber, *kinds)

    def events(self, *kinds: type[Event], size: int = 1000) -> EventFeed[Event]:
        """
        Return the events from here on, as an async iterator with a queue of its own.

        If its reader is slow, the oldest events are dropped and counted in
        `EventFeed.missed`.

        Args:
            *kinds: Only events of these classes; all if there are none.
            size: Number of events that may wait to be read.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        return self._supervisor.events.feed(kinds, size)

    def print_events(self, file: TextIO | None = None) -> Callable[[], None]:
        """
        Print what happens to the processes, one line for each event that people need.

        Args:
            file: Where to print; by default stderr. While a pipe or terminal is full, up to
                1,000 lines wait, and the loop does not.

        Returns:
            A function that ends it.

        Raises:
            InvalidConfiguration: If *file* cannot be written to.
        """
        arguments.like("file", file, "a file of text", "write", "flush", optional=True)
        return self.subscribe(EventPrinter(file).print)

    def _check_loop(self) -> None:
        """Raise `WrongEventLoop` if another event loop than the manager's calls."""
        task = self._main_task
        running = task is not None and not task.done()
        arguments.check_loop(
            task.get_loop() if running and task else None, "this manager"
        )

    def _must_be_open(self) -> None:
        self._check_loop()
        if not self._is_open or self._supervisor.ending.is_set():
            state = "has been closed" if self._main_task else "has not been entered"
            raise NotStarted(
                f"the manager {state}: use it inside "
                f"'async with ProcessManager(logger) as manager:'"
            )
