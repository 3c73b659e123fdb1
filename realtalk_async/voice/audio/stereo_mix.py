"""
Mixes both sides of a conversation into stereo: the user left, the responses right.

Both sides arrive in pieces with gaps. A piece that nearly follows the previous piece of its
side is appended to it directly, because its start is known less precisely than its length.
Longer gaps become silence.
"""

from __future__ import annotations

import array
import sys

from realtalk_async.voice.protocol.pcm import SAMPLE_RATE

_MAX_JITTER = SAMPLE_RATE // 4  # samples; a shorter gap is closed


class _Channel:
    """The samples of one channel that have not been taken yet; the first is at `start`."""

    def __init__(self) -> None:
        self.start = 0
        self.samples = array.array("h")
        self._half = b""

    @property
    def end(self) -> int:
        return self.start + len(self.samples)

    def add(self, pcm: bytes, position: int) -> None:
        """Add a piece that began at sample *position*; an overlap delays the piece."""
        whole = self._half + pcm
        size = len(whole) & ~1
        self._half = whole[size:]
        missing = position - self.end
        if missing > _MAX_JITTER:
            self.samples.extend(array.array("h", bytes(2 * missing)))
        self.samples.frombytes(whole[:size])

    def take(self, count: int) -> array.array[int]:
        """Return the next *count* samples, padded with silence."""
        taken = self.samples[:count]
        del self.samples[:count]
        taken.extend(array.array("h", bytes(2 * (count - len(taken)))))
        self.start += count
        return taken


class StereoMix:
    """
    The audio of a session as stereo frames: 2 samples of 16 bits, little-endian.

    Args:
        now: The time of the first frame, in monotonic seconds.
        delay: Seconds that audio may arrive late.
    """

    def __init__(self, now: float, *, delay: float = 1.0) -> None:
        self._began_at = now
        self._delay = delay
        self._user = _Channel()
        self._responses = _Channel()

    def _position(self, moment: float) -> int:
        return max(0, round((moment - self._began_at) * SAMPLE_RATE))

    def add_user(self, pcm: bytes, now: float) -> None:
        """Add audio of the recorder that ends at *now*."""
        self._user.add(pcm, self._position(now) - len(pcm) // 2)

    def add_response(self, pcm: bytes, at: float) -> None:
        """Add audio of a response that is audible from *at* on."""
        self._responses.add(pcm, self._position(at))

    @property
    def pending(self) -> int:
        """Frames that have not been taken yet."""
        return max(self._user.end, self._responses.end) - self._user.start

    def skip(self, now: float) -> int:
        """
        Continue at *now* after `finish`, as if `take` had been called until then.

        Returns:
            The number of frames that were skipped.
        """
        count = max(0, self._position(now - self._delay) - self._user.start)
        self._user.start += count
        self._responses.start += count
        return count

    def take(self, now: float) -> bytes:
        """Return the frames up to *now* less the delay: later frames may still change."""
        return self._frames(self._position(now - self._delay) - self._user.start)

    def finish(self) -> bytes:
        """Return all remaining frames."""
        return self._frames(self.pending)

    def _frames(self, count: int) -> bytes:
        if count <= 0:
            return b""
        frames = array.array("h", bytes(4 * count))
        frames[0::2] = self._user.take(count)
        frames[1::2] = self._responses.take(count)
        if sys.byteorder == "big":
            frames.byteswap()
        return frames.tobytes()
