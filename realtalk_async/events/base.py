"""The base of all events: version, id, time, actor, JSON form and log entry."""

from __future__ import annotations

import contextlib
import itertools
import os
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from realtalk_async.times import now_local

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import datetime

SCHEMA_VERSION = 1
"""
The version of the JSON form of all events.

Within a version, fields and kinds are only added. One that is removed, renamed or given
another meaning or type raises the version.
"""

POLICY = "policy"
"""The actor of an event without a request: it happened, or a rule led to it."""
APP = "app"
"""The actor of what the app requested by a call."""

_actor: ContextVar[str] = ContextVar("actor", default=APP)


def user(uid: int) -> str:
    """Return the actor of what a user requested through the control socket."""
    return f"uid:{uid}"


def get_actor() -> str:
    """Return the actor of the requests of the current task."""
    return _actor.get()


def act_as(actor: str) -> None:
    """Let all further requests of the running task be those of *actor*."""
    _actor.set(actor)


@contextlib.contextmanager
def acting_as(actor: str) -> Generator[None]:
    """Let all requests in the block be those of *actor*."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


class _Ids:
    """
    Unique ids of events: a random prefix of this process, and a counter.

    The prefix is drawn when it is needed: also in a forked child, which would otherwise
    repeat the ids of its parent.
    """

    def __init__(self) -> None:
        self._prefix = ""
        self._numbers = itertools.count(1)
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._prefix = ""
        self._numbers = itertools.count(1)

    def next(self) -> str:
        """Return the next id."""
        if not self._prefix:
            self._prefix = os.urandom(8).hex()
        return f"{self._prefix}-{next(self._numbers)}"


next_id = _Ids().next
"""Returns a new id, unique across processes and restarts."""


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
    version: ClassVar[int] = SCHEMA_VERSION
    """The version of the JSON form."""

    at: datetime = field(default_factory=now_local, compare=False)
    """Wall-clock time with its zone. Two events with the same facts are equal."""
    id: str = field(default_factory=next_id, compare=False)
    """Unique across processes and restarts."""
    actor: str = POLICY
    """
    The source of the request: ``app`` or a user of the control socket (``uid:1000``);
    ``policy`` if a rule led to the event, or it happened by itself.
    """

    @property
    def is_detail(self) -> bool:
        """Whether another event tells people the same: it needs no line of its own."""
        return False

    def to_dict(self) -> dict[str, object]:
        """Return the event ready for JSON; `realtalk_async.events` lists all fields."""
        form: dict[str, object] = {
            "version": self.version,
            "id": self.id,
            "kind": self.kind,
            **asdict(self),
        }
        return {**form, "at": self.at.isoformat()}

    def log_entry(self) -> EventLogEntry | None:
        """Return the log entry of this event; ``None`` if it is not logged."""
        raise NotImplementedError
