from __future__ import annotations

import importlib.util
import sys

import anyio
import numpy
import pytest

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.offline import Peer
from realtalk_async.offline.speech import whisper
from realtalk_async.offline.speech.engine import SpeechEngine
from realtalk_async.offline.speech.voice import synthesise

needs_model = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in whisper.LIBRARIES),
    reason=f"the extra 'human' is not installed: {', '.join(whisper.LIBRARIES)}",
)


def test_tokens_are_decoded_to_text():
    tokens = ["<|0.00|>", "ĠGr", "Ã¼ÃŁ", "Ġyou", "<|endoftext|>"]
    assert whisper.decode_tokens(tokens) == "Grüß you"


@pytest.mark.parametrize(("hertz", "band"), [(200, 4), (1000, 26), (4000, 62)])
def test_a_tone_is_loudest_in_its_band(hertz, band):
    tone = numpy.sin(2 * numpy.pi * hertz * numpy.arange(16_000) / 16_000)
    seen = whisper.spectrum(tone.astype("f4"))
    assert seen.shape == (80, 3000)
    assert seen[:, :95].argmax(axis=0).tolist() == [band] * 95
    assert seen[:, 105:].max() == seen.min()


async def test_a_peer_without_the_extra_does_not_start(monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    monkeypatch.setattr(whisper, "_model", None)
    with pytest.raises(ImportError, match=r"realtalk-async\[offline,human\]"):
        async with Peer(recogniser="whisper"):
            pytest.fail("started")


def test_an_unknown_recogniser_is_refused():
    with pytest.raises(InvalidConfiguration, match="'sphinx' or 'whisper'"):
        SpeechEngine("parrot")


@needs_model
async def test_speech_is_recognised_and_silence_has_no_words():
    engine = SpeechEngine("whisper")
    with anyio.fail_after(240):
        await engine.load()
        recogniser = engine.new_recogniser()
        for _ in range(2):
            audio = await engine.synthesise("Tell me a story.")
            for at in range(0, len(audio), 1920):
                engine.feed(recogniser, audio[at : at + 1920])
            assert await engine.finish(recogniser) == "Tell me a story."
        engine.feed(recogniser, synthesise("Good morning."))
        engine.reset(recogniser)
        assert await engine.finish(recogniser) == ""
        assert await engine.transcribe(bytes(96_000)) == ""
        await engine.aclose()


@needs_model
def test_audio_longer_than_the_models_input_is_split():
    sentence = synthesise("Tell me a story.")
    pause = bytes(48_000 * 30 - len(sentence))
    assert whisper.transcribe(sentence + pause + sentence) == " ".join(
        ["Tell me a story."] * 2
    )
