"""
Both sides of a conversation on one time line: the user left, the responses right. Pure.

Both come in pieces, at their own pace and with holes. A piece that comes right behind
the last one of its side is joined to it without a seam, for its time is known less well
than its length; what was never said is silence.
"""

from __future__ import annotations

import array
import sys

from realtalk_async.voice.protocol.pcm import SAMPLE_RATE

_SEAM = SAMPLE_RATE // 4  # samples: a hole that is shorter is no hole


class _Side:
    """One channel: samples from `at` on, the earlier ones have been taken."""

    def __init__(self) -> None:
        self.at = 0
        self.samples = array.array("h")
        self._half = b""

    @property
    def end(self) -> int:
        return self.at + len(self.samples)

    def add(self, pcm: bytes, place: int) -> None:
        """Add a piece that began at *place*; what overlaps comes later than it was."""
        whole = self._half + pcm
        size = len(whole) & ~1
        self._half = whole[size:]
        missing = place - self.end
        if missing > _SEAM:
            self.samples.extend(array.array("h", bytes(2 * missing)))
        self.samples.frombytes(whole[:size])

    def take(self, count: int) -> array.array[int]:
        """Return the next *count* samples, silence where there are none yet."""
        taken = self.samples[:count]
        del self.samples[:count]
        taken.extend(array.array("h", bytes(2 * (count - len(taken)))))
        self.at += count
        return taken


class Mix:
    """
    The sound of a session as stereo frames: 2 samples of 16 bits, little-endian.

    Args:
        now: The time of the first frame, in monotonic seconds.
        delay: Seconds after which nothing more can come of a moment.
    """

    def __init__(self, now: float, *, delay: float = 1.0) -> None:
        self._began_at = now
        self._delay = delay
        self._user = _Side()
        self._responses = _Side()

    def _place(self, moment: float) -> int:
        return max(0, round((moment - self._began_at) * SAMPLE_RATE))

    def hear(self, pcm: bytes, now: float) -> None:
        """Add what the recorder gave just now: its end is now."""
        self._user.add(pcm, self._place(now) - len(pcm) // 2)

    def play(self, pcm: bytes, at: float) -> None:
        """Add a piece of a response that is heard from *at* on."""
        self._responses.add(pcm, self._place(at))

    @property
    def held(self) -> int:
        """How many frames have not been taken yet."""
        return max(self._user.end, self._responses.end) - self._user.at

    def skip(self, now: float) -> int:
        """
        Go on from *now*, as `take` would, after all was taken by `finish`.

        Returns:
            How many frames of silence stand for what was left out.
        """
        count = max(0, self._place(now - self._delay) - self._user.at)
        self._user.at += count
        self._responses.at += count
        return count

    def take(self, now: float) -> bytes:
        """Return the frames up to *now*, but for the last ones, which may change."""
        return self._frames(self._place(now - self._delay) - self._user.at)

    def finish(self) -> bytes:
        """Return all frames that are left."""
        return self._frames(self.held)

    def _frames(self, count: int) -> bytes:
        if count <= 0:
            return b""
        frames = array.array("h", bytes(4 * count))
        frames[0::2] = self._user.take(count)
        frames[1::2] = self._responses.take(count)
        if sys.byteorder == "big":
            frames.byteswap()
        return frames.tobytes()
