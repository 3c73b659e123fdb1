"""Processes that could not be killed, such as those in state D, until they have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from realtalk_async.concurrency.condition import LightEvent
from realtalk_async.supervision.kernel.process_groups import get_group_search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtalk_async.supervision.kernel.leaks import IncarnationResources
    from realtalk_async.supervision.reports.status import ProcessStatus

INTERVAL = 0.1
"""Seconds between two checks: no notice tells that a process group has become empty."""


class Child(Protocol):
    """A process whose groups can be checked."""

    def get_status(self) -> ProcessStatus:
        """Return its status."""
        ...

    def get_resources(self) -> Sequence[IncarnationResources]:
        """Return the resources of its incarnations."""
        ...


class Survivors:
    """The names of the processes of which a member survived its stop ladder."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._end = LightEvent()

    def note_end(self) -> None:
        """Check at once: a program has ended."""
        self._end.set()

    async def wait_until_gone(self, name: str, child: Child) -> None:
        """Wait until no member of any process group of *child* lives."""
        while not await _is_gone(child):
            self._end.clear()
            await self._end.is_set_within(INTERVAL)
        self.names.discard(name)


async def _is_gone(child: Child) -> bool:
    if child.get_status().status == "running":
        return False
    # Zombies hold nothing; in a container whose PID 1 reaps no orphans they stay for ever.
    search = get_group_search()
    for each in child.get_resources():
        if each.group and await search.living_members(each.group):
            return False
    return True
