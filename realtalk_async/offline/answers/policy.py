"""
What the offline peer says: a simple policy from what was said to an answer. Pure.

In this order: a tool that fits, "say …" and "repeat …", arithmetic, counting, the
time, the date, greetings and thanks, a story; anything else is said back.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, TypeAlias

from realtalk_async.offline.answers import arithmetic
from realtalk_async.offline.effects import JsonObject, Message, as_list, as_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
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
"""A long answer: there is time to interrupt it."""

_COUNT_LIMIT = 100
"""Numbers counted at the most."""

_LONGEST = 300
"""Characters spoken in one go: about 20 s of speech, 0.2 s of work."""

_QUESTION = re.compile(
    r"^(what|who|where|when|why|how|which|is|are|do|does|did|can|could|will|would)\b"
)


@dataclass(frozen=True, slots=True)
class Say:
    """Say this."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """Call this function of the client."""

    name: str
    arguments: str
    """A JSON object."""


Reply: TypeAlias = Say | Call


def decide(question: Question, now: datetime) -> Reply:
    """
    Return what to say, or which tool to call.

    Args:
        question: What was said so far and what the client offers.
        now: The time where the peer is.
    """
    said = _said_by_order(question.instructions)
    if said:
        return Say(said)
    last = _last_spoken(question.messages)
    if last.role == "tool":
        return Say(f"The answer is: {_plain(last.text)}.")
    return _fitting_call(question, last.text) or Say(reply(last.text, now))


def reply(text: str, now: datetime) -> str:
    """Return the answer to *text* in words, without any tool."""
    for policy in _POLICIES:
        answer = policy(text, now)
        if answer:
            return answer
    return f"You said: {tidy(text)}"


def tidy(text: str) -> str:
    """Write a recogniser's words as a sentence: capitals and an end."""
    text = re.sub(r"\bi\b", "I", text.strip())
    if not text:
        return ""
    end = "" if text[-1] in ".!?" else "?" if _QUESTION.match(text.lower()) else "."
    return text[0].upper() + text[1:] + end


def sentences(text: str) -> list[str]:
    """
    Split *text* where a voice would pause; joined by spaces they are *text*.

    None is much longer than 300 characters, so that none takes long to be spoken.
    """
    parts = re.split(r"(?<=[.!?])\s+", text.strip())
    return [piece for part in parts for piece in _pieces(part)]


def _pieces(sentence: str) -> list[str]:
    return wrap(sentence, _LONGEST, break_long_words=False, break_on_hyphens=False)


def _last_spoken(messages: Sequence[Message]) -> Message:
    """Return the newest word of the user or of a tool."""
    spoken = (m for m in reversed(messages) if m.role in ("user", "tool"))
    return next(spoken, Message("user", "hello"))


def _said_by_order(instructions: str) -> str:
    """Obey instructions like ``Say: good evening``."""
    order = re.match(
        r"\s*say(?: exactly)?\s*:\s*(.+)", instructions, re.IGNORECASE | re.DOTALL
    )
    return order[1].strip().strip("\"'") if order else ""


def _plain(text: str) -> str:
    """Make a tool's output speakable: the values of a JSON object, or the text."""
    try:
        value: object = json.loads(text)
    except ValueError:
        return text.strip().rstrip(".")
    pairs = as_object(value)
    return ", ".join(f"{key} {item}" for key, item in pairs.items()) or str(value)


# --- the policies, in their order


def _nothing(text: str, _now: datetime) -> str:
    return "" if re.search(r"\w", text) else "I did not hear anything."


def _repeat(text: str, _now: datetime) -> str:
    said = re.match(
        r"\s*(?:say|repeat(?: after me)?)[:,]?\s+(.+)", text, re.IGNORECASE | re.DOTALL
    )
    return tidy(said[1]) if said else ""


def _arithmetic(text: str, _now: datetime) -> str:
    found = arithmetic.evaluate(text)
    if found is None:
        return ""
    if found.result is None:
        return "I cannot divide by zero."
    exact = found.result * 100 == round(found.result * 100)
    verb = "is" if exact else "is about"
    return tidy(f"{found.said} {verb} {arithmetic.spell(found.result)}")


def _count(text: str, _now: datetime) -> str:
    counted = arithmetic.read_range(text)
    if not counted:
        return ""
    return tidy(", ".join(arithmetic.spell(n) for n in counted[:_COUNT_LIMIT]))


def _time(text: str, now: datetime) -> str:
    if not re.search(r"\btime (is it|it is)\b|\bthe time\b", text, re.IGNORECASE):
        return ""
    minute = now.minute
    if not minute:
        return f"It is {arithmetic.spell(now.hour)} o'clock."
    oh = "oh " if minute < 10 else ""
    return f"It is {arithmetic.spell(now.hour)} {oh}{arithmetic.spell(minute)}."


def _date(text: str, now: datetime) -> str:
    # "the date today" is often heard as "the day to day".
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


_POLICIES: tuple[Callable[[str, datetime], str], ...] = (
    _nothing,
    _repeat,
    _arithmetic,
    _count,
    _time,
    _date,
    _greeting,
    _courtesy,
    _story,
)


# --- tools


def _fitting_call(question: Question, text: str) -> Call | None:
    """Return the call of the tool that the client forces, or that *text* names."""
    forced = as_object(question.tool_choice).get("name")
    if question.tool_choice == "none":
        return None
    required = question.tool_choice == "required"
    for tool in question.tools:
        name = str(tool.get("name", ""))
        if forced == name or (not forced and (required or _names(text, name))):
            return Call(name, json.dumps(_arguments(tool, text)))
    return None


def _names(text: str, tool: str) -> bool:
    """Whether *text* has the words of the tool's name, but for its verb."""
    parts = re.findall(r"[a-z]+", tool.lower())
    verbs = {"get", "set", "find", "fetch", "look", "lookup", "search", "run", "do"}
    nouns = [part for part in parts if part not in verbs] or parts
    return bool(nouns) and set(nouns) <= set(re.findall(r"[a-z]+", text.lower()))


def _arguments(tool: JsonObject, text: str) -> JsonObject:
    """Fill the tool's required parameters from *text*, as well as can be."""
    schema = as_object(tool.get("parameters"))
    properties = as_object(schema.get("properties"))
    wanted = [str(name) for name in as_list(schema.get("required"))] or list(properties)
    found = iter(_numbers(text))
    return {
        name: _argument(as_object(properties.get(name)), text, found) for name in wanted
    }


def _argument(schema: JsonObject, text: str, found: Iterator[float]) -> object:
    for choice in as_list(schema.get("enum")):
        if str(choice).lower() in text.lower():
            return choice
    match schema.get("type"):
        case "integer":
            return int(next(found, 0))
        case "number":
            return next(found, 0.0)
        case "boolean":
            return True
        case "array":
            return []
        case "object":
            return {}
        case _:
            return _complement(text)


def _complement(text: str) -> str:
    """Return what follows the last "in", "for", "of" …, or all of *text*."""
    parts = re.split(r"\b(?:in|for|of|about|at|called|named)\b", text.rstrip(" .?!"))
    return parts[-1].strip()


def _numbers(text: str) -> list[float]:
    """Return the numbers in *text*; "for" is no four here."""
    words = [w if w == arithmetic.unslip(w) else "?" for w in arithmetic.tokens(text)]
    found, at = list[float](), 0
    while at < len(words):
        read = arithmetic.read_number(words, at)
        if read:
            found.append(float(read[0]))
            at = read[1]
        else:
            at += 1
    return found
