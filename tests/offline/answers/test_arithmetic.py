"""Numbers in words and sums of them, with a recogniser's slips."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.offline.answers import arithmetic

WHOLE = st.integers(-(10**11), 10**11)
OPERATORS = st.sampled_from([("plus", "+"), ("minus", "-"), ("times", "*")])


@given(WHOLE)
def test_a_spelled_number_is_read_back(number: int):
    """Spelling and reading are each other's inverse."""
    words = arithmetic.tokens(arithmetic.spell(number))
    assert arithmetic.read_number(words, 0) == (Fraction(number), len(words))


@given(st.integers(0, 10**6))
def test_hundredths_survive_spelling(hundredths: int):
    """Two places after the point are spelled and read."""
    number = Fraction(hundredths, 100)
    words = arithmetic.tokens(arithmetic.spell(number))
    assert arithmetic.read_number(words, 0) == (number, len(words))


@given(WHOLE, OPERATORS, WHOLE, OPERATORS, st.integers(0, 999))
def test_a_spoken_sum_comes_to_what_python_says(a, first, b, second, c):
    """Words give the same as digits, times before plus."""
    text = " ".join(
        [
            *("what is", arithmetic.spell(a), first[0]),
            *(arithmetic.spell(b), second[0], arithmetic.spell(c)),
        ]
    )
    found = arithmetic.evaluate(text)
    assert found is not None
    expected = eval(f"({a}) {first[1]} ({b}) {second[1]} {c}")
    assert found.result == expected


@given(st.text())
def test_no_text_breaks_it(text: str):
    """Whatever was heard, the answer is a sum or none."""
    found = arithmetic.evaluate(text)
    assert found is None or len(found.numbers) == len(found.operators) + 1


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("what is seven plus five", 12),
        ("what is 7+5?", 12),
        ("what is two plus for", 6),
        ("what is to class for", 6),
        ("what is forty to minus ate", 34),
        ("one hundred divided by eight", Fraction(25, 2)),
        ("twelve times eleven", 132),
        ("3 \u00d7 \u22124", -12),
        ("1,000 \u00f7 8", 125),
        ("a hundred and five plus a million", 1_000_105),
        ("twenty-two multiplied by two", 44),
        ("ten take away three", 7),
    ],
)
def test_sums_are_found_in_what_was_heard(text, result):
    """Digits, words, signs and slips."""
    found = arithmetic.evaluate(text)
    assert found is not None
    assert found.result == result


@pytest.mark.parametrize(
    "text",
    ["I went to the shop", "two for the road", "plus five", "seven plus", "the times"],
)
def test_other_sentences_are_no_sums(text):
    """Slips count beside an operator only."""
    assert arithmetic.evaluate(text) is None


def test_division_by_zero_has_no_result():
    """It is a sum, but it comes to nothing."""
    found = arithmetic.evaluate("ten divided by zero")
    assert found is not None
    assert found.result is None


def test_a_sum_is_said_in_words():
    """The answer repeats what was understood."""
    found = arithmetic.evaluate("7 + 5 * 2")
    assert found is not None
    assert found.said == "seven plus five times two"


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("count to three", range(1, 4)),
        ("please count from eight to ten", range(8, 11)),
        ("count", None),
        ("count on me", None),
        ("count from here to there", None),
    ],
)
def test_counting_is_asked_for(text, counted):
    """With a start or without."""
    assert arithmetic.read_range(text) == counted
