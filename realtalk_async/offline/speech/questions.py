"""
A second recognition for the questions that the peer can answer.

A recogniser for all of English finds "what is to class for" in "what is two plus four".
So a second one, which knows only these questions, gets the same audio. Its text is chosen
if the audio fits it at least as well and if both texts agree enough. Other sentences
fail both tests and keep the first text.
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
"""The least agreement of the two texts; 0.6 and more was measured for true questions."""

_LEAST_MARGIN = 0.0
"""
The least advantage of the second hypothesis, in log likelihood per frame.

Measured on the peer's own voice: 0.26 to 1.3 for true questions, negative for all other
sentences except two, whose texts disagree.
"""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The result of one recogniser for an utterance."""

    text: str
    likelihood: float = -math.inf
    """Mean acoustic log likelihood of a frame of 10 ms."""


def choose(general: Hypothesis, question: Hypothesis) -> str:
    """Return the text of the better hypothesis."""
    if not is_question(question.text):
        return general.text
    likely = question.likelihood - general.likelihood >= _LEAST_MARGIN
    if likely and agreement(general.text, question.text) >= _LEAST_AGREEMENT:
        return question.text
    return general.text


def is_question(text: str) -> bool:
    """Return whether *text* is a whole question; a recogniser may stop in the middle."""
    if text in _OTHERS:
        return True
    words = arithmetic.tokens(text)
    found = arithmetic.evaluate(text)
    return found is not None and arithmetic.ends_in_number(words)


def agreement(one: str, other: str) -> float:
    """Return how much two texts agree, from 0 to 1; "to" and "two" agree."""
    first, second = (_normal(text) for text in (one, other))
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def _normal(text: str) -> list[str]:
    return [arithmetic.as_number_word(word) for word in arithmetic.tokens(text)]
