"""
Whether the service is still there: silence, then a question, then no answer. Pure.

A connection may live, pings and all, while the service behind it says nothing any more.
So after a long silence it is asked for something that it has answered before; if it
does not, the connection is as good as lost. All times are in monotonic seconds.
"""

from __future__ import annotations


class Presence:
    """
    The service on one connection.

    Args:
        now: When the connection came up.
        silence: Seconds of silence after which to ask.
        patience: Seconds that it has to answer.
    """

    def __init__(self, now: float, *, silence: float, patience: float) -> None:
        self._silence = silence
        self._patience = patience
        self._heard_at = now
        self._asked_at: float | None = None
        self.has_spoken = False
        """Whether anything came at all."""
        self.answers = False
        """Whether it confirmed the set-up; some servers never do: do not ask those."""

    def heard(self, now: float) -> None:
        """Note that something came, whatever it is."""
        self.has_spoken = True
        self._heard_at = now
        self._asked_at = None

    def asked(self, now: float) -> None:
        """Note that it was asked."""
        self._asked_at = now

    def silent_for(self, now: float) -> float:
        """Return the seconds since something came."""
        return now - self._heard_at

    @property
    def ask_at(self) -> float | None:
        """When to ask; ``None`` if it was asked, or is not to be."""
        if not self.answers or self._asked_at is not None:
            return None
        return self._heard_at + self._silence

    @property
    def gone_at(self) -> float | None:
        """When it counts as gone; ``None`` if it was not asked."""
        return None if self._asked_at is None else self._asked_at + self._patience


# --- Expiry -----------------------------------------------------------------------

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
