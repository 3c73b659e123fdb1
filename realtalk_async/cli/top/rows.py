"""What the live view knows of an app's processes, and in which order. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from realtalk_async.control import JsonObject

Order = Literal["start", "name", "cpu", "memory", "output"]
ORDERS: tuple[Order, ...] = ("start", "name", "cpu", "memory", "output")

TROUBLE = {"fatal", "backoff"}
"""States that somebody should look at."""


class Load(NamedTuple):
    """What a process and all of its session use now."""

    cpu: float
    """CPU seconds so far."""
    memory: int
    """Bytes resident; what several share counts for each."""


@dataclass(slots=True)
class Row:
    """One process or coroutine."""

    name: str
    state: str = ""
    pid: int | None = None
    incarnation: int = 0
    started_at: float | None = None
    """Seconds since the epoch."""
    uptime: float | None = None
    """Seconds that it ran; None while it runs."""
    restarts: int = 0
    exit_status: int | str | None = None
    reason: str = ""
    bytes: int = 0
    """Said so far on both streams."""
    last: str = ""
    """The beginning of the last line."""
    rate: float = 0.0
    """Bytes a second, lately."""
    cpu: float | None = None
    """Percent of a processor, lately."""
    memory: int | None = None

    @property
    def runs(self) -> bool:
        """Whether it is alive."""
        return self.uptime is None

    def seconds(self, now: float) -> float:
        """Return how long it runs, or ran; *now* in seconds since the epoch."""
        if self.uptime is not None:
            return self.uptime
        return max(0.0, now - self.started_at) if self.started_at else 0.0

    @property
    def says(self) -> str:
        """Its last line while it runs; else how it ended, or what it waits for."""
        return self.last if self.runs and self.state == "running" else self.reason


_FIELDS = frozenset(Row.__slots__) - {"name", "rate", "cpu", "memory"}


class Board:
    """All rows of one app, kept up to date by what a watch tells."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        """By name, in the order of their start."""
        self.app: JsonObject = {}
        """What is told of the app itself: ``command``, ``pid``, ``status``, ``log``…"""
        self._said: dict[str, int] = {}
        self._used: dict[tuple[str, int], float] = {}
        self._looked = 0.0
        self._measured = 0.0

    def take(self, told: JsonObject, now: float) -> None:
        """
        Take in one answer of a watch.

        Args:
            told: What has changed.
            now: Monotonic seconds.
        """
        for name in cast("list[str]", told["gone"]):
            self.rows.pop(name, None)
        changed = cast("dict[str, dict[str, Any]]", told["changed"])
        for name, fields in changed.items():
            row = self.rows.setdefault(name, Row(name))
            for key in fields.keys() & _FIELDS:
                setattr(row, key, fields[key])
        self.app = {k: v for k, v in told.items() if k not in {"gone", "changed"}}
        self._note_rates(now - self._looked)
        self._looked = now

    def _note_rates(self, seconds: float) -> None:
        for name, row in self.rows.items():
            said = row.bytes - self._said.get(name, row.bytes)
            row.rate = max(0, said) / seconds
        self._said = {name: row.bytes for name, row in self.rows.items()}

    def measure(self, loads: Mapping[int, Load], now: float) -> None:
        """
        Take in what the processes use.

        Args:
            loads: By pid.
            now: Monotonic seconds.
        """
        seconds, self._measured = now - self._measured, now
        before, self._used = self._used, {}
        for name, row in self.rows.items():
            load = loads.get(row.pid) if row.pid is not None and row.runs else None
            if load is None or row.pid is None:
                row.cpu = row.memory = None
                continue
            used = load.cpu - before.get((name, row.pid), load.cpu)
            # What a member of the session has used goes with it.
            row.cpu, row.memory = max(0.0, used) / seconds * 100, load.memory
            self._used[name, row.pid] = load.cpu

    def ordered(self, order: Order) -> list[Row]:
        """Return the rows in that order; where it says nothing, in that of their start."""
        rows = list(self.rows.values())
        match order:
            case "start":
                return rows
            case "name":
                return sorted(rows, key=lambda row: row.name)
            case "cpu":
                return sorted(rows, key=lambda row: -(row.cpu or 0))
            case "memory":
                return sorted(rows, key=lambda row: -(row.memory or 0))
            case "output":
                return sorted(rows, key=lambda row: -row.rate)

    @property
    def troubled(self) -> int:
        """How many somebody should look at."""
        return sum(row.state in TROUBLE for row in self.rows.values())
