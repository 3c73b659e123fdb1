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
