"""
Playback of responses: how much may be written to the player, and how much was heard.

Every method that needs the time is given ``now``, in monotonic seconds.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from realtalk_async.voice.protocol.pcm import (
    BYTES_PER_MS,
    BYTES_PER_SECOND,
    whole_samples,
)


class Part(NamedTuple):
    """A place in the conversation that audio belongs to."""

    item_id: str
    content_index: int


class Cut(NamedTuple):
    """What was cut off of one part by clearing the queue."""

    part: Part
    heard_ms: int
    """How much of it was heard, to the millisecond below."""
    received_ms: int
    """How much of it had come."""


@dataclass(slots=True)
class _Piece:
    part: Part
    pcm: bytes


@dataclass(slots=True)
class _Tally:
    """One part's bytes: come, and handed to the player."""

    received: int = 0
    written: int = 0


class Playback:
    """
    What is still to be played, and how fast it may be written.

    Audio comes faster than it plays (12 s in 0.3 s), and a player would take all of
    it. So at most *ahead_ms* are written beyond what the clock has played, and the
    rest waits here, where the user's voice can clear it. What was written is as good
    as heard: nobody takes it back from the player.

    After an underrun the lead grows to *ahead_after_underrun_ms*, for this machine
    cannot keep the smaller one.

    Args:
        ahead_ms: How far to write ahead of the clock.
        ahead_after_underrun_ms: How far, once the player ran dry in mid-response.
        latency_ms: What the player needs from its pipe to the ear; it is taken off
            what was written to tell what was heard.
        prebuffer_ms: How much of a response must have come before it is begun, where it
            comes slowly; no response waits longer than that for it.
    """

    def __init__(
        self,
        *,
        ahead_ms: float = 60,
        ahead_after_underrun_ms: float = 200,
        latency_ms: float = 0,
        prebuffer_ms: float = 0,
    ) -> None:
        self._ahead = ahead_ms * BYTES_PER_MS
        self._ahead_after_underrun = ahead_after_underrun_ms * BYTES_PER_MS
        self.latency_ms = latency_ms
        """What the player needs from its pipe to the ear; it may change."""
        self._prebuffer = prebuffer_ms * BYTES_PER_MS
        self._waits_until = -math.inf  # when what is prebuffered is played anyway
        self._queue: deque[_Piece] = deque()
        self._tallies: dict[Part, _Tally] = {}
        self._playing: Part | None = None
        self._empty_at = -math.inf  # when the player will have played what it has
        self._odd: dict[Part, bytes] = {}
        self._dried = False  # the queue was emptied while its part was unfinished
        self.queued = 0
        """Bytes that wait to be written."""
        self.written = 0
        """Bytes handed to the player in all."""
        self.underruns = 0
        """How often the player ran dry in the middle of a response."""

    def push(self, part: Part, pcm: bytes, now: float) -> None:
        """Queue what the service sent, in any size; half samples are carried over."""
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
        self._tallies.setdefault(part, _Tally()).received += size
        self._queue.append(_Piece(part, whole[:size]))
        self.queued += size

    @property
    def playing(self) -> Part | None:
        """What was written last."""
        return self._playing

    def level_ms(self, now: float) -> float:
        """Return how much the player still has to play, in milliseconds."""
        return max(0.0, (self._empty_at - now) * 1000)

    def due(self, now: float) -> bytes:
        """
        Return what may be written now, whole samples; empty if it is too early.

        It is too early until half the lead has been played: else each microsecond
        would be worth a write of its own.
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
        self._tallies[piece.part].written += len(taken)
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
        Return the seconds until `due` is worth asking again.

        ``None`` means not before something is pushed.
        """
        if not self._queue:
            return None
        # A little later than needed: a timer that fires early would only ask again.
        if self._is_prebuffering(now):
            return self._waits_until - now + 0.001
        return max(0.0, (self.level_ms(now) - self._refill_at_ms) / 1000) + 0.001

    def remaining(self, now: float) -> float:
        """Return the seconds until all that came so far has been heard."""
        level = max(0.0, self._empty_at + self.latency_ms / 1000 - now)
        if self._is_prebuffering(now):
            level = max(level, self._waits_until - now)
        return level + self.queued / BYTES_PER_SECOND

    def received_ms(self, part: Part) -> int:
        """Return how much of *part* has come, in whole milliseconds."""
        tally = self._tallies.get(part)
        return tally.received // BYTES_PER_MS if tally else 0

    def heard_ms(self, part: Part, now: float) -> int:
        """Return how much of *part* was heard, in whole milliseconds."""
        tally = self._tallies.get(part)
        if tally is None:
            return 0
        heard = tally.written
        if part == self._playing:
            heard -= round(self._unheard(now) * BYTES_PER_SECOND)
        return max(0, heard) // BYTES_PER_MS

    def _unheard(self, now: float) -> float:
        """
        Return the seconds that were written and cannot be counted as heard.

        What lies in the pipe sounds whatever happens, so only the player's own
        latency is taken off, and that only while it has not yet passed.
        """
        latency = self.latency_ms / 1000
        return min(latency, max(0.0, self._empty_at + latency - now))

    def clear(self, now: float) -> list[Cut]:
        """
        Drop all that waits.

        Returns:
            What was cut off, in the order of its coming; empty if all that came has
            been written, for then nothing was kept from the user.
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
