"""
Numbers in words, and sums of them.

`evaluate` finds a sum in recognised words and tolerates homophones: "what is two plus
for" is a sum, "I went to the shop" is not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
    *("seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = {"billion": 10**9, "million": 10**6, "thousand": 1000}

_HOMOPHONES = {
    "oh": 0,
    "won": 1,
    "to": 2,
    "too": 2,
    "free": 3,
    "for": 4,
    "fore": 4,
    "sex": 6,
    "ate": 8,
    "tan": 10,
    "fourty": 40,
}
"""Words that recognisers find for numbers; they count only beside an operator."""
_VALUES = {
    **{word: value for value, word in enumerate(_SMALL)},
    **{word: 20 + 10 * index for index, word in enumerate(_TENS)},
    **_HOMOPHONES,
}

_OPERATORS = {
    "plus": "+",
    "add": "+",
    "class": "+",
    "+": "+",
    "minus": "-",
    "less": "-",
    "-": "-",
    "times": "*",
    "time": "*",
    "x": "*",
    "*": "*",
    "over": "/",
    "/": "/",
}
_PHRASES = (
    (re.compile(r"[\u2212\u2013]"), "-"),
    (re.compile(r"[\u00d7\u00b7]"), "*"),
    (re.compile(r"\u00f7"), "/"),
    (re.compile(r"\badded to\b"), "plus"),
    (re.compile(r"\btake away\b"), "minus"),
    (re.compile(r"\bmultiplied (by|buy|bye)\b"), "times"),
    (re.compile(r"\bdivided? (by|buy|bye)\b"), "over"),
)
_TOKEN = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|[a-z']+|[-+*/]")
_SAID = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}

_LIMIT = 10**12
"""Numbers beyond this are not spelled out."""


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum and its result."""

    numbers: tuple[Fraction, ...]
    operators: tuple[str, ...]
    """``+ - * /``, one between each two numbers."""
    result: Fraction | None
    """``None`` after a division by zero."""

    @property
    def words(self) -> str:
        """The sum in words, ``seven plus five``."""
        words = [spell(self.numbers[0])]
        for operator, number in zip(self.operators, self.numbers[1:], strict=True):
            words += [_SAID[operator], spell(number)]
        return " ".join(words)


def tokens(text: str) -> list[str]:
    """Split *text* into lower-case words, numbers and operator signs."""
    text = text.lower()
    for pattern, word in _PHRASES:
        text = pattern.sub(word, text)
    found: list[str] = _TOKEN.findall(re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text))
    return found


def spell(number: Fraction | int) -> str:
    """
    Return *number* in words; rounded to two places if it is not whole.

    >>> spell(112), spell(Fraction(7, 2)), spell(-3)
    ('one hundred and twelve', 'three point five', 'minus three')
    """
    number = Fraction(number)
    if number < 0:
        return f"minus {spell(-number)}"
    whole, rest = divmod(round(number * 100), 100)
    if whole >= _LIMIT:
        return f"{whole}"
    if not rest:
        return _spell_whole(whole)
    digits = f"{rest:02d}".rstrip("0")
    return f"{_spell_whole(whole)} point {' '.join(_SMALL[int(d)] for d in digits)}"


def _spell_whole(number: int) -> str:
    if number < 20:
        return _SMALL[number]
    if number < 100:
        tens, rest = divmod(number, 10)
        return _TENS[tens - 2] + (f" {_SMALL[rest]}" if rest else "")
    scales = {**_SCALES, "hundred": 100}
    name = next(name for name, value in scales.items() if number >= value)
    count, rest = divmod(number, scales[name])
    text = f"{_spell_whole(count)} {name}"
    if not rest:
        return text
    return f"{text} {'and ' if rest < 100 else ''}{_spell_whole(rest)}"


def read_number(words: list[str], start: int) -> tuple[Fraction, int] | None:
    """
    Read the longest number at *start*.

    Returns:
        Its value and the index after it, or ``None`` if there is no number.
    """
    if start < len(words) and words[start] in ("-", "minus"):
        read = read_number(words, start + 1)
        return read and (-read[0], read[1])
    if start < len(words) and words[start][0].isdigit():
        return Fraction(words[start].replace(",", "")), start + 1
    whole = _read_whole(words, start)
    return whole and _read_decimals(words, whole[1], Fraction(whole[0]))


