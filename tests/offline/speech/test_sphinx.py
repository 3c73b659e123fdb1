from __future__ import annotations

import re
from difflib import SequenceMatcher

from realtalk_async.offline.speech import sphinx
from realtalk_async.offline.speech.sphinx import SphinxRecogniser
from realtalk_async.offline.speech.voice import synthesise

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
