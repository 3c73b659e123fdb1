"""
Measure how well and how fast the offline peer recognises and synthesises speech.

Run it: ``python tests/benchmarks/bench_speech.py``. The script synthesises sentences with
the peer's voice at three speeds and recognises them piece by piece. It prints the share
of correct words, the time from the last sound to the text, and the time to synthesise
and to recognise one second of speech: one JSON line per set and speed, then a table.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from difflib import SequenceMatcher
from typing import NamedTuple

from realtalk_async.offline.speech.sphinx import SphinxRecogniser
from realtalk_async.offline.speech.voice import synthesise

SENTENCES = (
    "Good morning, how are you today?",
    "What time is it?",
    "Please tell me a story about the sea.",
    "The train to London leaves at half past nine.",
    "Turn off the lights in the kitchen.",
    "I would like a cup of coffee with milk.",
    "The quick brown fox jumps over the lazy dog.",
    "The answer to the second question was wrong.",
    "Remember the milk and the bread.",
    "Seven people were late for the meeting.",
)
SUMS = (
    "What is seven plus five?",
    "What is two plus four?",
    "What is forty two minus eight?",
    "How much is five times four?",
    "What is one hundred divided by eight?",
    "What is twelve times eleven?",
    "What is eight plus eight?",
    "What is ninety nine minus eleven?",
    "And three times two?",
    "What is two hundred and five minus seventeen?",
)
SPEEDS = (0.85, 1.0, 1.15)
CHUNK = 1920
LEAD, TAIL = bytes(48 * 300), bytes(48 * 500)


class Figure(NamedTuple):
    """The figures of one set of sentences at one speed."""

    subject: str
    speed: float
    words_right: float
    ms_to_text: float
    ms_per_second_spoken: float
    ms_per_second_heard: float
    wrong: dict[str, str]


def words(text: str) -> list[str]:
    """Return the words in lower case, without punctuation."""
    return re.findall(r"[a-z']+", text.lower())


def right(sentence: str, heard: str) -> int:
    """Return how many words of *sentence* are in *heard*, in the same order."""
    matcher = SequenceMatcher(None, words(sentence), words(heard), autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks())


def measure(subject: str, sentences: tuple[str, ...], speed: float) -> Figure:
    """Synthesise and recognise *sentences* as one session does."""
    recogniser = SphinxRecogniser()
    good, waits, wrong = 0, list[float](), dict[str, str]()
    spoken = heard_for = seconds = 0.0
    for sentence in sentences:
        begun = time.perf_counter()
        pcm = LEAD + synthesise(sentence, speed) + TAIL
        said = time.perf_counter()
        for at in range(0, len(pcm), CHUNK):
            recogniser.feed(pcm[at : at + CHUNK])
        fed = time.perf_counter()
        heard = recogniser.finish()
        waits.append(time.perf_counter() - fed)
        good += right(sentence, heard)
        if words(heard) != words(sentence):
            wrong[sentence] = heard
        spoken += said - begun
        heard_for += fed - said + waits[-1]
        seconds += len(pcm) / 48_000
    total = sum(len(words(sentence)) for sentence in sentences)
    to_text = 1000 * statistics.median(waits)
    costs = (1000 * spoken / seconds, 1000 * heard_for / seconds)
    return Figure(subject, speed, good / total, to_text, *costs, wrong)


def main() -> None:
    """Measure and print the figures."""
    argparse.ArgumentParser(description=__doc__).parse_known_args()  # for --help
    synthesise("Warm up.")
    sets = {"sentences": SENTENCES, "sums": SUMS}
    figures = [measure(n, s, speed) for n, s in sets.items() for speed in SPEEDS]
    for figure in figures:
        print(json.dumps({"benchmark": "speech", **figure._asdict()}))
    print(
        f"\n{'':>10} speed  words right  to text  synthesis  recognition (per second)"
    )
    for f in figures:
        costs = f"{f.ms_per_second_spoken:6.0f} ms  {f.ms_per_second_heard:8.0f} ms"
        row = f"{f.words_right:11.1%}  {f.ms_to_text:4.0f} ms  {costs}"
        print(f"{f.subject:>10} {f.speed:5.2f}  {row}")


if __name__ == "__main__":
    main()
