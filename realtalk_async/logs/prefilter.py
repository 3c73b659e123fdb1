"""
`LiteralPrefilter`: literal texts that a matching line must contain; without I/O.

A search among millions of entries parses only the lines that pass the filter. A line
that passes may still not match: the parsed entry decides.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_LENGTH = 3
"""Characters of the shortest text that is searched for."""

# Characters that every format writes unchanged: neither a message nor JSON escapes them,
# and JSON has no optional spaces around them.
_UNCHANGED = re.compile(rf"[A-Za-z0-9 _;@%=.()#*!?|$~^-]{{{MIN_LENGTH},}}")
# Equal to an ASCII letter if case is ignored: the long s, the Kelvin sign, the dotted
# capital I and the dotless small i of Turkish.
_EQUAL_LETTERS = tuple(letter.encode() for letter in "\u017f\u212a\u0130\u0131")
_FLAGS = re.UNICODE | re.ASCII | re.IGNORECASE | re.MULTILINE | re.DOTALL
_OPENING = frozenset(b'["')
_CLOSING = frozenset(b']"')


class LiteralPrefilter(NamedTuple):
    """A set of texts; a line passes if it contains at least one of them."""

    texts: tuple[bytes, ...]
    whole: bool = False
    """Whether the text must be in brackets or quotes, like a component or a level."""
    ignore_case: bool = False
    """Whether case is ignored; then the texts are in lower case."""

    def frequency(self, block: bytes | bytearray) -> int:
        """Return how often *block* contains the texts."""
        if self.ignore_case:
            block = block.lower()
        return sum(map(block.count, self.texts))

    def lines(self, block: bytes | bytearray, begin: int, end: int) -> list[int]:
        """Return the beginnings of the lines that pass, from *begin* to *end*."""
        texts = self.texts
        if self.ignore_case:
            texts += () if block.isascii() else _EQUAL_LETTERS
            block = block.lower()
        found = (self._lines(text, block, begin, end) for text in texts)
        return sorted({start for starts in found for start in starts})

    def _lines(
        self, text: bytes, block: bytes | bytearray, begin: int, end: int
    ) -> Iterator[int]:
        # From the end, because CPython's rfind is twice as fast as its find.
        while (position := block.rfind(text, begin, end)) >= 0:
            end = position
            if not self.whole or _is_delimited(block, position, position + len(text)):
                end = block.rfind(b"\n", begin, position) + 1 or begin
                yield end


def prefilter_of_name(name: str) -> LiteralPrefilter:
    """Return the prefilter for the component or level *name*, a literal one."""
    return LiteralPrefilter((name.encode(),), whole=True)


def is_literal(text: str) -> bool:
    """Whether every format writes *text* unchanged, and it is long enough."""
    return _UNCHANGED.fullmatch(text) is not None


def prefilters_of_pattern(pattern: re.Pattern[str]) -> list[LiteralPrefilter]:
    """
    Return the prefilters that each line with a match of *pattern* passes.

    The list is empty if the pattern requires no text, or uses flags in the middle,
    conditions, or characters by number.
    """
    if pattern.flags & ~_FLAGS:
        return []
    try:
        literals = _PatternReader(pattern.pattern).read()
    except _UnsupportedPatternError:
        return []
    ignore_case = bool(pattern.flags & re.IGNORECASE)
    return [_prefilter(texts, ignore_case=ignore_case) for texts in literals]


def _prefilter(texts: _Literal, *, ignore_case: bool) -> LiteralPrefilter:
    cased = (text.lower() if ignore_case else text for text in texts)
    encoded = tuple(text.encode() for text in cased)
    return LiteralPrefilter(encoded, ignore_case=ignore_case)


_Literal: TypeAlias = tuple[str, ...]
"""Alternatives: each match of the pattern contains at least one of these texts."""

_OPTIONAL, _REPEATED, _ONCE = range(3)
_REPEAT = re.compile(r"(?:(\*|\?|\{,\d*\}|\{0+(?:,\d*)?\})|\+|\{\d+(?:,\d*)?\})[?+]?")
_GROUP = re.compile(r"\?(?::|>|P<\w+>)")
_LOOK = re.compile(r"\?<?[=!]")
_EMPTY = re.compile(r"\?(?:#[^)]*|P=\w+|[aiLmsux]+)\)")
_SET = re.compile(r"\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)
# Escapes that match a class of characters or an empty text.
_CLASSES = frozenset("dDwWsSbBAZ")


class _UnsupportedPatternError(Exception):
    """The pattern contains an element that the reader does not support."""


class _PatternReader:
    """Finds the literals that a valid regular expression requires."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self) -> list[_Literal]:
        """Return the literals of the whole pattern."""
        return self._alternatives()

    def _alternatives(self) -> list[_Literal]:
        branches = [self._sequence()]
        while self._text.startswith("|", self._at):
            self._at += 1
            branches.append(self._sequence())
        if len(branches) == 1:
            return branches[0]
        if not all(branches):
            return []
        # From each branch, the literal with the longest texts.
        best = (max(literals, key=_min_length) for literals in branches)
        return [tuple({text for literal in best for text in literal})]

    def _sequence(self) -> list[_Literal]:
        literals: list[_Literal] = []
        run = ""
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            item = self._item()
            times = self._times()
            if isinstance(item, str) and times != _OPTIONAL:
                run += item
            if isinstance(item, str) and times == _ONCE:
                continue
            literals += _literals_of(run)
            run = ""
            if not isinstance(item, str) and times != _OPTIONAL:
                literals += item
        return literals + _literals_of(run)

    def _item(self) -> str | list[_Literal]:
        """Return the next character, or the literals of the next element."""
        char = self._next()
        if char == "\\":
            return self._escape()
        if char == "(":
            return self._group()
        if char == "[":
            self._skip(_SET)
            return []
        return [] if char in ".^$" else char

    def _escape(self) -> str | list[_Literal]:
        char = self._next()
        if char in _CLASSES:
            return []
        if char.isalnum():
            raise _UnsupportedPatternError
        return char

    def _group(self) -> list[_Literal]:
        if self._text.startswith("?", self._at):
            if self._skip(_EMPTY):
                return []
            if self._skip(_LOOK):
                self._inside()
                return []
            if not self._skip(_GROUP):
                raise _UnsupportedPatternError
        return self._inside()

    def _inside(self) -> list[_Literal]:
        literals = self._alternatives()
        self._at += 1  # the closing parenthesis
        return literals

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


def _literals_of(run: str) -> list[_Literal]:
    return [(text,) for text in _UNCHANGED.findall(run)]


def _min_length(literal: _Literal) -> int:
    return min(map(len, literal))


def _is_delimited(block: bytes | bytearray, position: int, after: int) -> bool:
    return (
        position > 0
        and block[position - 1] in _OPENING
        and after < len(block)
        and block[after] in _CLOSING
    )
