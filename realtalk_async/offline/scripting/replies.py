"""
The answers that a test gives in place of the peer's own: words, tool calls, failures.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

from realtalk_async import arguments
from realtalk_async.offline.answers.tools import ToolCall

if TYPE_CHECKING:
    from realtalk_async.offline.effects import Question


@dataclass(frozen=True, slots=True)
class Failure:
    """
    Let the response fail, as the service does: ``response.done`` with ``failed``.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """

    code: str = "server_error"
    message: str = "The server had an error while it processed the request."

    def __post_init__(self) -> None:
        arguments.one_line("code", self.code)
        arguments.text("message", self.message)


Reply: TypeAlias = str | ToolCall | Failure | Sequence[str | ToolCall]
"""
One answer: words, a call of a tool, a failure, or a list of words and calls.

Empty words are a response without output.
"""

AnswerFunction: TypeAlias = Callable[..., Reply | Awaitable[Reply | None] | None]
"""
Returns the answer to the newest text; ``None`` leaves it to the peer's own rules.

It gets the text of the newest message, which is the user's or the output of a tool, and
if it has a second parameter the `Question` with the whole conversation and the tools.
It runs in the event loop of the peer: one that waits is a coroutine function.
"""

ALLOWED = "words, a ToolCall, a Failure, or a list of words and ToolCalls"


class InvalidReply(Exception):  # the peer catches it: the client gets a failed response
    """The answer of a test is none, or its function raised."""


def is_reply(value: object) -> bool:
    """Return whether *value* is an answer."""
    if isinstance(value, list | tuple):
        parts = cast("Sequence[object]", value)
        return all(isinstance(part, str | ToolCall) for part in parts)
    return isinstance(value, str | ToolCall | Failure)


def check_reply(argument: str, value: object) -> None:
    """
    Check an answer.

    Raises:
        InvalidConfiguration: If *value* is none.
    """
    if not is_reply(value):
        raise arguments.refused(argument, ALLOWED, value)


async def call_answer(function: AnswerFunction, question: Question) -> Reply | None:
    """
    Return the answer of a function.

    Raises:
        InvalidReply: If it raises, or returns something else.
    """
    name = getattr(function, "__qualname__", type(function).__name__)
    given = (question.text, question)[: 1 + _wants_question(function)]
    try:
        result = function(*given)
        reply = await result if inspect.isawaitable(result) else result
    except Exception as error:
        raise InvalidReply(
            f"{name}() raised {error!r} for {question.text!r}"
        ) from error
    if reply is not None and not is_reply(reply):
        raise InvalidReply(
            f"{name}() returned {reply!r:.100} for {question.text!r}; "
            f"an answer is {ALLOWED}"
        )
    return reply


def _wants_question(function: AnswerFunction) -> bool:
    """Return whether a function has a second positional parameter without a default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have no signature
        return False
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    wanted = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return len(wanted) > 1


def normal(text: str) -> str:
    """Return *text* for a comparison: small letters, without punctuation."""
    return " ".join(re.findall(r"[\w']+", text.lower()))
