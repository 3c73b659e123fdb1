"""
Which deaths are one incident: different processes that die of the same thing at once.

Two deaths are of the same thing if the same sign was recognised in their output, or if the
cause, the exit status and the last words (numbers in them apart) are the same. Those within
`SAME_MOMENT` of the first one are one incident; the second death of a process begins a new
one. From the second process on, the restarts are spread; from the third on
(`NOTABLE`), the incident has one entry in the log and one event.

This module has no I/O: the caller gives the time and the ids.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from realtalk_async.events.event import NOTABLE

SAME_MOMENT = 1.0
"""Seconds from the first death of an incident to its last one."""
STEP = 0.05
"""Seconds between two restarts of an incident, in the order of the deaths."""
LONGEST_SPREAD = 5.0
"""No restart is delayed by more seconds; a hundred processes are spread within them."""

_NUMBERS = re.compile(r"\d+")


class Death(NamedTuple):
    """What is compared of a death."""

    cause: str
    exit_status: int | str | None
    sign: str = ""
    """The recognised kind of failure, if any."""
    last_words: str = ""
    """The line of its output that says why it died, if any."""

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for two deaths of the same thing."""
        if self.sign:
            return (self.sign,)
        # Process ids, ports and times differ.
        words = _NUMBERS.sub("0", self.last_words) if self.last_words else ""
        return self.cause, self.exit_status, words


@dataclass(slots=True)
class Incident:
    """Processes that died of the same thing within a moment."""

    id: str
    began: float
    """Monotonic seconds of the first death."""
    last: float
    """Monotonic seconds of the newest death."""
    what: str
    """What they died of, for people."""
    names: list[str] = field(default_factory=list[str])
    """The processes in the order of their deaths."""
    decided: set[str] = field(default_factory=set[str])
    """The processes whose restart after this death was decided."""

    @property
    def is_notable(self) -> bool:
        """Whether it is told as one."""
        return len(self.names) >= NOTABLE

    @property
    def seconds(self) -> float:
        """Seconds from the first to the newest death."""
        return self.last - self.began

    def __str__(self) -> str:
        return (
            f"{len(self.names)} processes failed for the same reason within "
            f"{self.seconds:.2f} s: {self.what}"
        )


class Incidents:
    """The incidents of one manager: those of the last moment, and the last of each process."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[object, ...], Incident] = OrderedDict()
        self._last: dict[str, Incident] = {}

    def add(
        self, now: float, name: str, death: Death, *, new_id: str, what: str
    ) -> Incident:
        """
        Return the incident to which a death belongs.

        Args:
            now: Monotonic seconds.
            name: The process.
            death: What is compared.
            new_id: The id of the incident if this death is the first one.
            what: What it died of, for people.
        """
        self._close_old(now)
        key = death.key
        incident = self._open.get(key)
        if incident is None or name in incident.names:
            incident = Incident(new_id, now, now, what)
            self._open.pop(key, None)
            self._open[key] = incident
        incident.names.append(name)
        incident.last = now
        self._last[name] = incident
        return incident

    def _close_old(self, now: float) -> None:
        while self._open:
            key, oldest = next(iter(self._open.items()))
            if now - oldest.began <= SAME_MOMENT:
                return
            del self._open[key]

    def of(self, name: str) -> Incident | None:
        """Return the incident of the last death of *name*; None if it stood alone."""
        incident = self._last.get(name)
        return incident if incident and len(incident.names) > 1 else None

    def forget(self, name: str) -> None:
        """Forget the last death of a process that is registered anew."""
        self._last.pop(name, None)

    def decide_restart(self, name: str) -> tuple[bool, float]:
        """
        Return what an incident changes in the restart of *name*.

        Returns:
            Whether it counts for the limit of all processes: of an incident only the first
            restart does. And the seconds by which it is delayed: each process has its turn.
        """
        incident = self._last.get(name)
        if incident is None or name in incident.decided:  # it follows no death
            return True, 0.0
        incident.decided.add(name)
        turn = incident.names.index(name)
        return len(incident.decided) == 1, turn * STEP % LONGEST_SPREAD
