"""
What the answer policy gets to know about a response: conversation, instructions, tools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.offline.effects import (
    JsonObject,
    Message,
    Question,
    as_list,
    as_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


def make_question(
    messages: Iterable[Message], settings: JsonObject, options: JsonObject
) -> Question:
    """
    Return the question that a response answers.

    Args:
        messages: The conversation, or the input of the response alone.
        settings: The configuration of the session.
        options: Those of the response, which come first.
    """
    tools = as_list(options.get("tools", settings["tools"]))
    choice = options.get("tool_choice", settings["tool_choice"])
    instructions = str(options.get("instructions", ""))
    return Question(tuple(messages), instructions, tuple(map(as_object, tools)), choice)
