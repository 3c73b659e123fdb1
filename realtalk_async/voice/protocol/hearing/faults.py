"""Faults of a microphone that show in its samples: digital silence, and clipping."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from realtalk_async.voice.protocol.hearing.frames import Frame

SILENT_SECONDS = 7.0
"""How long a microphone may give digital silence; every microphone that works has noise."""

_SILENT_FRAMES = round(SILENT_SECONDS * 50)
_FLATTENED_SHARE = 0.04  # of the samples of a frame, at its highest or lowest value
_LOUD = 8_192  # -12 dBFS: quieter frames are not clipped
_LEAST_POWER = (_LOUD / 10) ** 2  # of frames that may be clipped
_CLIPPED_FRAMES = 10  # of 50 in a second
_CLIPPED_SECONDS = 3  # of the last 30


class DigitalSilence:
    """
    Recognises a microphone whose samples never change.

    A constant counts like zero: silence in A-law is not zero, and a converter may have an
    offset.
    """

    def __init__(self) -> None:
        self._frames = 0
        self._value = 0
        self.has_heard = False
        """Whether there was ever any sound."""

    @property
    def is_silent(self) -> bool:
        """Whether the last frame was digital silence."""
        return self._frames > 0

    def add(self, frame: Frame) -> bool:
        """Return whether the silence is as long as `SILENT_SECONDS` with this frame."""
        first = frame.samples[0]
        # The middle sample spares the look at all others, while there is sound.
        steady = abs(frame.samples[len(frame.samples) // 2] - first) <= 1
        steady = steady and frame.highest - frame.lowest <= 1
        if not steady:
            self.has_heard = True
        if not steady or abs(first - self._value) > 1:
            self._frames, self._value = 0, first
        self._frames += steady
        return self._frames == _SILENT_FRAMES


class Clipping:
    """
    Recognises clipped sound: waves whose tops are flat.

    In sound that is not clipped, few samples of a frame have its extreme value.
    """

    def __init__(self) -> None:
        self._in_second = 0
        self._frames = 0
        self._seconds: deque[bool] = deque(maxlen=30)

    def add(self, frame: Frame) -> bool:
        """Return whether the sound is clipped too often up to this frame."""
        self._in_second += _is_clipped(frame)
        self._frames += 1
        if self._frames < 50:
            return False
        self._seconds.append(self._in_second >= _CLIPPED_FRAMES)
        self._frames = self._in_second = 0
        return sum(self._seconds) >= _CLIPPED_SECONDS


def _is_clipped(frame: Frame) -> bool:
    if frame.mean_square < _LEAST_POWER:
        return False
    most = _FLATTENED_SHARE * len(frame.samples)
    return any(
        abs(value) >= _LOUD and frame.samples.count(value) > most
        for value in (frame.lowest, frame.highest)
    )
