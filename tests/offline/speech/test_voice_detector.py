from __future__ import annotations

import pytest

from realtalk_async.offline.effects import FRAME_BYTES, FRAME_MS
from realtalk_async.offline.speech.voice import synthesise
from realtalk_async.offline.speech.voice_detector import VoiceDetector


def test_frames_with_a_voice_are_detected():
    pcm = (
        bytes(FRAME_BYTES * 50) + synthesise("Good morning.") + bytes(FRAME_BYTES * 50)
    )
    frames = pcm[: len(pcm) // FRAME_BYTES * FRAME_BYTES]
    voiced = VoiceDetector().detect(frames, 0.5)
    assert len(voiced) == len(frames) // FRAME_BYTES
    assert not any(voiced[:50])
    assert not any(voiced[-40:])
    assert sum(voiced) * FRAME_MS > 500


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_a_faint_hum_is_not_a_voice(threshold):
    hum = bytes([10, 0, 246, 255]) * (FRAME_BYTES // 4) * 50
    assert not any(VoiceDetector().detect(hum, threshold)[10:])
