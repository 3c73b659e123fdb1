"""The interface through which a lifecycle uses the supervisor of its manager."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from realtalk_async.exceptions import NotStarted
from realtalk_async.supervision.reports.kept_history import History

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Mapping

    from realtalk_async.events import Event
    from realtalk_async.logs import Logger
    from realtalk_async.supervision.kernel.cgroups.cgroup import Cgroup
    from realtalk_async.supervision.kernel.spawning.limits import Limits
    from realtalk_async.supervision.policy.restart import Decision, Restart


class SupervisorPort(Protocol):
    """The supervisor as a `Lifecycle` sees it."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables to add to the environment of each child."""
        ...

    @property
    def log_path(self) -> str:
        """Where the events of the children are logged."""
        ...

    @property
    def closing(self) -> bool:
        """Whether no process may be started any more."""
        ...

    @property
    def history(self) -> History:
        """How much of the past is kept."""
        ...

    def counts_earlier(self, name: str) -> None:
        """Log that incarnations of *name* are counted, not kept, from now on."""
        ...

    def restart_refusal(self, name: str) -> str:
        """Return why *name* may not be started again; "" if it may."""
        ...

    def publish(self, event: Event) -> None:
        """Publish an event to the log and to all subscribers."""
        ...

    def run_task(
        self, coroutine: Coroutine[None, None, None], name: str
    ) -> asyncio.Task[None]:
        """Run a lifecycle as a task."""
        ...

    def group_started(self, pid: int) -> None:
        """Register a process group with the guard."""
        ...

    def group_ended(self, pid: int) -> None:
        """Remove a process group from the guard."""
        ...

    def make_cgroup(self, name: str, limits: Limits | None) -> Cgroup:
        """Make the cgroup of an incarnation of *name*; raise OSError if that fails."""
        ...

    def allow_restart(self, name: str, restart: Restart) -> Decision:
        """Return *restart*, or the decision that replaces it."""
        ...

    def stop_restart_group(self, name: str) -> Awaitable[None] | None:
        """Return an awaitable that ends the processes that are restarted with *name*."""
        ...

    def end_bound(self, name: str, *, for_good: bool) -> Awaitable[object] | None:
        """Return an awaitable that ends what restarts and stops with *name*, if any."""
        ...

    def begins(self, name: str) -> None:
        """Start what was stopped because *name* had ended: it starts again."""
        ...

    def stop_reason(self, name: str) -> str:
        """Return why *name* is stopped; "" if the app requested it."""
        ...

    def settled(self, name: str, given_up: str | None) -> None:
        """
        Record that no restart of *name* is due.

        Args:
            name: The process or task.
            given_up: The reason if its restart was given up, else None.
        """
        ...


class StandalonePort:
    """The port of a process without a manager: it only logs."""

    environment: Mapping[str, str] = {}
    closing = False
    history = History()

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self.log_path = str(logger.path)

    def counts_earlier(self, name: str) -> None:
        """Log it."""
        log_first_counted(self._logger, name, self.history)

    def restart_refusal(self, name: str) -> str:
        """Return "": there is no manager."""
        return ""

    def publish(self, event: Event) -> None:
        """Log the event."""
        entry = event.log_entry()
        if entry is not None:
            self._logger.log(*entry)

    def run_task(
        self, coroutine: Coroutine[None, None, None], name: str
    ) -> asyncio.Task[None]:
        """Run a lifecycle as a task of the running loop."""
        return asyncio.get_running_loop().create_task(coroutine, name=name)

    def group_started(self, pid: int) -> None:
        """Do nothing: there is no guard."""

    def group_ended(self, pid: int) -> None:
        """Do nothing: there is no guard."""

    def make_cgroup(self, name: str, limits: Limits | None) -> Cgroup:
        """
        Refuse: without a manager, nothing would remove the cgroup.

        Raises:
            NotStarted: Always.
        """
        raise NotStarted(f"{name!r} needs a ProcessManager for its cgroup")

    def allow_restart(self, name: str, restart: Restart) -> Decision:
        """Return *restart*."""
        return restart

    def stop_restart_group(self, name: str) -> Awaitable[None] | None:
        """Return None: no other process is restarted together with it."""

    def end_bound(self, name: str, *, for_good: bool) -> Awaitable[object] | None:
        """Return None: nothing is bound to it."""

    def begins(self, name: str) -> None:
        """Do nothing: nothing is bound to it."""

    def stop_reason(self, name: str) -> str:
        """Return "": only the app stops it."""
        return ""

    def settled(self, name: str, given_up: str | None) -> None:
        """Do nothing: there is no manager."""


def log_first_counted(logger: Logger, name: str, history: History) -> None:
    """Log, once for a name, that its older incarnations are counted, not kept."""
    limits = [f"the newest {history.incarnations} incarnations"]
    if history.output is not None:
        limits.append(f"{history.output} bytes of output")
    logger.info(
        name,
        f"Only {' and '.join(limits)} are kept from now on: older incarnations are "
        f"counted; see History",
    )
