"""The events about the bounds of a session, and about responses without a user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from realtalk_async.voice.events.base import SESSION, VoiceEvent, info, warning

if TYPE_CHECKING:
    from realtalk_async.events.base import EventLogEntry

LimitKind: TypeAlias = Literal["tokens", "minutes", "idle_minutes"]

_UNITS = {"tokens": "tokens", "minutes": "minutes", "idle_minutes": "idle minutes"}


@dataclass(frozen=True, slots=True)
class LimitReached(VoiceEvent):
    """A bound of `SessionLimits` is reached; the session ends after the current response."""

    kind = "session.limit_reached"
    name: LimitKind
    limit: float
    used: float

    def log_entry(self) -> EventLogEntry:
        context = {"name": self.name, "limit": self.limit, "used": round(self.used, 3)}
        return info(SESSION, "Limit reached: the session ends", **context)

    def __str__(self) -> str:
        used = f" ({self.used:,.0f} used)" if self.name == "tokens" else ""
        return f"the limit of {self.limit:,g} {_UNITS[self.name]}{used}"


@dataclass(frozen=True, slots=True)
class SelfTalk(VoiceEvent):
    """
    Responses followed each other without the user: no speech, text or request.

    Speech whose transcript repeats a response is an echo, and not the user's. It is told
    once until the user speaks or writes again.
    """

    kind = "session.self_talk_noticed"
    responses: int
    """The number of responses in a row."""
    echoes: int
    """How many of them answered an echo of a response before."""

    def log_entry(self) -> EventLogEntry:
        context = {"responses": self.responses, "echoes": self.echoes}
        return warning(SESSION, "The assistant talks to itself", **context, do=self._do)

    @property
    def _do(self) -> str:
        if self.echoes:
            return "use a headset, echo cancellation, or half_duplex=True"
        return "set turn_detection without an idle timeout, or limits=SessionLimits(…)"

    def __str__(self) -> str:
        echoes = f", {self.echoes} to its own echo" if self.echoes else ""
        return (
            f"{self.responses} responses in a row without the user{echoes}: {self._do}"
        )
