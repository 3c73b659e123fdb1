"""Lines that are dropped while the log cannot be written."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class DropCounts:
    """The lines that were dropped and not yet reported in the log."""

    reason: str = ""
    by_level: dict[str, int] = field(default_factory=dict[str, int])

    def count(self, level: str) -> None:
        """Count one line of *level*."""
        self.by_level[level] = self.by_level.get(level, 0) + 1

    @property
    def lines(self) -> int:
        """The number of dropped lines."""
        return sum(self.by_level.values())


def empty_excess(lines: list[bytes], limit: int, before_level: bytes) -> list[bytes]:
    """Empty the least important of *lines* beyond *limit* bytes; return their levels."""
    excess = sum(map(len, lines)) - limit
    dropped: list[bytes] = []
    for level in (b"INFO", b"WARNING", b"ERROR"):
        for index in reversed(range(len(lines))):
            if excess <= 0:
                return dropped
            # The length of a time varies: some offsets from UTC have seconds.
            at = lines[index].find(before_level) + len(before_level)
            if lines[index].startswith(level, at):
                excess -= len(lines[index])
                lines[index] = b""
                dropped.append(level)
    return dropped
