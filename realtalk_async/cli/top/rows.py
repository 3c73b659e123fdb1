"""The state of an app in the live view: one row per process, and their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from realtalk_async.control import JsonObject

Order = Literal["start", "name", "cpu", "memory", "output"]
ORDERS: tuple[Order, ...] = ("start", "name", "cpu", "memory", "output")

FAILING = {"fatal", "backoff"}
"""States of processes that fail."""


class Usage(NamedTuple):
    """CPU and memory of a process and all of its session."""

    cpu: float
    """CPU seconds so far."""
    memory: int
    """Resident bytes; memory that processes share counts for each of them."""


@dataclass(slots=True)
class Row:
    """A process or a coroutine."""

    name: str
    state: str = ""
    pid: int | None = None
    incarnation: int = 0
    began: float | None = None
    """When it started, in monotonic seconds, which are those of the whole machine."""
    uptime: float | None = None
    """Seconds of the ended incarnation; None while it runs."""
    restarts: int = 0
    exit_status: int | str | None = None
    reason: str = ""
    bytes: int = 0
    """Bytes of output so far, on both streams."""
    last: str = ""
    """The beginning of the last line of output."""
    rate: float = 0.0
    """Bytes of output per second since the last update."""
    cpu: float | None = None
    """Percent of a processor since the last update."""
    memory: int | None = None

    @property
    def runs(self) -> bool:
        """Whether the process or coroutine runs."""
        return self.uptime is None

    def seconds(self, now: float) -> float:
        """Return the uptime in seconds; *now* in monotonic seconds."""
        if self.uptime is not None:
            return self.uptime
        return 0.0 if self.began is None else max(0.0, now - self.began)

    @property
    def last_text(self) -> str:
        """The last line of output while it runs; else the reason of its state."""
        return self.last if self.runs and self.state == "running" else self.reason


_FIELDS = frozenset(Row.__slots__) - {"name", "rate", "cpu", "memory"}


class AppState:
    """The rows of one app, updated by the items of a watch."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        """By name, in the order of their start."""
        self.app: JsonObject = {}
        """``command``, ``pid``, ``status``, ``log`` and so on of the app itself."""
        self._bytes: dict[str, int] = {}
        self._cpu: dict[tuple[str, int], float] = {}
        self._updated_at = 0.0
        self._usage_at = 0.0

    def update(self, item: JsonObject, now: float) -> None:
        """
        Apply an item of a watch.

        Args:
            item: The changes since the last item.
            now: Monotonic seconds.
        """
        for name in cast("list[str]", item["gone"]):
            self.rows.pop(name, None)
        changed = cast("dict[str, dict[str, Any]]", item["changed"])
        for name, fields in changed.items():
            row = self.rows.setdefault(name, Row(name))
            for key in fields.keys() & _FIELDS:
                setattr(row, key, fields[key])
        self.app = {k: v for k, v in item.items() if k not in {"gone", "changed"}}
        self._update_rates(now - self._updated_at)
        self._updated_at = now

    def _update_rates(self, seconds: float) -> None:
        for name, row in self.rows.items():
            new = row.bytes - self._bytes.get(name, row.bytes)
            row.rate = max(0, new) / seconds
        self._bytes = {name: row.bytes for name, row in self.rows.items()}

    def update_usage(self, usages: Mapping[int, Usage], now: float) -> None:
        """
        Apply the CPU and memory of processes.

        Args:
            usages: By pid.
            now: Monotonic seconds.
        """
        seconds, self._usage_at = now - self._usage_at, now
        before, self._cpu = self._cpu, {}
        for name, row in self.rows.items():
            usage = usages.get(row.pid) if row.pid is not None and row.runs else None
            if usage is None or row.pid is None:
                row.cpu = row.memory = None
                continue
            used = usage.cpu - before.get((name, row.pid), usage.cpu)
            # The sum of a session drops when one of its processes ends.
            row.cpu, row.memory = max(0.0, used) / seconds * 100, usage.memory
            self._cpu[name, row.pid] = usage.cpu

    def ordered(self, order: Order) -> list[Row]:
        """Return the rows in an order; equal rows in the order of their start."""
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
    def failing(self) -> int:
        """The number of failing processes."""
        return sum(row.state in FAILING for row in self.rows.values())
