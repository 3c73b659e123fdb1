"""
What is told of a session at its end. Words.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from realtalk_async.voice.events import Entry, Outcome
    from realtalk_async.voice.timeline.recorder import Mark


@dataclass(frozen=True, slots=True)
class Summary:
    """One session, from its start to its end; ``str()`` is a few lines for people."""

    started_at: datetime
    duration: float
    """Seconds."""
    ended_by: str
    """``stop_streaming``, ``SIGINT``, ``SIGTERM``, or what went wrong."""
    conversation: tuple[Entry, ...]
    outcomes: tuple[Outcome, ...]
    """How each response ended."""
    restarts: Mapping[str, int]
    """How often recorder, player and connection were revived; those that ran."""
    sent_audio: float
    """Seconds of the microphone that the service got."""
    dropped_audio: float
    """Seconds of the microphone that were too old when the connection came back."""
    played_audio: float
    """Seconds of responses that were handed to the player."""
    underruns: int
    """How often the player ran dry in the middle of a response."""
    log_path: Path
    timeline: tuple[Mark, ...] = field(default=(), repr=False)
    """What happened when; `voice.timeline.render` draws it."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON, but for the time line."""
        return {
            "started_at": self.started_at.isoformat(),
            "duration": round(self.duration, 3),
            "ended_by": self.ended_by,
            "conversation": [entry.to_dict() for entry in self.conversation],
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
            "restarts": dict(self.restarts),
            "sent_audio": round(self.sent_audio, 3),
            "dropped_audio": round(self.dropped_audio, 3),
            "played_audio": round(self.played_audio, 3),
            "underruns": self.underruns,
            "log_path": str(self.log_path),
        }

    def __str__(self) -> str:
        ends = Counter(str(outcome.status) for outcome in self.outcomes)
        responses = ", ".join(f"{n} {status}" for status, n in ends.items()) or "none"
        revived = ", ".join(f"{name} {n}" for name, n in self.restarts.items() if n)
        return "\n".join(
            [
                f"session of {self.duration:.1f} s, ended by {self.ended_by}",
                f"responses: {responses}",
                f"restarts: {revived or 'none'}",
                f"audio: {self.sent_audio:.1f} s heard, {self.played_audio:.1f} s spoken",
                f"log: {self.log_path}",
            ]
        )
