from __future__ import annotations

from realtalk_async.offline.speech.voice import synthesise


def test_the_same_text_gives_the_same_audio():
    pcm = synthesise("Seven plus five is twelve.")
    assert pcm == synthesise("Seven plus five is twelve.")
    assert len(pcm) % 2 == 0
    samples = memoryview(pcm).cast("h")
    assert 8000 < max(samples) <= 32767
    assert 1.0 < len(samples) / 24_000 < 4.0


def test_a_slower_voice_takes_longer_down_to_its_lowest_speed():
    lengths = [
        len(synthesise("Good morning.", speed)) for speed in (1.5, 1.0, 0.5, 0.25)
    ]
    assert lengths[0] < lengths[1] < lengths[2] == lengths[3]
