"""How one response ended."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async.exceptions import ResponseNotCompleted

if TYPE_CHECKING:
    from realtalk_async.voice.events.usage import Usage


class Status(enum.StrEnum):
    """How a response ended. Every response ends in exactly one of these states."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    """The user interrupted the response, or the app cancelled it."""
    FAILED = "failed"
    """The service could not produce the response, and gives a reason."""
    INCOMPLETE = "incomplete"
    """The service cut the response off: token limit or content filter."""
    LOST = "lost"
    """The connection or the session ended before the response did."""
    STALLED = "stalled"
    """The service sent nothing more about the response for too long."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one response ended."""

    response_id: str
    """The id that the service gave; empty if the response never started."""
    status: Status
    text: str
    """The transcript of the audio, or the text."""
    reason: str = ""
    """Why the response did not complete; empty if it did."""
    asked_at: float = 0.0
    """When the response was requested, in monotonic seconds."""
    first_output_at: float | None = None
    """When its first text or audio arrived, in monotonic seconds."""
    ended_at: float = 0.0
    """When the response ended, in monotonic seconds."""
    calls: tuple[str, ...] = ()
    """Names of the tools that the response called; another response follows."""
    usage: Usage | None = None
    """The tokens of the response; ``None`` if the service did not tell."""

    @property
    def completed(self) -> bool:
        """Whether it completed."""
        return self.status is Status.COMPLETED

    @property
    def is_mere_call(self) -> bool:
        """Whether the response only called tools: the next response has the answer."""
        return self.completed and bool(self.calls)

    def raise_unless_completed(self) -> Outcome:
        """
        Return this outcome if the response completed::

            outcome = (await request).raise_unless_completed()

        Raises:
            ResponseNotCompleted: With the status and the reason, if it did not.
        """
        if not self.completed:
            raise ResponseNotCompleted(str(self.status), self.reason)
        return self

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        usage = None if self.usage is None else self.usage.to_dict()
        return {**dataclasses.asdict(self), "usage": usage}

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        text = f": {self.text}" if self.text else ""
        return f"{self.status}{why}{text}"
