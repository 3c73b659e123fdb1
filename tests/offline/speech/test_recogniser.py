"""Hearing and speaking with the models that ship inside wheels."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

import anyio
import pytest

from realtalk_async.offline.effects import FRAME_BYTES, FRAME_MS
from realtalk_async.offline.speech import recogniser
from realtalk_async.offline.speech.recogniser import (
    Activity,
    Speech,
    SphinxEar,
    synthesise,
)

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


def hear(ear: SphinxEar, pcm: bytes, chunk: int = 1920) -> str:
    """Have *ear* hear an utterance in chunks, 40 ms each unless said."""
    for at in range(0, len(pcm), chunk):
        ear.feed(pcm[at : at + chunk])
    return ear.finish()


def right(sentence: str, heard: str) -> int:
    """Return how many words of *sentence* were heard."""
    matcher = SequenceMatcher(None, words(sentence), words(heard), autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks())


def test_ten_sentences_are_understood():
    """Nine words in ten, on the peer's own voice."""
    ear = SphinxEar()
    heard = [hear(ear, LEAD + synthesise(text) + TAIL) for text in SENTENCES]
    score = sum(map(right, SENTENCES, heard))
    total = sum(len(words(text)) for text in SENTENCES)
    assert score / total >= 0.9, heard


def test_sums_are_understood_to_the_word():
    """Each a session's first, so nothing was learnt before."""
    for text in SUMS:
        heard = hear(SphinxEar(), LEAD + synthesise(text) + TAIL)
        assert words(heard) == words(text)


def test_chunks_of_any_size_are_heard_alike():
    """Half samples excepted, which never reach it."""
    pcm = LEAD + synthesise("Good morning.") + TAIL
    heard = {hear(SphinxEar(), pcm, chunk) for chunk in (50, 1234, len(pcm))}
    assert heard == {"good morning"}


def test_silence_has_no_words():
    """And no audio at all has none either."""
    assert SphinxEar().finish() == ""
    assert hear(SphinxEar(), bytes(48_000)) == ""


def test_a_forgotten_utterance_leaves_nothing():
    """The next one stands alone."""
    ear = SphinxEar()
    ear.feed(LEAD + synthesise("What time is it?"))
    ear.forget()
    ear.forget()
    assert hear(ear, LEAD + synthesise("Good morning.") + TAIL) == "good morning"


def test_decoders_are_used_again():
    """They are dear: idle ones are borrowed before new ones are made."""
    hear(SphinxEar(), LEAD)
    idle = len(recogniser._idle_decoders)
    hear(SphinxEar(), LEAD)
    assert len(recogniser._idle_decoders) == idle


def test_two_ears_hear_at_once_without_mixing():
    """Their audio is interleaved, their words are not."""
    first = LEAD + synthesise("Good morning.") + TAIL
    second = LEAD + synthesise("What time is it?") + TAIL
    one, two = SphinxEar(), SphinxEar()
    for at in range(0, max(len(first), len(second)), 960):
        one.feed(first[at : at + 960])
        two.feed(second[at : at + 960])
    assert (one.finish(), two.finish()) == ("good morning", "what time is it")


def test_the_voice_says_the_same_each_time():
    """Bytes for bytes: whole samples, neither silent nor clipped flat."""
    pcm = synthesise("Seven plus five is twelve.")
    assert pcm == synthesise("Seven plus five is twelve.")
    assert len(pcm) % 2 == 0
    samples = memoryview(pcm).cast("h")
    assert 8000 < max(samples) <= 32767
    assert 1.0 < len(samples) / 24_000 < 4.0


def test_a_slower_voice_takes_longer():
    """And one beyond the voice's bound is as slow as it goes."""
    lengths = [
        len(synthesise("Good morning.", speed)) for speed in (1.5, 1.0, 0.5, 0.25)
    ]
    assert lengths[0] < lengths[1] < lengths[2] == lengths[3]


def test_activity_tells_a_voice_from_silence():
    """Frame by frame, in time with the speech."""
    pcm = (
        bytes(FRAME_BYTES * 50) + synthesise("Good morning.") + bytes(FRAME_BYTES * 50)
    )
    frames = pcm[: len(pcm) // FRAME_BYTES * FRAME_BYTES]
    voiced = Activity().judge(frames, 0.5)
    assert len(voiced) == len(frames) // FRAME_BYTES
    assert not any(voiced[:50])
    assert not any(voiced[-40:])
    assert sum(voiced) * FRAME_MS > 500


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_a_faint_hum_is_no_voice(threshold):
    """Below the floor nothing is, unless the threshold is zero."""
    hum = bytes([10, 0, 246, 255]) * (FRAME_BYTES // 4) * 50
    assert not any(Activity().judge(hum, threshold)[10:])


def test_a_missing_library_names_the_extra(monkeypatch):
    """So that one knows what to install."""
    monkeypatch.setitem(__import__("sys").modules, "soxr", None)
    with pytest.raises(ImportError, match=r"pip install 'realtalk-async\[offline\]'"):
        recogniser._load("soxr")


async def test_speech_is_spoken_and_heard_off_the_loop():
    """What is heard after an utterance was ended is the next one."""
    peer = Speech()
    with anyio.fail_after(30):
        await peer.load()
        pcm = LEAD + await peer.say("Good morning.") + TAIL
        ear = peer.ear()
        peer.listen(ear, pcm)
        first = peer.recognise(ear)
        peer.listen(ear, LEAD + await peer.say("What time is it?") + TAIL)
        second = peer.recognise(ear)
        assert await first == await peer.transcribe(pcm) == "good morning"
        assert await second == "what time is it"
        await peer.aclose()


def test_few_recognisers_lie_idle(monkeypatch):
    """However many spoke at once: each takes 40 MB."""
    monkeypatch.setattr(recogniser, "_idle_decoders", [])
    monkeypatch.setattr(recogniser, "_MOST_IDLE", 1)
    ears = [recogniser.SphinxEar(), recogniser.SphinxEar()]
    for ear in ears:
        ear.feed(bytes(4_800))
    assert not recogniser._idle_decoders
    for ear in ears:
        ear.forget()
    assert len(recogniser._idle_decoders) == 1
