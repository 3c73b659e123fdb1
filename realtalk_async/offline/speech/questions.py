"""
The questions that the peer can answer, as a second ear for them. Pure.

A recogniser for all of English hears "what is two plus four" as "what is to class for".
So what was said is heard a second time by one that knows these questions only, and its
hearing is taken if the sound bears it out and the two agree well enough. Sentences
that are none of these questions fail both tests and keep the first hearing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import SequenceMatcher

from realtalk_async.offline.answers import arithmetic

GRAMMAR = """#JSGF V1.0;
grammar questions;
<unit> = one | two | three | four | five | six | seven | eight | nine;
<teen> = ten | eleven | twelve | thirteen | fourteen | fifteen | sixteen | seventeen
       | eighteen | nineteen;
<tens> = twenty | thirty | forty | fifty | sixty | seventy | eighty | ninety;
<below> = zero | <unit> | <teen> | <tens> [<unit>];
<number> = <below> | (a | <unit>) hundred [[and] <below>];
<operator> = plus | minus | times | divided by | multiplied by;
<opening> = what is | what's | how much is | calculate | and;
<sum> = [<opening>] <number> <operator> <number> [<operator> <number>];
<other> = what time is it | what day is it today | what is the date today;
public <question> = <sum> | <other>;
"""

_OTHERS = ("what time is it", "what day is it today", "what is the date today")

_LEAST_AGREEMENT = 0.55
"""Of the words, both hearings together; measured 0.6 and more for true questions."""

_LEAST_MARGIN = 0.0
"""
Log likelihood a frame by which the second hearing must be better.

Measured on the peer's own voice: true questions 0.26 to 1.3 better, but for two all
other sentences worse, and those two disagree in their words.
"""


@dataclass(frozen=True, slots=True)
class Hearing:
    """What one recogniser made of an utterance."""

    text: str
    likelihood: float = -math.inf
    """Mean log likelihood a frame of 10 ms, of the sound alone."""


def prefer(general: Hearing, question: Hearing) -> str:
    """Return the words of the hearing to believe."""
    if not is_question(question.text):
        return general.text
    likely = question.likelihood - general.likelihood >= _LEAST_MARGIN
    if likely and agreement(general.text, question.text) >= _LEAST_AGREEMENT:
        return question.text
    return general.text


def is_question(text: str) -> bool:
    """Whether *text* is a whole question; a recogniser may stop in the middle of one."""
    if text in _OTHERS:
        return True
    words = arithmetic.tokens(text)
    tail = arithmetic.evaluate(text)
    return tail is not None and arithmetic.ends_in_number(words)


def agreement(one: str, other: str) -> float:
    """Return how far two hearings agree, 0 to 1; "to" and "two" do."""
    first, second = (_normal(text) for text in (one, other))
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def _normal(text: str) -> list[str]:
    return [arithmetic.unslip(word) for word in arithmetic.tokens(text)]
