from __future__ import annotations

import re
from difflib import SequenceMatcher

import anyio
import pytest

from realtalk_async.offline.effects import FRAME_BYTES, FRAME_MS
from realtalk_async.offline.speech import sphinx
from realtalk_async.offline.speech.engine import SpeechEngine
from realtalk_async.offline.speech.libraries import load_library
from realtalk_async.offline.speech.sphinx import SphinxRecogniser
from realtalk_async.offline.speech.voice import synthesise
from realtalk_async.offline.speech.voice_detector import VoiceDetector

LEAD = bytes(48 * 300)
TAIL = bytes(48 * 500)

SENTENCES = (
    "Good morning, how are you today?",
    "What time is it?",
    "Please tell me a story about the sea.",
    "The train to London leaves at half past nine.",
    "Turn off the lights in the kitchen.",
    "What is wrong with my computer?",
    "The answer to the second question was wrong.",
    "I will call you back in the afternoon.",
    "One two three four five.",
    "Seven people were waiting in the rain.",
)

SUMS = (
    "What is seven plus five?",
    "What is two plus four?",
    "What is forty two minus eight?",
    "How much is five times four?",
    "What is one hundred divided by eight?",
    "What is eight plus eight?",
)


def words(text: str) -> list[str]:
    """Return the bare words of a sentence."""
    return re.findall(r"[a-z']+", text.lower())


def recognise(recogniser: SphinxRecogniser, pcm: bytes, chunk: int = 1920) -> str:
    """Return the words of an utterance, fed in chunks; the default is 40 ms."""
    for at in range(0, len(pcm), chunk):
        recogniser.feed(pcm[at : at + chunk])
    return recogniser.finish()


def right(sentence: str, found: str) -> int:
    """Return the number of words of *sentence* in *found*."""
    matcher = SequenceMatcher(None, words(sentence), words(found), autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks())


def test_nine_words_in_ten_are_recognised_in_sentences_of_the_peers_voice():
    recogniser = SphinxRecogniser()
    found = [
        recognise(recogniser, LEAD + synthesise(text) + TAIL) for text in SENTENCES
    ]
    score = sum(map(right, SENTENCES, found))
    total = sum(len(words(text)) for text in SENTENCES)
    assert score / total >= 0.9, found


def test_every_word_of_a_sum_is_recognised():
    """Each recogniser is new, so that it has not adapted to the voice yet."""
    for text in SUMS:
        found = recognise(SphinxRecogniser(), LEAD + synthesise(text) + TAIL)
        assert words(found) == words(text)


def test_the_size_of_chunks_does_not_change_the_text():
    pcm = LEAD + synthesise("Good morning.") + TAIL
    found = {
        recognise(SphinxRecogniser(), pcm, chunk) for chunk in (50, 1234, len(pcm))
    }
    assert found == {"good morning"}


def test_silence_and_no_audio_have_no_words():
    assert SphinxRecogniser().finish() == ""
    assert recognise(SphinxRecogniser(), bytes(48_000)) == ""


def test_a_discarded_utterance_leaves_no_words():
    recogniser = SphinxRecogniser()
    recogniser.feed(LEAD + synthesise("What time is it?"))
    recogniser.reset()
    recogniser.reset()
    assert (
        recognise(recogniser, LEAD + synthesise("Good morning.") + TAIL)
        == "good morning"
    )


def test_idle_decoders_are_reused():
    recognise(SphinxRecogniser(), LEAD)
    idle = len(sphinx._idle_decoders)
    recognise(SphinxRecogniser(), LEAD)
    assert len(sphinx._idle_decoders) == idle


def test_interleaved_utterances_are_recognised_separately():
    first = LEAD + synthesise("Good morning.") + TAIL
    second = LEAD + synthesise("What time is it?") + TAIL
    one, two = SphinxRecogniser(), SphinxRecogniser()
    for at in range(0, max(len(first), len(second)), 960):
        one.feed(first[at : at + 960])
        two.feed(second[at : at + 960])
    assert (one.finish(), two.finish()) == ("good morning", "what time is it")


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


def test_the_error_of_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soxr", None)
    with pytest.raises(ImportError, match=r"pip install 'realtalk-async\[offline\]'"):
        load_library("soxr")


async def test_audio_fed_after_the_end_of_an_utterance_belongs_to_the_next():
    engine = SpeechEngine()
    with anyio.fail_after(30):
        await engine.load()
        pcm = LEAD + await engine.synthesise("Good morning.") + TAIL
        recogniser = engine.new_recogniser()
        engine.feed(recogniser, pcm)
        first = engine.finish(recogniser)
        engine.feed(
            recogniser, LEAD + await engine.synthesise("What time is it?") + TAIL
        )
        second = engine.finish(recogniser)
        assert await first == await engine.transcribe(pcm) == "good morning"
        assert await second == "what time is it"
        await engine.aclose()


def test_the_number_of_idle_decoders_is_limited(monkeypatch):
    """Each of them takes 40 MB."""
    monkeypatch.setattr(sphinx, "_idle_decoders", [])
    monkeypatch.setattr(sphinx, "_MOST_IDLE", 1)
    recognisers = [SphinxRecogniser(), SphinxRecogniser()]
    for recogniser in recognisers:
        recogniser.feed(bytes(4_800))
    assert not sphinx._idle_decoders
    for recogniser in recognisers:
        recogniser.reset()
    assert len(sphinx._idle_decoders) == 1
