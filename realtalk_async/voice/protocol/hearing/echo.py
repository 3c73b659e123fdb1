"""
Recognises the echo of the speaker in the microphone, from the envelopes of both.

The loudness of an echo follows that of the speaker after a constant delay. The voice of a
user who speaks at the same time has another rhythm, and its correlation with the speaker
is greatest at another delay each time.
"""

from __future__ import annotations

import math
from collections import deque
from operator import mul
from typing import TYPE_CHECKING, NamedTuple

from realtalk_async.voice.protocol.hearing.frames import FRAME_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from realtalk_async.voice.protocol.hearing.frames import Frame

_WINDOW = 150  # frames: 3 s
_EARLIEST, _LATEST = -10, 35  # frames that an echo may be late; latencies are estimates
_LEAST_PLAYED = 60  # audible frames of the speaker in a window
_SHORT_WINDOW = 60  # frames before an interruption
_SHORT_LEAST_PLAYED = 12
_AUDIBLE = 100.0  # root mean square: -50 dBFS
_FAINT = 30.0  # root mean square: -61 dBFS; a fainter echo starts no turn
_LEAST_CORRELATION = 0.8
_SAME_DELAY = 2  # frames
_WINDOWS = 5
_ALIKE = 3  # windows of the last `_WINDOWS` with the same delay
_MAX_DRIFT = 0.25  # seconds between the clock of the samples and that of the app


class Match(NamedTuple):
    """The best match of the two envelopes within one window."""

    correlation: float
    delay: int
    """Frames by which the microphone is later."""


class Envelope:
    """The loudness of one side, by the number of the frame since the epoch of the clock."""

    def __init__(self) -> None:
        self.loudness: dict[int, float] = {}
        self._next: float | None = None

    def add(self, frame: Frame, ends_at: float) -> int:
        """Add a frame that ends at about *ends_at*; return its number."""
        # Pieces arrive irregularly: the samples themselves are the better clock.
        if self._next is None or abs(self._next - ends_at) > _MAX_DRIFT:
            self._next = ends_at
        number = round(self._next / FRAME_SECONDS)
        self._next += FRAME_SECONDS
        self.loudness[number] = math.sqrt(frame.mean_square)
        if len(self.loudness) > 4 * _WINDOW:
            for old in sorted(self.loudness)[: 2 * _WINDOW]:
                del self.loudness[old]
        return number


class EchoDetector:
    """Recognises an echo after some seconds of the speaker's sound."""

    def __init__(self) -> None:
        self._speaker = Envelope()
        self._microphone = Envelope()
        self._last: int | None = None  # the last frame of the last window
        self._matches: deque[Match] = deque(maxlen=_WINDOWS)
        self._at_interruptions: deque[Match] = deque(maxlen=_WINDOWS)

    def played(self, frame: Frame, ends_at: float) -> None:
        """Add a frame of the speaker."""
        self._speaker.add(frame, ends_at)

    def recorded(self, frame: Frame, ends_at: float) -> bool:
        """Add a frame of the microphone; return whether it completes the proof of an echo."""
        number = self._microphone.add(frame, ends_at)
        if self._last is None:
            self._last = number
        if number - self._last < _WINDOW:
            return False
        self._last = number
        match = self._best_match(number)
        if match is None:
            return False
        self._matches.append(match)
        return self.is_heard

    @property
    def is_heard(self) -> bool:
        """Whether the newest windows show an echo."""
        return _have_same_delay(self._matches)

    def speech_started(self, now: float) -> bool:
        """
        Note that the service noticed speech.

        Returns:
            Whether the speech was an echo of the speaker, and often before as well.
        """
        last = math.floor(now / FRAME_SECONDS)
        match = self._best_match(last, window=_SHORT_WINDOW, least=_SHORT_LEAST_PLAYED)
        if match is None:
            return False
        self._at_interruptions.append(match)
        return _have_same_delay(self._at_interruptions)

    def _best_match(
        self, last: int, *, window: int = _WINDOW, least: int = _LEAST_PLAYED
    ) -> Match | None:
        """
        Return the best match of the window that ends with frame *last*.

        ``None`` if fewer than *least* of its frames have sound of the speaker.
        """
        first = last - window + 1
        get = self._speaker.loudness.get
        speaker = [get(n, 0.0) for n in range(first - _LATEST, last - _EARLIEST + 1)]
        audible = sum(one >= _AUDIBLE for one in speaker[_LATEST : _LATEST + window])
        if audible < least:
            return None
        hear = self._microphone.loudness.get
        microphone = [hear(number, 0.0) for number in range(first, last + 1)]
        if max(microphone) < _FAINT:
            return None
        return max(
            Match(correlation(microphone, speaker[start : start + window]), delay)
            for delay in range(_EARLIEST, _LATEST + 1)
            for start in (_LATEST - delay,)
        )


def _have_same_delay(matches: Iterable[Match]) -> bool:
    """Return whether enough of the matches are good, and have nearly the same delay."""
    delays = [one.delay for one in matches if one.correlation >= _LEAST_CORRELATION]
    return any(
        sum(abs(other - one) <= _SAME_DELAY for other in delays) >= _ALIKE
        for one in delays
    )


def correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Pearson's correlation; 0 if either is constant."""
    count = len(one)
    sum_one, sum_other = sum(one), sum(other)
    product = sum(map(mul, one, other)) - sum_one * sum_other / count
    squares = sum(map(mul, one, one)) - sum_one**2 / count
    squares *= sum(map(mul, other, other)) - sum_other**2 / count
    return product / math.sqrt(squares) if squares > 0 else 0.0
