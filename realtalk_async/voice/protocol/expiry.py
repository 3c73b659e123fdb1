"""
When to leave a connection for a new one, before the service ends it unasked. Pure.

The service ends a session after an hour without a warning, in mid-sentence if need be.
So a new one is dialled a minute before, as soon as nobody speaks. All times are in
monotonic seconds.
"""

from __future__ import annotations

USUAL = 3600.0
"""Seconds that a session lives if the service does not say."""

_MARGIN = 60.0  # seconds before the end
_QUIET = 2.0  # seconds without anything said
_SHORTEST_SHARE = 10  # of short lives, as tests have them, a tenth of it all


class Lifetime:
    """The life of one connection."""

    def __init__(self, now: float) -> None:
        self.began_at = now
        self._active_at = now
        self._leave_at = now + USUAL - _MARGIN
        self._quiet = _QUIET

    def end_at(self, end: float) -> None:
        """Note when the service will end the session; nonsense is ignored."""
        lifetime = end - self.began_at
        if lifetime <= 0:
            return
        self._leave_at = end - min(_MARGIN, lifetime / _SHORTEST_SHARE)
        self._quiet = min(_QUIET, lifetime / _SHORTEST_SHARE)

    def note_activity(self, now: float) -> None:
        """Note that somebody said something, or stopped."""
        self._active_at = now

    @property
    def leaves_at(self) -> float:
        """When to leave, if nobody is saying anything then."""
        return max(self._leave_at, self._active_at + self._quiet)
