"""
How many restarts all processes together may need in a while (OTP's intensity). Pure.

Each process has a policy of its own; this is for what no policy of one can see: that
everything fails, a little here and a little there.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Intensity:
    """The restarts of the last while, and how many are allowed."""

    most: int | None
    """So many restarts are allowed within the window; None: any number."""
    window: float
    """Seconds."""
    restarts: deque[tuple[float, str]] = field(default_factory=deque[tuple[float, str]])
    """When, in monotonic seconds, and of which process."""

    def add(self, name: str, now: float) -> str:
        """
        Count one more restart.

        Args:
            name: Of which process.
            now: Monotonic seconds.

        Returns:
            Why that is too many, "" if it is not.
        """
        if self.most is None:
            return ""
        self.restarts.append((now, name))
        count = self.within(now)
        return self._too_many(now) if count > self.most else ""

    def within(self, now: float) -> int:
        """Return how many restarts there were within the window."""
        while self.restarts and self.restarts[0][0] <= now - self.window:
            self.restarts.popleft()
        return len(self.restarts)

    def _too_many(self, now: float) -> str:
        each = Counter(name for _, name in self.restarts)
        listed = ", ".join(f"{name!r} {n}" for name, n in each.most_common())
        return (
            f"{len(self.restarts)} restarts in {now - self.restarts[0][0]:.1f} s "
            f"({listed}), more than max_restarts={self.most} in {self.window:g} s; "
            f"fix the programs or raise max_restarts"
        )
