"""How much of the past is kept, and the count of what is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from realtalk_async import arguments
from realtalk_async.supervision.reports.status import NOT_FAILED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from realtalk_async.events import Cause

MOST_CHANGES = 200
"""Changes of state of one incarnation that are kept: its first and its newest ones."""


@dataclass(frozen=True, slots=True)
class History:
    """
    How much of the past a manager keeps whole, output included.

    What is older is counted, see `Earlier`; its output becomes one gap line with the number
    of its bytes.

    Raises:
        InvalidConfiguration: If a number is no whole number, 1 or more.
    """

    incarnations: int | None = 100
    """The newest incarnations of each name; all if None."""
    names: int | None = 1000
    """The names of dead processes and tasks, the newest; all if None."""
    output: int | None = None
    """
    Bytes of captured output of each name, both streams together; no limit if None. It is
    checked when an incarnation starts: the oldest ones are forgotten whole until the rest
    is within the limit. The last one that ended is always kept. For a limit within one
    incarnation see ``max_size``.
    """

    def __post_init__(self) -> None:
        arguments.integer("incarnations", self.incarnations, minimum=1, optional=True)
        arguments.integer("names", self.names, minimum=1, optional=True)
        arguments.integer("output", self.output, of="bytes", minimum=1, optional=True)


KEEP_ALL = History(None, None, None)


def count_excess(history: History, count: int, size_of: Callable[[int], int]) -> int:
    """
    Return how many of the oldest incarnations of a name are not kept any more.

    Args:
        history: The limits.
        count: The number of incarnations; the last one has begun just now.
        size_of: Returns the bytes of output of one, by its place from 0; called only if
            there is a limit.
    """
    first = max(0, count - (history.incarnations or count))
    if history.output is not None:
        left = sum(map(size_of, range(first, count)))
        while left > history.output and first < count - 2:
            left -= size_of(first)
            first += 1
    return first


@dataclass(frozen=True, slots=True)
class Earlier:
    """The incarnations that are no longer kept, counted."""

    count: int = 0
    causes: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many of them ended for each cause."""
    failed: int = 0
    """How many of them ended in a failure."""
    uptime: float = 0.0
    """Seconds that they ran together."""
    since: datetime | None = None
    """The start of the first one."""
    until: datetime | None = None
    """The end of the last one."""

    def __bool__(self) -> bool:
        return self.count > 0

    def __add__(self, other: Earlier) -> Earlier:
        causes = dict(self.causes)
        for cause, count in other.causes.items():
            causes[cause] = causes.get(cause, 0) + count
        starts = [one.since for one in (self, other) if one.since]
        ends = [one.until for one in (self, other) if one.until]
        return Earlier(
            self.count + other.count,
            causes,
            self.failed + other.failed,
            self.uptime + other.uptime,
            min(starts, default=None),
            max(ends, default=None),
        )

    @classmethod
    def of(
        cls, cause: Cause | None, uptime: float, since: datetime, until: datetime | None
    ) -> Earlier:
        """Return the count of one incarnation."""
        causes = {str(cause or "unknown"): 1}
        return cls(1, causes, int(cause not in NOT_FAILED), uptime, since, until)

    def to_dict(self) -> dict[str, object]:
        """Return the count ready for JSON."""
        return {
            "count": self.count,
            "causes": dict(self.causes),
            "failed": self.failed,
            "uptime": round(self.uptime, 3),
            "since": self.since and self.since.isoformat(),
            "until": self.until and self.until.isoformat(),
        }

    def __str__(self) -> str:
        causes = ", ".join(f"{count} {cause}" for cause, count in self.causes.items())
        return f"{self.count} earlier incarnations are counted, not kept: {causes}"


NONE_EARLIER = Earlier()


def shorten(timeline: list[tuple[datetime, str]], left_out: int) -> int:
    """
    Leave out changes in the middle of a long timeline; a note there counts them.

    Args:
        timeline: The changes, the oldest first.
        left_out: The number of changes that are left out already.

    Returns:
        The number of changes that are left out now.
    """
    middle = MOST_CHANGES // 2
    while len(timeline) > MOST_CHANGES:
        at = timeline[middle][0]
        left_out += 1 if left_out else 2
        timeline[middle : middle + 2] = [(at, f"({left_out} changes left out)")]
    return left_out