def _read_whole(words: list[str], at: int) -> tuple[int, int] | None:
    """Read "two thousand and forty two"."""
    total = group = 0
    room, smallest_scale, end = 1000, _LIMIT, None
    while True:
        in_number = end is not None
        if in_number and room >= 100 and _word(words, at) == "and":
            at += 1
        word = _word(words, at)
        value, scale = _VALUES.get(word, room), _SCALES.get(word, _LIMIT)
        if value < room and (value or not in_number):
            # A word adds only what the words before it left open: "twenty" a digit.
            group, room = group + value, 10 if value >= 20 else 1
        elif word == "hundred" and 0 < group < 10:
            group, room = 100 * group, 100
        elif scale < smallest_scale and group:
            total, group, room, smallest_scale = total + scale * group, 0, 1000, scale
        elif word in ("a", "an") and room == 1000 and _is_unit(_word(words, at + 1)):
            group, room = 1, 1
        else:
            return None if end is None else (total + group, end)
        end = at = at + 1


def _is_unit(word: str) -> bool:
    return word == "hundred" or word in _SCALES


def _word(words: list[str], at: int) -> str:
    return words[at] if at < len(words) else ""


def _read_decimals(words: list[str], at: int, whole: Fraction) -> tuple[Fraction, int]:
    """Read "point two five" behind *whole*."""
    if at >= len(words) or words[at] != "point":
        return whole, at
    end, value, place = at + 1, whole, Fraction(1, 10)
    while end < len(words) and _VALUES.get(words[end], 10) < 10:
        value += _VALUES[words[end]] * place
        place /= 10
        end += 1
    return (value, end) if end > at + 1 else (whole, at)


def evaluate(text: str) -> Sum | None:
    """
    Find the longest sum in *text* and work it out, times before plus.

    >>> evaluate("what is seven plus five").result
    Fraction(12, 1)
    """
    words = tokens(text)
    found = [read for at in range(len(words)) if (read := _read_sum(words, at))]
    return max(found, key=lambda read: len(read.numbers), default=None)


def _read_sum(words: list[str], at: int) -> Sum | None:
    first = read_number(words, at)
    if first is None:
        return None
    value, at = first
    numbers, operators = [value], list[str]()
    while at < len(words) and words[at] in _OPERATORS:
        following = read_number(words, at + 1)
        if following is None:
            break
        operators.append(_OPERATORS[words[at]])
        value, at = following
        numbers.append(value)
    if not operators:
        return None
    return Sum(tuple(numbers), tuple(operators), _work_out(numbers, operators))


def _work_out(numbers: list[Fraction], operators: list[str]) -> Fraction | None:
    terms = [numbers[0]]
    for operator, number in zip(operators, numbers[1:], strict=True):
        if operator == "/" and number == 0:
            return None
        match operator:
            case "*":
                terms[-1] *= number
            case "/":
                terms[-1] /= number
            case "-":
                terms.append(-number)
            case _:
                terms.append(number)
    return sum(terms, Fraction(0))


def read_range(text: str) -> range | None:
    """Find "count to ten" or "count from three to nine" in *text*."""
    words = tokens(text)
    if "count" not in words:
        return None
    at = words.index("count") + 1
    start = 1
    if words[at : at + 1] == ["from"]:
        read = read_number(words, at + 1)
        if read is None:
            return None
        start, at = int(read[0]), read[1]
    if words[at : at + 1] not in (["to"], ["two"], ["too"]):
        return None
    last = read_number(words, at + 1)
    return range(start, int(last[0]) + 1) if last else None


def as_number_word(word: str) -> str:
    """Return the number word that is probably meant: ``two`` for ``to``."""
    return spell(_HOMOPHONES[word]) if word in _HOMOPHONES else word


def ends_in_number(words: list[str]) -> bool:
    """Whether the last of *words* is a number, or the end of one."""
    return bool(words) and (words[-1] in _VALUES or _is_unit(words[-1]))
