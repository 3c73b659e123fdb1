"""The words that are played while the service cannot be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.voice.events import OutageAnnounced
from realtalk_async.voice.protocol.playback import OUTAGE_ITEM, Part

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.voice.events import VoiceEvent
    from realtalk_async.voice.protocol.playback import Playback


class Outage:
    """
    Plays a sound once in each outage; all times are in monotonic seconds.

    Args:
        playback: Plays it.
        publish: Called with each event for the app.
    """

    def __init__(
        self, playback: Playback, publish: Callable[[VoiceEvent], None]
    ) -> None:
        self._playback = playback
        self._publish = publish
        self.pcm = b""
        """The sound, signed 16-bit mono at 24 kHz; empty for none."""
        self.after = 0.0
        """Seconds without a connection after which it is played."""
        self._told_for: float | None = None

    def deadline(self, lost_at: float | None) -> float | None:
        """Return when to play it; ``None`` for never, or if it was played."""
        if not self.pcm or lost_at is None or lost_at == self._told_for:
            return None
        return lost_at + self.after

    def tick(self, now: float, lost_at: float | None) -> None:
        """Play the sound if it is due in the outage since *lost_at*."""
        deadline = self.deadline(lost_at)
        if lost_at is None or deadline is None or now < deadline:
            return
        self._told_for = lost_at
        self._playback.push(Part(OUTAGE_ITEM, 0), self.pcm, now)
        self._publish(OutageAnnounced(now - lost_at))
