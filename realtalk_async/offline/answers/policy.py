"""
The answer policy: rules from the conversation to the peer's answer.

In this order: a tool that fits, "say …" and "repeat …", arithmetic, counting, the time,
the date, greetings and thanks, a story; the peer repeats any other text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, TypeAlias

from realtalk_async.offline.answers import arithmetic
from realtalk_async.offline.answers.tools import ToolCall, find_call
from realtalk_async.offline.effects import Message, as_object

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from realtalk_async.offline.effects import Question

STORY = (
    "Once upon a time there was a lighthouse at the end of the world. "
    "Every night its lamp turned, and every night the ships went by. "
    "One winter the lamp went out. "
    "The keeper lit a candle and stood at the window until the morning. "
    "In the morning a small boat came in, and its captain said: "
    "we saw your light, and we came home."
)
"""A long answer, which leaves time to interrupt it."""

_COUNT_LIMIT = 100
"""The most numbers that the peer counts."""

_LONGEST = 300
"""Characters of one synthesis: about 20 s of speech, 0.2 s of work."""

_QUESTION = re.compile(
    r"^(what|who|where|when|why|how|which|is|are|do|does|did|can|could|will|would)\b"
)


@dataclass(frozen=True, slots=True)
class Say:
    """Say this text."""

    text: str


Answer: TypeAlias = Say | ToolCall


def choose_answer(question: Question, now: datetime) -> Answer:
    """
    Return the text to say, or the tool to call.

    Args:
        question: The conversation and the client's tools.
        now: The local time.
    """
    dictated = dictated_text(question.instructions)
    if dictated:
        return Say(dictated)
    last = question.last or Message("user", "hello")
    if last.role == "tool":
        return Say(f"The answer is: {_plain(last.text)}.")
    return find_call(question, last.text) or Say(answer_text(last.text, now))


def answer_text(text: str, now: datetime) -> str:
    """Return the answer to *text* without any tool."""
    for rule in _RULES:
        answer = rule(text, now)
        if answer:
            return answer
    return f"You said: {punctuate(text)}"


def punctuate(text: str) -> str:
    """Make a sentence of recognised words: capitals and a full stop or question mark."""
    text = re.sub(r"\bi\b", "I", text.strip())
    if not text:
        return ""
    end = "" if text[-1] in ".!?" else "?" if _QUESTION.match(text.lower()) else "."
    return text[0].upper() + text[1:] + end


def sentences(text: str) -> list[str]:
    """
    Split *text* at sentence ends; joined by spaces the parts are *text*.

    A part has 300 characters at most if its words allow it, so that synthesis is fast.
    """
    parts = re.split(r"(?<=[.!?])\s+", text.strip())
    return [piece for part in parts for piece in _wrap(part)]


def _wrap(sentence: str) -> list[str]:
    return wrap(sentence, _LONGEST, break_long_words=False, break_on_hyphens=False)


def dictated_text(instructions: str) -> str:
    """Return the text of instructions like ``Say: good evening``."""
    order = re.match(
        r"\s*say(?: exactly)?\s*:\s*(.+)", instructions, re.IGNORECASE | re.DOTALL
    )
    return order[1].strip().strip("\"'") if order else ""


def _plain(text: str) -> str:
    """Return a tool's output as speech: the pairs of a JSON object, or the text."""
    try:
        value: object = json.loads(text)
    except ValueError:
        return text.strip().rstrip(".")
    pairs = as_object(value)
    return ", ".join(f"{key} {item}" for key, item in pairs.items()) or str(value)


# --- rules: each returns an answer, or an empty text if it does not apply


def _silence(text: str, _now: datetime) -> str:
    return "" if re.search(r"\w", text) else "I did not hear anything."


def _repeat(text: str, _now: datetime) -> str:
    said = re.match(
        r"\s*(?:say|repeat(?: after me)?)[:,]?\s+(.+)", text, re.IGNORECASE | re.DOTALL
    )
    return punctuate(said[1]) if said else ""


def _arithmetic(text: str, _now: datetime) -> str:
    found = arithmetic.evaluate(text)
    if found is None:
        return ""
    if found.result is None:
        return "I cannot divide by zero."
    exact = found.result * 100 == round(found.result * 100)
    verb = "is" if exact else "is about"
    return punctuate(f"{found.words} {verb} {arithmetic.spell(found.result)}")


def _count(text: str, _now: datetime) -> str:
    counted = arithmetic.read_range(text)
    if not counted:
        return ""
    return punctuate(", ".join(arithmetic.spell(n) for n in counted[:_COUNT_LIMIT]))


def _time(text: str, now: datetime) -> str:
    if not re.search(r"\btime (is it|it is)\b|\bthe time\b", text, re.IGNORECASE):
        return ""
    minute = now.minute
    if not minute:
        return f"It is {arithmetic.spell(now.hour)} o'clock."
    oh = "oh " if minute < 10 else ""
    return f"It is {arithmetic.spell(now.hour)} {oh}{arithmetic.spell(minute)}."


def _date(text: str, now: datetime) -> str:
    # The recogniser often finds "the day to day" for "the date today".
    asked = (
        r"\b(the date|what day|which day|the day (today|to day)|(today's|todays) date)"
    )
    if not re.search(asked, text, re.IGNORECASE):
        return ""
    return f"Today is {now:%A}, {now:%B} {now.day}, {now.year}."


def _greeting(text: str, _now: datetime) -> str:
    greeted = r"\s*(hello|hi|hey|good (morning|afternoon|evening|day))\b"
    if not re.match(greeted, text, re.IGNORECASE):
        return ""
    if re.search(r"how are you", text, re.IGNORECASE):
        return "Hello. I am very well, thank you. How can I help you?"
    return "Hello. How can I help you?"


def _courtesy(text: str, _now: datetime) -> str:
    if re.match(r"\s*(thank you|thanks)\b", text, re.IGNORECASE):
        return "You are welcome."
    if re.search(r"\bwho are you\b|\byour name\b", text, re.IGNORECASE):
        return (
            "I am the offline peer. I hear, I answer and I speak, all on this machine."
        )
    if re.match(r"\s*(good ?bye|bye)\b", text, re.IGNORECASE):
        return "Goodbye."
    return ""


def _story(text: str, _now: datetime) -> str:
    return STORY if re.search(r"\bstory\b", text, re.IGNORECASE) else ""


_RULES: tuple[Callable[[str, datetime], str], ...] = (
    _silence,
    _repeat,
    _arithmetic,
    _count,
    _time,
    _date,
    _greeting,
    _courtesy,
    _story,
)
