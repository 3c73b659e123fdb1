"""
A scripted conversation: which words are expected, and the answer to each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from realtalk_async import arguments
from realtalk_async.offline.scripting.replies import (
    ALLOWED,
    AnswerFunction,
    InvalidReply,
    Reply,
    is_reply,
    normal,
)

Expected: TypeAlias = str | re.Pattern[str] | Callable[[str], object] | None
"""
The words that a step expects.

A text is compared without case and punctuation, a pattern is searched, a function returns
whether the text is right, and ``None`` takes any text.
"""

Step: TypeAlias = tuple[Expected, Reply | AnswerFunction | None]
"""The expected words, and the answer, or a function that returns it."""

_STEP = (
    "a pair: the expected words (a text, a pattern, a function, or None for any) and the "
    f"answer ({ALLOWED}; a function that returns one; or None for the peer's own)"
)


@dataclass(slots=True)
class Script:
    """
    The steps of a conversation; each request for a response takes the next step.

    Args:
        steps: The steps in their order; all connections of a peer share them.

    Raises:
        InvalidConfiguration: If a step is invalid.
    """

    steps: tuple[Step, ...]
    done: int = 0
    """The number of steps that are done."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self.steps = arguments.several("script", steps, _check_step, "pairs")
        self.done = 0

    def take(self, text: str) -> Reply | AnswerFunction | None:
        """
        Return the answer to *text*, and go on to the next step.

        Raises:
            InvalidReply: If the next step expects other words, or none is left. The
                script stays where it is.
        """
        if self.done == len(self.steps):
            count = f"its {self.done} steps are done" if self.done else "it has no step"
            raise InvalidReply(f"the script is over ({count}), but got {text!r}")
        expected, reply = self.steps[self.done]
        if not _fits(expected, text):
            raise InvalidReply(
                f"step {self.done + 1} of the script expects {_show(expected)}, "
                f"but got {text!r}"
            )
        self.done += 1
        return reply

    def missing(self) -> str:
        """Return what did not happen, for people; empty if all steps are done."""
        left = len(self.steps) - self.done
        if not left:
            return ""
        expected = _show(self.steps[self.done][0])
        return (
            f"{self.done} of {len(self.steps)} steps of the script are done; "
            f"step {self.done + 1} expects {expected}"
        )


def _check_step(argument: str, value: object) -> None:
    is_pair = isinstance(value, tuple | list)
    pair = tuple(cast("Sequence[object]", value)) if is_pair else ()
    if len(pair) != 2:
        raise arguments.refused(argument, _STEP, value)
    expected, reply = pair
    is_expected = callable(expected) or isinstance(expected, str | re.Pattern | None)
    is_answer = reply is None or is_reply(reply) or callable(reply)
    if not (is_expected and is_answer):
        raise arguments.refused(argument, _STEP, value)


def _fits(expected: Expected, text: str) -> bool:
    if expected is None:
        return True
    if isinstance(expected, str):
        return normal(expected) == normal(text)
    if isinstance(expected, re.Pattern):
        return expected.search(text) is not None
    try:
        return bool(expected(text))
    except Exception as error:
        raise InvalidReply(
            f"{_show(expected)} raised {error!r} for {text!r}"
        ) from error


def _show(expected: Expected) -> str:
    if expected is None:
        return "any words"
    if isinstance(expected, str):
        return repr(expected)
    if isinstance(expected, re.Pattern):
        return f"the pattern {expected.pattern!r}"
    name = getattr(expected, "__qualname__", type(expected).__name__)
    return f"what {name}() accepts"
