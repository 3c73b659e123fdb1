"""
The playback buffer: how much may be written to the player, and how much was heard.

Methods that depend on the time take ``now``, in monotonic seconds.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from realtalk_async.voice.protocol.history.tables import KEPT_IN_TABLES
from realtalk_async.voice.protocol.pcm import (
    BYTES_PER_MS,
    BYTES_PER_SECOND,
    whole_samples,
)

OUTAGE_ITEM = "realtalk_outage"
"""The item of the outage sound, which the service does not know."""


class Part(NamedTuple):
    """The part of an item that audio belongs to."""

    item_id: str
    content_index: int


class Cut(NamedTuple):
    """A part whose audio was not played to its end."""

    part: Part
    heard_ms: int
    """How much of it was heard, rounded down."""
    received_ms: int
    """How much of it had been received."""


@dataclass(slots=True)
class _Piece:
    part: Part
    pcm: bytes


@dataclass(slots=True)
class _PartSizes:
    """Number of bytes of one part."""

    received: int = 0
    written: int = 0


class Playback:
    """
    Audio that is still to be played, and how fast it may be written.

    Audio arrives faster than it plays (12 s in 0.3 s), and a player would take all of
    it. So at most *ahead_ms* are written beyond the audio that was played, and the rest
    waits here, where an interruption drops it. Written audio counts as heard, because
    the player cannot give it back.

    After an underrun *ahead_after_underrun_ms* are written ahead: this machine is too
    slow for less.

    Args:
        has_speaker: Whether audio is played; otherwise it is dropped.
        ahead_ms: How far to write ahead of the clock.
        ahead_after_underrun_ms: How far, once the player ran dry in mid-response.
        latency_ms: Milliseconds from the player's pipe to the ear; the audio of this
            time was written and not heard yet.
        prebuffer_ms: How much of a response must have arrived before it is played, if
            it arrives slowly; no response waits longer than that.
    """

    def __init__(
        self,
        *,
        has_speaker: bool = True,
        ahead_ms: float = 60,
        ahead_after_underrun_ms: float = 200,
        latency_ms: float = 0,
        prebuffer_ms: float = 0,
    ) -> None:
        self._has_speaker = has_speaker
        self._ahead = ahead_ms * BYTES_PER_MS
        self._ahead_after_underrun = ahead_after_underrun_ms * BYTES_PER_MS
        self.latency_ms = latency_ms
        """Milliseconds from the player's pipe to the ear; it may change."""
        self._prebuffer = prebuffer_ms * BYTES_PER_MS
        self._waits_until = -math.inf  # then prebuffered audio is played anyway
        self._queue: deque[_Piece] = deque()
        self._sizes: dict[Part, _PartSizes] = {}
        self._playing: Part | None = None
        self._empty_at = -math.inf  # when the player will have played all written audio
        self._odd: dict[Part, bytes] = {}
        self._dried = False  # the queue was emptied while its part was unfinished
        self.queued = 0
        """Number of bytes that wait to be written."""
        self.written = 0
        """Number of bytes that were written to the player."""
        self.underruns = 0
        """Number of times that the player ran dry in the middle of a response."""

    def push(self, part: Part, pcm: bytes, now: float) -> None:
        """Queue audio of any size; half samples are carried over."""
        if not self._has_speaker:
            return
        whole = self._odd.pop(part, b"") + pcm
        size = whole_samples(len(whole))
        if size < len(whole):
            self._odd[part] = whole[size:]
        if not size:
            return
        if self._dried and part == self._playing and now > self._empty_at:
            self.underruns += 1
            self._ahead = max(self._ahead, self._ahead_after_underrun)
        self._dried = False
        if not self._queue and now >= self._empty_at:
            self._waits_until = now + self._prebuffer / BYTES_PER_SECOND
        if part not in self._sizes:
            self._forget_oldest()
            self._sizes[part] = _PartSizes()
        self._sizes[part].received += size
        self._queue.append(_Piece(part, whole[:size]))
        self.queued += size

    def _forget_oldest(self) -> None:
        """Forget parts that were played long ago: no event about them will come."""
        if len(self._sizes) < KEPT_IN_TABLES:
            return
        queued = {piece.part for piece in self._queue} | {self._playing}
        for part in [each for each in self._sizes if each not in queued]:
            if len(self._sizes) < KEPT_IN_TABLES:
                return
            del self._sizes[part]
            self._odd.pop(part, None)

    @property
    def playing(self) -> Part | None:
        """The part that was written last."""
        return self._playing

    def level_ms(self, now: float) -> float:
        """Return how much the player still has to play, in milliseconds."""
        return max(0.0, (self._empty_at - now) * 1000)

    def due(self, now: float) -> bytes:
        """
        Return the audio that may be written now, whole samples; empty if too early.

        It is too early until half of the audio ahead was played, which keeps the number
        of writes small.
        """
        if self.level_ms(now) > self._refill_at_ms or self._is_prebuffering(now):
            return b""
        self._waits_until = -math.inf
        room = whole_samples(self._ahead - self.level_ms(now) * BYTES_PER_MS)
        chunk = bytearray()
        while self._queue and len(chunk) < room:
            chunk += self._take(room - len(chunk))
        if chunk:
            self._written(len(chunk), now)
        return bytes(chunk)

    def _is_prebuffering(self, now: float) -> bool:
        return now < self._waits_until and self.queued < self._prebuffer

    def _take(self, room: int) -> bytes:
        piece = self._queue[0]
        taken = piece.pcm[:room]
        piece.pcm = piece.pcm[room:]
        if not piece.pcm:
            self._queue.popleft()
        self._playing = piece.part
        self._sizes[piece.part].written += len(taken)
        return taken

    def _written(self, size: int, now: float) -> None:
        self.queued -= size
        self.written += size
        self._empty_at = max(self._empty_at, now) + size / BYTES_PER_SECOND
        self._dried = not self._queue

    @property
    def _refill_at_ms(self) -> float:
        return self._ahead / BYTES_PER_MS / 2

    def wait(self, now: float) -> float | None:
        """
        Return the seconds until `due` may have audio.

        ``None`` means not before audio is pushed.
        """
        if not self._queue:
            return None
        # A little later than needed: an early timer would only be set again.
        if self._is_prebuffering(now):
            return self._waits_until - now + 0.001
        return max(0.0, (self.level_ms(now) - self._refill_at_ms) / 1000) + 0.001

    def remaining(self, now: float) -> float:
        """Return the seconds until all audio so far has been heard."""
        level = max(0.0, self._empty_at + self.latency_ms / 1000 - now)
        if self._is_prebuffering(now):
            level = max(level, self._waits_until - now)
        return level + self.queued / BYTES_PER_SECOND

    def received_ms(self, part: Part) -> int:
        """Return how much of *part* was received, in whole milliseconds."""
        sizes = self._sizes.get(part)
        return sizes.received // BYTES_PER_MS if sizes else 0

    def heard_ms(self, part: Part, now: float) -> int:
        """Return how much of *part* was heard, in whole milliseconds."""
        sizes = self._sizes.get(part)
        if sizes is None:
            return 0
        heard = sizes.written
        if part == self._playing:
            heard -= round(self._unheard(now) * BYTES_PER_SECOND)
        return max(0, heard) // BYTES_PER_MS

    def _unheard(self, now: float) -> float:
        """
        Return the seconds of written audio that do not count as heard.

        Audio in the pipe is played in any case, so only the player's own latency is
        subtracted, as long as it has not passed.
        """
        latency = self.latency_ms / 1000
        return min(latency, max(0.0, self._empty_at + latency - now))

    def clear(self, now: float) -> list[Cut]:
        """
        Drop the queued audio.

        Returns:
            The parts that were cut, in the order of their arrival; none if all audio so
            far was written.
        """
        parts = dict.fromkeys(piece.part for piece in self._queue)
        cuts = [
            Cut(part, self.heard_ms(part, now), self.received_ms(part))
            for part in parts
        ]
        self._queue.clear()
        self._odd.clear()
        self.queued = 0
        self._dried = False
        return cuts

    def speaker_lost(self, now: float) -> None:
        """Drop the queued and all later audio."""
        self._has_speaker = False
        self.clear(now)
