"""
Where speech begins and ends, from one decision per frame. Pure.

A voice must last before it counts, so that a click is no turn; and silence must last
as long as the client asked for, so that a pause is no end. A silence that nobody
expected is found here too.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field

from realtalk_async.offline.effects import FRAME_MS

ONSET_FRAMES = 5
"""The window in which a voice must show itself: 100 ms."""

ONSET_VOICED = 4
"""Frames of that window that must hold a voice."""

ONSET_MS = ONSET_FRAMES * FRAME_MS


class Edge(enum.Enum):
    """What a frame changed."""

    STARTED = "started"
    STOPPED = "stopped"


@dataclass(slots=True)
class Gate:
    """Says when a turn of the user begins and when it is over."""

    speaking: bool = False
    _recent: deque[bool] = field(default_factory=lambda: deque(maxlen=ONSET_FRAMES))
    _quiet_ms: int = 0

    def push(self, *, voiced: bool, silence_ms: int) -> Edge | None:
        """
        Take the decision about the next frame of `FRAME_MS`.

        Args:
            voiced: Whether the frame holds a voice.
            silence_ms: How long it must be quiet for the turn to be over.
        """
        self._recent.append(voiced)
        if self.speaking:
            self._quiet_ms = 0 if voiced else self._quiet_ms + FRAME_MS
            return self._stop() if self._quiet_ms >= silence_ms else None
        if sum(self._recent) < ONSET_VOICED:
            return None
        self.speaking = True
        self._quiet_ms = 0
        return Edge.STARTED

    def reset(self) -> None:
        """Forget all: the next frame is the first."""
        self._stop()

    def _stop(self) -> Edge:
        self.speaking = False
        self._recent.clear()
        self._quiet_ms = 0
        return Edge.STOPPED


@dataclass(slots=True)
class Patience:
    """
    Says when the user has been silent for too long after an answer.

    Its clock is the audio that came in: of a client that sends none, nothing is due.
    """

    _since: int | None = None

    def begin(self, at_ms: int) -> None:
        """Begin to wait: the answer has been heard at that time."""
        self._since = at_ms

    def end(self) -> None:
        """Wait no more: somebody speaks."""
        self._since = None

    def due(self, now_ms: int, timeout_ms: int) -> int | None:
        """Return since when it is silent, if that is too long, else ``None``."""
        if self._since is None or now_ms - self._since < timeout_ms:
            return None
        return self._since
