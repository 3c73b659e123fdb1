"""What is left of processes that should be gone. An edge: it reads ``/proc``."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from realtalk_async.supervision.kernel import process_groups
from realtalk_async.supervision.kernel.child_process import THREAD_NAME_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from realtalk_async.supervision.kernel.process_groups import Member


@dataclass(frozen=True, slots=True)
class Trace:
    """What one life of a process, or of a coroutine, has had."""

    name: str
    """``mic#2``: its name and the number of its incarnation."""
    group: int
    """The number of its process group; 0 if it has, or had, none."""
    is_over: bool
    """Whether nothing of it should be left."""
    descriptors: tuple[int, ...] = ()
    """Those of its pipes that are open on our side, and its pidfd."""
    tasks: tuple[str, ...] = ()
    """Those that go on although it is over."""


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What a manager has brought about, and what is left although it should be gone."""

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
        """Return it ready for JSON."""
        return {kind: list(found) for kind, found in asdict(self).items()}

    def __str__(self) -> str:
        lines = [
            f"{kind}: {one}" for kind, found in self.to_dict().items() for one in found
        ]
        return "\n".join(lines) or "nothing is left"


def look(traces: Iterable[Trace], tag: str, tasks: Iterable[str]) -> LeakReport:
    """
    Look for what is left. It takes some milliseconds: use a thread.

    Args:
        traces: All lives that there were.
        tag: What all descendants carry in their environment; "" if they carry none.
        tasks: Tasks of ours that should not run any more.
    """
    lives = list(traces)
    running = {one.group for one in lives if not one.is_over and one.group}
    over = {one.group: one for one in lives if one.is_over and one.group}
    for group in running:
        over.pop(group, None)  # the number was given anew
    tagged = process_groups.tagged(tag) if tag else []
    gone = [one for one in lives if one.is_over]
    return LeakReport(
        tuple(_children(over)),
        tuple(str(one) for one in tagged if _escaped(one, running | over.keys())),
        tuple(f"{one.name}: {number}" for one in gone for number in one.descriptors),
        (*(f"{one.name}: {task}" for one in lives for task in one.tasks), *tasks),
        tuple(_threads(running)),
    )


def _children(over: dict[int, Trace]) -> Iterator[str]:
    for group, trace in over.items():
        for member in process_groups.living(group):
            yield f"{member}, of {trace.name}"


def _escaped(one: Member, known: set[int]) -> bool:
    return one.group not in known and one.session not in known


def _threads(running: set[int]) -> Iterator[str]:
    for one in threading.enumerate():
        pid = one.name.removeprefix(THREAD_NAME_PREFIX)
        if pid != one.name and int(pid) not in running:
            yield one.name
