"""What a supervised process needs of those around it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Mapping

    from realtalk_async.events import Event
    from realtalk_async.logs import Logger
    from realtalk_async.supervision.policy.restart import Decision, Restart


class SupervisorPort(Protocol):
    """What a process needs of those around it; a `ProcessManager` is one."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What children carry in their environment."""
        ...

    @property
    def closing(self) -> bool:
        """Whether nothing is to be started any more."""
        ...

    def publish(self, event: Event) -> None:
        """Tell everybody, and the log, what happened."""
        ...

    def run_task(
        self, owner: Coroutine[None, None, None], name: str
    ) -> asyncio.Task[None]:
        """Run the owner of a process."""
        ...

    def group_started(self, pid: int) -> None:
        """Note that a process of ours, or a group of them, exists."""
        ...

    def group_ended(self, pid: int) -> None:
        """Note that it does not exist any more."""
        ...

    def allow_restart(self, name: str, restart: Restart) -> Decision:
        """Return *restart*, or what is to be done instead."""
        ...

    def stop_restart_group(self, name: str) -> Awaitable[None] | None:
        """Return what must be done before a process is restarted by its policy."""
        ...

    def settled(self, name: str, given_up: str | None) -> None:
        """Note that no restart is due: all is well (None), or why it was given up."""
        ...


class StandalonePort:
    """A host for a process without a manager: it logs, and knows nobody else."""

    environment: Mapping[str, str] = {}
    closing = False

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def publish(self, event: Event) -> None:
        """Log the event."""
        entry = event.log_entry()
        if entry is not None:
            self._logger.log(*entry)

    def run_task(
        self, owner: Coroutine[None, None, None], name: str
    ) -> asyncio.Task[None]:
        """Run the owner as a task of the running loop."""
        return asyncio.get_running_loop().create_task(owner, name=name)

    def group_started(self, pid: int) -> None:
        """Tell nobody."""

    def group_ended(self, pid: int) -> None:
        """Tell nobody."""

    def allow_restart(self, name: str, restart: Restart) -> Decision:
        """Return *restart*."""
        return restart

    def stop_restart_group(self, name: str) -> Awaitable[None] | None:
        """Return None: there are no others."""

    def settled(self, name: str, given_up: str | None) -> None:
        """Tell nobody."""
