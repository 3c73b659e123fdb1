"""Processes, descriptors, tasks and threads that a manager should not have any more."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from realtalk_async.supervision.kernel import exit_waiter, process_groups

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from realtalk_async.operating_system import ProcessInfo


@dataclass(frozen=True, slots=True)
class IncarnationResources:
    """The system resources of one incarnation of a process or of a task."""

    name: str
    """``mic#2``: the name and the number of the incarnation."""
    group: int
    """The number of its process group; 0 if it has, or had, none."""
    is_over: bool
    """Whether no resource of it should be left."""
    descriptors: tuple[int, ...] = ()
    """The open ends of its pipes on the app's side, and its pidfd."""
    tasks: tuple[str, ...] = ()
    """Its tasks that still run after its end."""


@dataclass(frozen=True, slots=True)
class LeakReport:
    """The resources of a manager that are left although they should be gone."""

    children: tuple[str, ...]
    """Living members of the groups of dead processes."""
    escapees: tuple[str, ...]
    """Living descendants that have left their group and session, as daemons do."""
    descriptors: tuple[str, ...]
    tasks: tuple[str, ...]
    threads: tuple[str, ...]

    def __bool__(self) -> bool:
        return any(asdict(self).values())

    def to_dict(self) -> dict[str, list[str]]:
        """Return the report ready for JSON."""
        return {kind: list(found) for kind, found in asdict(self).items()}

    def __str__(self) -> str:
        lines = [
            f"{kind}: {one}" for kind, found in self.to_dict().items() for one in found
        ]
        return "\n".join(lines) or "nothing is left"


def find_leaks(incarnations: Iterable[IncarnationResources], tag: str) -> LeakReport:
    """
    Find the resources that are left. Takes some milliseconds: call it in a thread.

    Args:
        incarnations: The resources of all incarnations so far.
        tag: The tag in the environment of all descendants; "" if they carry none.
    """
    every = list(incarnations)
    running = {one.group for one in every if not one.is_over and one.group}
    over = {one.group: one for one in every if one.is_over and one.group}
    for group in running:
        over.pop(group, None)  # a running process has the same number now
    tagged = process_groups.find_tagged(tag) if tag else []
    ended = [one for one in every if one.is_over]
    return LeakReport(
        tuple(_children(over)),
        tuple(str(one) for one in tagged if _has_escaped(one, running | over.keys())),
        tuple(f"{one.name}: {number}" for one in ended for number in one.descriptors),
        tuple(f"{one.name}: {task}" for one in every for task in one.tasks),
        tuple(_threads(running)),
    )


def _children(over: dict[int, IncarnationResources]) -> Iterator[str]:
    for group, incarnation in over.items():
        for member in process_groups.living_members(group):
            yield f"{member}, of {incarnation.name}"


def _has_escaped(one: ProcessInfo, known: set[int]) -> bool:
    return one.group not in known and one.session not in known


def _threads(running: set[int]) -> Iterator[str]:
    for one in threading.enumerate():
        if one.name == exit_waiter.THREAD_NAME and not running:
            yield one.name
