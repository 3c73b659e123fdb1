"""The base of all events: time, kind, JSON form and log entry."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from realtalk_async.times import now_local

if TYPE_CHECKING:
    from datetime import datetime


class EventLogEntry(NamedTuple):
    """The log entry of an event: the arguments of `Logger.log`."""

    level: Literal["INFO", "WARNING", "ERROR"]
    component: str
    message: str
    context: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseEvent:
    """An event: a fact, with the time at which it happened."""

    kind: ClassVar[str] = "event"
    """A dotted name in the past tense: ``process.exited``."""

    at: datetime = field(default_factory=now_local, compare=False)
    """Wall-clock time with its zone. Two events with the same facts are equal."""

    def to_dict(self) -> dict[str, object]:
        """Return the event ready for JSON."""
        fields: dict[str, object] = asdict(self)
        return {"kind": self.kind, **fields, "at": self.at.isoformat()}

    def log_entry(self) -> EventLogEntry | None:
        """Return the log entry of this event; ``None`` if it is not logged."""
        raise NotImplementedError
