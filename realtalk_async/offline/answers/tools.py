"""
The choice of a tool and its arguments from the words of the user.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async import arguments
from realtalk_async.offline.answers import arithmetic
from realtalk_async.offline.effects import JsonObject, as_list, as_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realtalk_async.offline.effects import Question


@dataclass(frozen=True, slots=True)
class ToolCall:
    """
    Call this function of the client.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """

    name: str
    arguments: str | Mapping[str, object] = "{}"
    """The arguments; a text is sent as it is, also if it is no JSON object."""

    def __post_init__(self) -> None:
        arguments.one_line("name", self.name)
        allowed = "a dict, or its text in JSON"
        arguments.instance("arguments", self.arguments, (str, Mapping), allowed)
        if not isinstance(self.arguments, str):
            try:
                text = json.dumps(dict(self.arguments))
            except (TypeError, ValueError):
                raise arguments.refused("arguments", allowed, self.arguments) from None
            object.__setattr__(self, "arguments", text)

    @property
    def text(self) -> str:
        """The arguments as the client gets them."""
        return str(self.arguments)


def find_call(question: Question, text: str) -> ToolCall | None:
    """Return a call of the tool that the client demands or that *text* names."""
    forced = as_object(question.tool_choice).get("name")
    if question.tool_choice == "none":
        return None
    required = question.tool_choice == "required"
    for tool in question.tools:
        name = str(tool.get("name", ""))
        if forced == name or (not forced and (required or _names(text, name))):
            return ToolCall(name, json.dumps(_arguments(tool, text)))
    return None


def _names(text: str, tool: str) -> bool:
    """Return whether *text* has all words of the tool's name, its verb excepted."""
    parts = re.findall(r"[a-z]+", tool.lower())
    verbs = {"get", "set", "find", "fetch", "look", "lookup", "search", "run", "do"}
    nouns = [part for part in parts if part not in verbs] or parts
    return bool(nouns) and set(nouns) <= set(re.findall(r"[a-z]+", text.lower()))


def _arguments(tool: JsonObject, text: str) -> JsonObject:
    """Return values from *text* for the tool's required parameters."""
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
    """Return the words after the last "in", "for", "of" …, or all of *text*."""
    parts = re.split(r"\b(?:in|for|of|about|at|called|named)\b", text.rstrip(" .?!"))
    return parts[-1].strip()


def _numbers(text: str) -> list[float]:
    """Return the numbers in *text*; "for" is not taken for "four"."""
    words = [
        w if w == arithmetic.as_number_word(w) else "?" for w in arithmetic.tokens(text)
    ]
    found, at = list[float](), 0
    while at < len(words):
        read = arithmetic.read_number(words, at)
        if read:
            found.append(float(read[0]))
            at = read[1]
        else:
            at += 1
    return found
