"""
What the raw text of a line must hold, if its entry is to be wanted (pure).

To find a few entries among millions, only lines that hold a needle are parsed. A needle
promises nothing about the lines that have it: the parsed entry decides.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORTEST = 3
"""Characters of a text that is worth looking for."""

# What stands in a line as it is, in every format and whoever wrote it: nothing that a
# message or JSON may escape, or that JSON may have spaces around.
_AS_IT_IS = re.compile(rf"[A-Za-z0-9 _;@%=.()#*!?|$~^-]{{{SHORTEST},}}")
# Equal to a letter of ASCII if case is ignored: the long s, the sign for Kelvin, the
# dotted capital and the dotless small i of Turkish.
_EQUAL_LETTERS = tuple(letter.encode() for letter in "\u017f\u212a\u0130\u0131")
_FLAGS = re.UNICODE | re.ASCII | re.IGNORECASE | re.MULTILINE | re.DOTALL
_OPENING = frozenset(b'["')
_CLOSING = frozenset(b']"')


class Needle(NamedTuple):
    """Texts of which a wanted line has one, at least."""

    texts: tuple[bytes, ...]
    whole: bool = False
    """Whether it stands in brackets or quotes, as a component and a level do."""
    folded: bool = False
    """Whether case is ignored; then the texts are in lower case."""

    def frequency(self, block: bytes | bytearray) -> int:
        """Return how often *block* has it."""
        if self.folded:
            block = block.lower()
        return sum(map(block.count, self.texts))

    def lines(self, block: bytes | bytearray, begin: int, end: int) -> list[int]:
        """Return where the lines begin that hold it, of those from *begin* to *end*."""
        texts = self.texts
        if self.folded:
            texts += () if block.isascii() else _EQUAL_LETTERS
            block = block.lower()
        found = (self._lines(text, block, begin, end) for text in texts)
        return sorted({start for starts in found for start in starts})

    def _lines(
        self, text: bytes, block: bytes | bytearray, begin: int, end: int
    ) -> Iterator[int]:
        # From the end, since CPython's rfind is twice as fast as its find.
        while (position := block.rfind(text, begin, end)) >= 0:
            end = position
            if not self.whole or _stands_alone(block, position, position + len(text)):
                end = block.rfind(b"\n", begin, position) + 1 or begin
                yield end


def whole_name(name: str) -> Needle:
    """Return what a line has whose component or level is *name*, a plain one."""
    return Needle((name.encode(),), whole=True)


def is_plain(text: str) -> bool:
    """Whether *text* stands in a line as it is, and is worth looking for."""
    return _AS_IT_IS.fullmatch(text) is not None


def needles_of(pattern: re.Pattern[str]) -> list[Needle]:
    """
    Return what every line has in whose message or context *pattern* is found.

    None at all if the pattern demands no text, or is not understood: those with flags
    in the middle, conditions, or characters by number.
    """
    if pattern.flags & ~_FLAGS:
        return []
    try:
        demands = _Reader(pattern.pattern).whole()
    except _NotUnderstoodError:
        return []
    folded = bool(pattern.flags & re.IGNORECASE)
    return [_needle(demand, folded=folded) for demand in demands]


def _needle(demand: _Demand, *, folded: bool) -> Needle:
    texts = (text.lower() if folded else text for text in demand)
    return Needle(tuple(text.encode() for text in texts), folded=folded)


_Demand: TypeAlias = tuple[str, ...]
"""Texts of which what is found has one."""

_OPTIONAL, _REPEATED, _ONCE = range(3)
_REPEAT = re.compile(r"(?:(\*|\?|\{,\d*\}|\{0+(?:,\d*)?\})|\+|\{\d+(?:,\d*)?\})[?+]?")
_GROUP = re.compile(r"\?(?::|>|P<\w+>)")
_LOOK = re.compile(r"\?<?[=!]")
_EMPTY = re.compile(r"\?(?:#[^)]*|P=\w+|[aiLmsux]+)\)")
_SET = re.compile(r"\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)
# Those that match a kind of character, or none at all.
_CLASSES = frozenset("dDwWsSbBAZ")


class _NotUnderstoodError(Exception):
    """The pattern has something in it that is not worth understanding."""


class _Reader:
    """Reads a regular expression, which is known to be one, for what it demands."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> list[_Demand]:
        """Return what all of it demands."""
        return self._alternatives()

    def _alternatives(self) -> list[_Demand]:
        branches = [self._sequence()]
        while self._text.startswith("|", self._at):
            self._at += 1
            branches.append(self._sequence())
        if len(branches) == 1:
            return branches[0]
        if not all(branches):
            return []
        # Of each branch the demand whose texts are the longest.
        best = (max(demands, key=_shortest) for demands in branches)
        return [tuple({text for demand in best for text in demand})]

    def _sequence(self) -> list[_Demand]:
        demands: list[_Demand] = []
        run = ""
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            item = self._item()
            times = self._times()
            if isinstance(item, str) and times != _OPTIONAL:
                run += item
            if isinstance(item, str) and times == _ONCE:
                continue
            demands += _demands_of(run)
            run = ""
            if not isinstance(item, str) and times != _OPTIONAL:
                demands += item
        return demands + _demands_of(run)

    def _item(self) -> str | list[_Demand]:
        """Return the next character, or what else comes next demands."""
        char = self._next()
        if char == "\\":
            return self._escape()
        if char == "(":
            return self._group()
        if char == "[":
            self._skip(_SET)
            return []
        return [] if char in ".^$" else char

    def _escape(self) -> str | list[_Demand]:
        char = self._next()
        if char in _CLASSES:
            return []
        if char.isalnum():
            raise _NotUnderstoodError
        return char

    def _group(self) -> list[_Demand]:
        if self._text.startswith("?", self._at):
            if self._skip(_EMPTY):
                return []
            if self._skip(_LOOK):
                self._inside()
                return []
            if not self._skip(_GROUP):
                raise _NotUnderstoodError
        return self._inside()

    def _inside(self) -> list[_Demand]:
        demands = self._alternatives()
        self._at += 1  # the closing parenthesis
        return demands

    def _times(self) -> int:
        match = _REPEAT.match(self._text, self._at)
        if match is None:
            return _ONCE
        self._at = match.end()
        return _OPTIONAL if match[1] else _REPEATED

    def _next(self) -> str:
        self._at += 1
        return self._text[self._at - 1]

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
        return match is not None


def _demands_of(run: str) -> list[_Demand]:
    return [(text,) for text in _AS_IT_IS.findall(run)]


def _shortest(demand: _Demand) -> int:
    return min(map(len, demand))


def _stands_alone(block: bytes | bytearray, position: int, after: int) -> bool:
    return (
        position > 0
        and block[position - 1] in _OPENING
        and after < len(block)
        and block[after] in _CLOSING
    )
