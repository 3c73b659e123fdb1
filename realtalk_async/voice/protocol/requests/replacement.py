"""When a connection is replaced: before the service ends it, or because the app asks."""

from __future__ import annotations

PATIENCE = 10.0
"""Seconds that a requested replacement waits for the end of a turn or a response."""


class Replacement:
    """The request of the app for another connection; times are in monotonic seconds."""

    def __init__(self) -> None:
        self._requested_at: float | None = None

    @property
    def is_requested(self) -> bool:
        """Whether the app asked, and the connection was not replaced since."""
        return self._requested_at is not None

    def request(self, now: float) -> None:
        """Ask for another connection."""
        if self._requested_at is None:
            self._requested_at = now

    def done(self) -> None:
        """Note that the connection is replaced, or lost."""
        self._requested_at = None

    def at(self, expires_at: float, *, speaking: bool) -> float | None:
        """
        Return when to replace the connection; ``None`` while either side speaks.

        Args:
            expires_at: When it is to be replaced without a request.
            speaking: Whether a turn or a response is under way.
        """
        if self._requested_at is None:
            return None if speaking else expires_at
        return self._requested_at + (PATIENCE if speaking else 0.0)
