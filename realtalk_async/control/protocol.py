"""
How the window into an app is spoken through: one question, answers line by line. Pure.

A question is one JSON object in one line, such as ``{"ask": "tail", "name": "web"}``.
What comes back is any number of lines ``{"item": …}`` and, at the end, one of
``{"end": true}`` and ``{"error": "…"}``. Then the connection is closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

import orjson

from realtalk_async.exceptions import InvalidConfiguration

if TYPE_CHECKING:
    from collections.abc import Mapping

JsonObject: TypeAlias = "dict[str, object]"

MOST_ASKED = 16 * 1024
"""Bytes of a question, its end included."""
MOST_TOLD = 4 * 1024 * 1024
"""Bytes of one line of an answer, its end included."""
MOST_LINES = 10_000
"""Lines of output or log that may be asked for at once."""

SHORTEST_PERIOD = 0.1
"""Seconds between two looks of a watch, at least."""

ASKS = ("ps", "watch", "tail", "logs", "history", "explain", "restart", "stop")
NEED_A_NAME = ("tail", "explain", "restart", "stop")


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody wants to know, or to have done."""

    ask: str
    name: str | None = None
    n: int | None = None
    """The newest so many lines."""
    follow: bool = False
    level: str | None = None
    component: str | None = None
    pattern: str | None = None
    width: int | None = None
    """The first so many characters of each line of output."""
    period: float | None = None
    """Seconds between two looks of a watch."""

    def encode(self) -> bytes:
        """Return the question as its line."""
        told = {key: getattr(self, key) for key in _KINDS}
        return orjson.dumps({k: v for k, v in told.items() if v is not None}) + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Question:
        """
        Return the question that a line holds.

        Raises:
            InvalidConfiguration: If it is none; the message says what is allowed.
        """
        fields = _an_object(line)
        for key, value in fields.items():
            if key not in _KINDS:
                raise InvalidConfiguration(f"no such key {key!r}: {', '.join(_KINDS)}")
            if not _is_a(value, _KINDS[key]):
                raise InvalidConfiguration(f"{key!r} is not {_KINDS[key].__name__}")
        question = cls(**{"ask": "", **fields})  # type: ignore[arg-type] # as just seen
        _refuse_nonsense(question)
        return question


_KINDS: Mapping[str, type] = {
    "ask": str,
    "name": str,
    "n": int,
    "follow": bool,
    "level": str,
    "component": str,
    "pattern": str,
    "width": int,
    "period": float,
}


def _is_a(value: object, kind: type) -> bool:
    """Return whether a JSON value is of that kind: a truth is no number."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _an_object(line: bytes) -> JsonObject:
    try:
        found: object = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        raise InvalidConfiguration(f"a question is a line of JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise InvalidConfiguration("a question is a JSON object")
    return cast("JsonObject", found)


def _refuse_nonsense(question: Question) -> None:
    if question.ask not in ASKS:
        raise InvalidConfiguration(
            f"'ask' is one of {', '.join(ASKS)}, not {question.ask!r}"
        )
    if question.ask in NEED_A_NAME and question.name is None:
        raise InvalidConfiguration(f"{question.ask!r} needs a 'name'")
    if question.n is not None and not 0 <= question.n <= MOST_LINES:
        raise InvalidConfiguration(f"'n' is from 0 to {MOST_LINES}, not {question.n}")
    if question.width is not None and question.width < 0:
        raise InvalidConfiguration(f"'width' is at least 0, not {question.width}")
    if question.period is not None and not question.period >= SHORTEST_PERIOD:
        raise InvalidConfiguration(
            f"'period' is at least {SHORTEST_PERIOD} s, not {question.period}"
        )


def item(value: object) -> bytes:
    """Return one part of an answer as its line; what is too long is told as a mistake."""
    line = orjson.dumps({"item": value}, default=str, option=orjson.OPT_NON_STR_KEYS)
    if len(line) < MOST_TOLD:
        return line + b"\n"
    return error(f"the answer has {len(line)} bytes, {MOST_TOLD} allowed: ask for less")


def error(what: str) -> bytes:
    """Return the end of an answer that has failed."""
    return orjson.dumps({"error": what.encode(errors="replace").decode()}) + b"\n"


END = b'{"end":true}\n'


@dataclass(frozen=True, slots=True)
class Failed:
    """The end of an answer that has failed."""

    why: str


@dataclass(frozen=True, slots=True)
class Item:
    """One part of an answer."""

    value: object


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of an answer."""


def understand(line: bytes) -> Item | Failed | Ended:
    """
    Return what one line of an answer says.

    Whatever is no such line is the end of an answer that has failed.
    """
    try:
        found: object = orjson.loads(line)
    except orjson.JSONDecodeError:
        return Failed("the app hung up in the middle of its answer")
    told = cast("JsonObject", found) if isinstance(found, dict) else {}
    if "item" in told:
        return Item(told["item"])
    return Ended() if "end" in told else Failed(str(told.get("error", "no answer")))
