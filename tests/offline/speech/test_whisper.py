"""Hearing human voices: what the model sees and says, and the model if it is here."""

from __future__ import annotations

import importlib.util
import sys

import anyio
import numpy
import pytest

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.offline import Peer
from realtalk_async.offline.speech import whisper
from realtalk_async.offline.speech.recogniser import Speech, synthesise

needs_model = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in whisper.EXTRA),
    reason=f"the extra 'human' is not installed: {', '.join(whisper.EXTRA)}",
)


def test_tokens_are_bytes_in_disguise():
    """A space, an umlaut, and the model's own marks."""
    tokens = ["<|0.00|>", "ĠGr", "Ã¼ÃŁ", "Ġyou", "<|endoftext|>"]
    assert whisper.spell_out(tokens) == "Grüß you"


@pytest.mark.parametrize(("hertz", "band"), [(200, 4), (1000, 26), (4000, 62)])
def test_a_tone_lights_its_band(hertz, band):
    """Eighty bands from 0 to 8 kHz, even in pitch above 1 kHz; 100 frames a second."""
    tone = numpy.sin(2 * numpy.pi * hertz * numpy.arange(16_000) / 16_000)
    seen = whisper.spectrum(tone.astype("f4"))
    assert seen.shape == (80, 3000)
    assert seen[:, :95].argmax(axis=0).tolist() == [band] * 95
    assert seen[:, 105:].max() == seen.min()


async def test_without_the_extra_the_peer_names_it(monkeypatch):
    """And leaves nothing: it does not start."""
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    monkeypatch.setattr(whisper, "_model", None)
    with pytest.raises(ImportError, match=r"realtalk-async\[offline,human\]"):
        async with Peer(recogniser="whisper"):
            pytest.fail("started")


def test_a_recogniser_that_is_none_is_refused():
    """With those that are."""
    with pytest.raises(InvalidConfiguration, match="'sphinx' or 'whisper'"):
        Speech("parrot")


@needs_model
async def test_what_is_said_is_understood():
    """In pieces as they come; silence is no words, and what is forgotten neither."""
    speech = Speech("whisper")
    with anyio.fail_after(120):
        await speech.load()
        ear = speech.ear()
        for _ in range(2):
            sound = await speech.say("Tell me a story.")
            for at in range(0, len(sound), 1920):
                speech.listen(ear, sound[at : at + 1920])
            assert await speech.recognise(ear) == "Tell me a story."
        speech.listen(ear, synthesise("Good morning."))
        speech.forget(ear)
        assert await speech.recognise(ear) == ""
        assert await speech.transcribe(bytes(96_000)) == ""
        await speech.aclose()


@needs_model
def test_what_is_longer_than_the_models_look_is_heard_in_pieces():
    """Thirty seconds each."""
    sentence = synthesise("Tell me a story.")
    pause = bytes(48_000 * 30 - len(sentence))
    assert whisper.transcribe(sentence + pause + sentence) == " ".join(
        ["Tell me a story."] * 2
    )
