"""
Voice activity detection with webrtcvad: one decision for each frame.
"""

from __future__ import annotations

from typing import Any

from realtalk_async.offline.effects import FRAME_BYTES
from realtalk_async.offline.speech.libraries import load_library

_QUIET = 100
"""Root mean square, of 32,768, below which no frame is a voice at threshold 1."""


class VoiceDetector:
    """
    Detects frames with a voice, fast enough for the event loop.

    It adapts to the noise of its input, so each session needs its own. Its libraries are
    imported by the constructor; `SpeechEngine.load` imports them off the event loop.
    """

    def __init__(self) -> None:
        self._numpy: Any = load_library("numpy")
        self._vad: Any = load_library("webrtcvad").Vad()

    def detect(self, pcm: bytes, threshold: float) -> list[bool]:
        """
        Return for each frame of *pcm* whether it holds a voice.

        Args:
            pcm: Whole frames of `FRAME_BYTES`; one second takes about 1 ms.
            threshold: From 0 (every sound counts as a voice) to 1 (only a clear voice).
        """
        self._vad.set_mode(min(round(3 * threshold), 3))
        samples = self._numpy.frombuffer(pcm, dtype="<i2")
        frames = samples.reshape(-1, FRAME_BYTES // 2).astype("f4")
        loud = self._numpy.sqrt((frames**2).mean(axis=1)) > _QUIET * threshold
        # The mean of three samples: 8 kHz is enough for voice detection.
        narrow = frames.reshape(len(frames), -1, 3).mean(axis=2).astype("<i2")
        return [
            bool(is_loud) and bool(self._vad.is_speech(frame.tobytes(), 8000))
            for is_loud, frame in zip(loud, narrow, strict=True)
        ]
