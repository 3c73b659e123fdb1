"""
Speech synthesis with hibari, whose model ships inside its wheel.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from realtalk_async.offline.speech.libraries import load_library

_GAIN = 1.6
"""Raises the peaks of the voice from a third to half of full scale."""

_SLOWEST = 0.5
"""The lowest speed that the voice supports."""

_lock = threading.Lock()
_voice: Any = None


def load_voice() -> Any:  # noqa: ANN401 - the library has no types
    """Return the voice of this process; the first call takes 0.5 s."""
    global _voice
    with _lock:
        if _voice is None:
            # The voice's runtime would write usage data to a file and upload it; the
            # offline peer must not.
            os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
            _voice = load_library("hibari").Hibari(threads=1)
            _voice("Ready.")  # loads the pronunciations too
        return _voice


def synthesise(text: str, speed: float = 1.0) -> bytes:
    """
    Speak *text*: 24 kHz mono s16le. Blocks, about 10 ms for a second of speech.

    The same text gives the same bytes each time. The first call of the process loads
    the voice, which takes half a second.
    """
    voice = load_voice()
    wave = voice(text, speed=max(speed, _SLOWEST), seed=0)
    numpy = load_library("numpy")
    pcm: bytes = (numpy.clip(wave * _GAIN, -1, 1) * 32767).astype("<i2").tobytes()
    return pcm
