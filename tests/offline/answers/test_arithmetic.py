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
    words = arithmetic.tokens(arithmetic.spell(number))
    assert arithmetic.read_number(words, 0) == (Fraction(number), len(words))


@given(st.integers(0, 10**6))
def test_two_decimal_places_are_spelled_and_read_back(hundredths: int):
    number = Fraction(hundredths, 100)
    words = arithmetic.tokens(arithmetic.spell(number))
    assert arithmetic.read_number(words, 0) == (number, len(words))


@given(WHOLE, OPERATORS, WHOLE, OPERATORS, st.integers(0, 999))
def test_a_sum_in_words_has_the_result_of_python(a, first, b, second, c):
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
def test_every_text_is_a_sum_or_none(text: str):
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
def test_sums_are_found_in_digits_words_signs_and_homophones(text, result):
    found = arithmetic.evaluate(text)
    assert found is not None
    assert found.result == result


@pytest.mark.parametrize(
    "text",
    ["I went to the shop", "two for the road", "plus five", "seven plus", "the times"],
)
def test_other_sentences_are_no_sums(text):
    """Homophones count beside an operator only."""
    assert arithmetic.evaluate(text) is None


def test_division_by_zero_has_no_result():
    found = arithmetic.evaluate("ten divided by zero")
    assert found is not None
    assert found.result is None


def test_a_sum_has_its_words():
    found = arithmetic.evaluate("7 + 5 * 2")
    assert found is not None
    assert found.words == "seven plus five times two"


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
def test_the_range_of_a_count_is_read(text, counted):
    assert arithmetic.read_range(text) == counted
