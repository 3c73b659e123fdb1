"""
The limit of restarts of all processes together within a window (OTP's intensity).

The restart policy of a single process cannot see that many processes fail, each of them
rarely.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Intensity:
    """The restarts within the window, and their limit."""

    most: int | None
    """The number of restarts allowed within the window; None: any number."""
    window: float
    """Seconds."""
    restarts: deque[tuple[float, str]] = field(default_factory=deque[tuple[float, str]])
    """The time of each, in monotonic seconds, and the process."""

    def add(self, name: str, now: float) -> str:
        """
        Count one more restart.

        Args:
            name: The process.
            now: Monotonic seconds.

        Returns:
            The reason if the limit is exceeded, otherwise "".
        """
        if self.most is None:
            return ""
        self.restarts.append((now, name))
        count = self.within(now)
        return self._too_many(now) if count > self.most else ""

    def within(self, now: float) -> int:
        """Return the number of restarts within the window."""
        while self.restarts and self.restarts[0][0] <= now - self.window:
            self.restarts.popleft()
        return len(self.restarts)

    def describe(self, now: float) -> str:
        """Return the number of restarts and its limit, in words; "" without a limit."""
        if self.most is None:
            return ""
        return (
            f"all processes together had {self.within(now)} of {self.most} restarts "
            f"allowed in {self.window:g} s"
        )

    def _too_many(self, now: float) -> str:
        each = Counter(name for _, name in self.restarts)
        listed = ", ".join(f"{name!r} {n}" for name, n in each.most_common())
        return (
            f"{len(self.restarts)} restarts in {now - self.restarts[0][0]:.1f} s "
            f"({listed}), more than max_restarts={self.most} in {self.window:g} s; "
            f"fix the programs or raise max_restarts"
        )
