"""Frames of 20 ms, measured once for all that listen, and their level in dBFS."""

from __future__ import annotations

import array
import math
import sys
from collections import deque
from operator import mul
from typing import TYPE_CHECKING, NamedTuple

from realtalk_async.voice.protocol.pcm import BYTES_PER_MS

if TYPE_CHECKING:
    from collections.abc import Iterator

FRAME_SECONDS = 0.02
FULL_SCALE = 32_768
LOWEST_DBFS = -96.0
"""The level of digital silence: that of the least bit, in round numbers."""

_FRAME_BYTES = 20 * BYTES_PER_MS
_METER_FRAMES = 50  # a second
_STRIDE = 3  # every third sample has the same power, for a third of the time


class Frame(NamedTuple):
    """20 ms of sound."""

    samples: list[int]
    mean_square: float

    @property
    def lowest(self) -> int:
        """The lowest sample."""
        return min(self.samples)

    @property
    def highest(self) -> int:
        """The highest sample."""
        return max(self.samples)

    @property
    def dbfs(self) -> float:
        """Its level; a full-scale square wave has 0."""
        return to_dbfs(self.mean_square)


def to_dbfs(mean_square: float) -> float:
    """Return a level in dB below full scale, at least `LOWEST_DBFS`."""
    if mean_square <= 0:
        return LOWEST_DBFS
    return max(LOWEST_DBFS, 10 * math.log10(mean_square / FULL_SCALE**2))


class Framer:
    """Cuts sound of any size into frames; the rest waits for the next piece."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def pending(self) -> float:
        """Seconds of sound that wait for the next piece."""
        return len(self._rest) / BYTES_PER_MS / 1000

    def push(self, pcm: bytes) -> Iterator[Frame]:
        """Yield the frames that *pcm* completes."""
        whole = self._rest + pcm
        count = len(whole) // _FRAME_BYTES
        self._rest = whole[count * _FRAME_BYTES :]
        for start in range(0, count * _FRAME_BYTES, _FRAME_BYTES):
            yield _measure(whole[start : start + _FRAME_BYTES])


def _measure(pcm: bytes) -> Frame:
    values = array.array("h", pcm)
    if sys.byteorder == "big":
        values.byteswap()
    samples = values.tolist()
    some = samples[::_STRIDE]
    return Frame(samples, sum(map(mul, some, some)) / len(some))


class LevelMeter:
    """The level of the last second of sound."""

    def __init__(self) -> None:
        self._powers: deque[float] = deque(maxlen=_METER_FRAMES)
        self._until = -math.inf

    def add(self, frame: Frame, at: float) -> None:
        """Add a frame that ends at *at*."""
        self._powers.append(frame.mean_square)
        self._until = at

    def dbfs(self, now: float) -> float | None:
        """Return the level; ``None`` if there was no sound in the last second."""
        if not self._powers or now - self._until > 1:
            return None
        return round(to_dbfs(sum(self._powers) / len(self._powers)), 1)
