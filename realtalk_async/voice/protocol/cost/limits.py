"""The bounds that an app sets to one session."""

from __future__ import annotations

from dataclasses import dataclass

from realtalk_async import arguments
from realtalk_async.voice.events import LimitReached

DEFAULT_SELF_TALK = 5
"""Responses in a row without the user after which it is told."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """
    When a session ends by itself; ``None`` for never.

    It ends as by `Stream.stop_streaming`: no microphone, text or result of a tool is sent
    any more, the response under way is spoken to its end (for 30 s at most), and the
    limit is what the session is *ended by*.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """

    tokens: int | None = None
    """
    Tokens of all responses and transcripts, as the service counts them after each: the
    last response may exceed the limit.
    """
    minutes: float | None = None
    """Minutes since the first connection."""
    idle_minutes: float | None = None
    """Minutes in which nobody speaks or writes, and no response or tool is under way."""
    self_talk: int = DEFAULT_SELF_TALK
    """
    Responses in a row without the user after which a `SelfTalk` tells it; the session
    goes on.
    """

    def __post_init__(self) -> None:
        arguments.integer("tokens", self.tokens, minimum=1, optional=True)
        for name in ("minutes", "idle_minutes"):
            value = getattr(self, name)
            if value is not None:
                arguments.number(name, value, of="minutes", more_than=0)
        arguments.integer("self_talk", self.self_talk, minimum=1)


NO_LIMITS = SessionLimits()


class LimitWatch:
    """
    Tells once when a limit is reached; all times are in monotonic seconds.

    Args:
        limits: The limits.
    """

    def __init__(self, limits: SessionLimits) -> None:
        self._limits = limits
        self._started_at: float | None = None
        self._active_at = 0.0
        self.is_reached = False
        """Whether a limit was reached."""

    def started(self, now: float) -> None:
        """Note a connection; the first one is the start of the session."""
        if self._started_at is None:
            self._started_at = self._active_at = now

    def active(self, now: float) -> None:
        """Note that somebody speaks or writes, or will be heard until *now*."""
        self._active_at = max(self._active_at, now)

    @property
    def deadline(self) -> float | None:
        """When to `check` next; ``None`` for never."""
        if self._started_at is None or self.is_reached:
            return None
        times: list[float] = []
        if self._limits.minutes is not None:
            times.append(self._started_at + self._limits.minutes * 60)
        if self._limits.idle_minutes is not None:
            times.append(self._active_at + self._limits.idle_minutes * 60)
        return min(times, default=None)

    def check(self, now: float, tokens: int) -> LimitReached | None:
        """Return the limit that is reached; ``None`` if there is none, or it was told."""
        started_at, limits = self._started_at, self._limits
        if started_at is None or self.is_reached:
            return None
        minutes = (now - started_at) / 60
        idle = (now - self._active_at) / 60
        reached: LimitReached | None = None
        # A deadline that was reached must count, whatever the division rounds off.
        if limits.tokens is not None and tokens >= limits.tokens:
            reached = LimitReached("tokens", limits.tokens, tokens)
        elif limits.minutes is not None and minutes >= limits.minutes - _ROUNDING:
            reached = LimitReached("minutes", limits.minutes, minutes)
        elif (
            limits.idle_minutes is not None and idle >= limits.idle_minutes - _ROUNDING
        ):
            reached = LimitReached("idle_minutes", limits.idle_minutes, idle)
        self.is_reached = reached is not None
        return reached


_ROUNDING = 1e-6  # minutes
