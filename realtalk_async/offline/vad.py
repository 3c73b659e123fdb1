"""
Turn detection from one voice decision per frame.

A voice must last before a turn starts, so that a click is no turn; silence must last as
long as the client asked for, so that a pause does not end a turn.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field

from realtalk_async.offline.effects import FRAME_MS

ONSET_FRAMES = 5
"""The number of newest frames that decide whether a turn starts: 100 ms."""

ONSET_VOICED = 4
"""The number of these frames that must hold a voice."""

ONSET_MS = ONSET_FRAMES * FRAME_MS


class TurnChange(enum.Enum):
    """The change by a frame."""

    STARTED = "started"
    STOPPED = "stopped"


@dataclass(slots=True)
class TurnDetector:
    """Detects when a turn of the user starts and when it stops."""

    speaking: bool = False
    _recent: deque[bool] = field(default_factory=lambda: deque(maxlen=ONSET_FRAMES))
    _quiet_ms: int = 0

    def push(self, *, voiced: bool, silence_ms: int) -> TurnChange | None:
        """
        Take the voice decision of the next frame of `FRAME_MS`.

        Args:
            voiced: Whether the frame holds a voice.
            silence_ms: The silence that ends a turn.
        """
        self._recent.append(voiced)
        if self.speaking:
            self._quiet_ms = 0 if voiced else self._quiet_ms + FRAME_MS
            return self._stop() if self._quiet_ms >= silence_ms else None
        if sum(self._recent) < ONSET_VOICED:
            return None
        self.speaking = True
        self._quiet_ms = 0
        return TurnChange.STARTED

    def reset(self) -> None:
        """Return to the initial state."""
        self._stop()

    def _stop(self) -> TurnChange:
        self.speaking = False
        self._recent.clear()
        self._quiet_ms = 0
        return TurnChange.STOPPED


@dataclass(slots=True)
class IdleTimer:
    """
    Measures the user's silence after a response (``idle_timeout_ms``).

    Its clock is the received audio: it stands still while a client sends no audio.
    """

    _since: int | None = None

    def start(self, at_ms: int) -> None:
        """Measure from *at_ms*, the end of the response's playback."""
        self._since = at_ms

    def stop(self) -> None:
        """Stop measuring: a turn or a response has started."""
        self._since = None

    def expired_since(self, now_ms: int, timeout_ms: int) -> int | None:
        """Return when the silence began if it has lasted *timeout_ms*, else ``None``."""
        if self._since is None or now_ms - self._since < timeout_ms:
            return None
        return self._since
