"""Values as JSON on one line: values of JSON exactly, other values readable."""

import math
import re
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePosixPath
from types import MappingProxyType
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.logs.serialize import (
    CONTROLS,
    read_json,
    show_json,
    show_text,
)

CONTROL = re.compile(f"[{CONTROLS}]")

TEXT = st.text(st.characters())
"""Any text, controls and lone surrogates included."""

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


class Color(Enum):
    RED = "red"


@dataclass
class Point:
    x: float
    y: float
    _secret: int = 0


class Unreadable:
    def __repr__(self) -> str:
        raise ValueError("no")


class Hostile(dict):
    """A mapping whose methods raise."""

    def __iter__(self):
        raise ZeroDivisionError

    def items(self):
        raise ZeroDivisionError


@given(st.dictionaries(TEXT, JSON))
def test_values_of_json_are_read_back_equal(context):
    text = show_json(context)
    assert read_json(text) == context
    assert not CONTROL.search(text)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        ([1.5, [math.nan]], [1.5, ["NaN"]]),
        (None, None),
        (b"\x00\x01", r"b'\x00\x01'"),
        (bytearray(b"ab"), "b'ab'"),
        (memoryview(b"ab"), "b'ab'"),
        (2**70, 2**70),
        (-(2**64), -(2**64)),
        (10**18, 10**18),
        (2**64 - 1, 2**64 - 1),
        ("\ud800", "\ud800"),
        ({1: "a"}, {"1": "a"}),
        ({None: 1, (1, 2): 2}, {"None": 1, "(1, 2)": 2}),
        ({"1": "a", 1: "b"}, {"1": "a", "1'": "b"}),
        ((1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"a"}), ["a"]),
        (deque([1, 2]), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (MappingProxyType({"a": math.nan}), {"a": "NaN"}),
        (PurePosixPath("/tmp/x"), "/tmp/x"),
        (timedelta(seconds=202), "0:03:22"),
        (Decimal("1.10"), "1.10"),
        (Fraction(1, 3), "1/3"),
        (ValueError("boom"), "ValueError: boom"),
        (Color.RED, "red"),
        ([Color.RED, math.nan], ["red", "NaN"]),
        (datetime(2025, 5, 13, 14, 30, tzinfo=UTC), "2025-05-13T14:30:00+00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Point(1, 2), {"x": 1, "y": 2}),
        (Point(1, math.nan), {"x": 1, "y": "NaN"}),
        (Unreadable(), "<Unreadable whose repr raised ValueError>"),
        (int, "<class 'int'>"),
        (range(10**9), "range(0, 1000000000)"),
        (1 + 2j, "(1+2j)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_values_have_the_documented_form(value, shown):
    assert read_json(show_json({"value": value})) == {"value": shown}


def test_a_cycle_is_cut_and_its_neighbours_are_written():
    context: dict[str, object] = {"a": 1}
    context["self"] = context
    context["list"] = [context]
    assert read_json(show_json(context)) == {
        "a": 1,
        "self": "<cycle>",
        "list": ["<cycle>"],
    }


def test_a_shared_value_is_not_a_cycle():
    shared = {"x": math.nan}
    assert read_json(show_json({"a": shared, "b": shared})) == {
        "a": {"x": "NaN"},
        "b": {"x": "NaN"},
    }


@pytest.mark.parametrize("depth", [90, 200, 300, 5_000])
def test_nesting_is_written_to_the_maximum_depth(depth):
    value: object = "end"
    for _ in range(depth):
        value = [value]
    shown = read_json(show_json({"deep": value}))
    assert shown is not None
    if depth <= 200:
        assert shown == {"deep": value}


def test_long_values_are_shortened_and_their_length_is_written():
    class Long:
        def __repr__(self) -> str:
            return "x" * 5_000

    shown = read_json(show_json({"pcm": bytes(96_000), "long": Long()}))
    assert shown is not None
    assert str(shown["pcm"]).endswith("… (96000 bytes)")
    assert str(shown["long"]).endswith("… (5000 characters)")
    assert len(str(shown)) < 3_000


def test_an_integer_of_more_than_4000_digits_is_hexadecimal():
    """Python refuses to print more than 4,300 decimal digits."""
    shown = read_json(show_json({"n": 1 << 20_000}))
    assert shown == {"n": hex(1 << 20_000)}


def test_a_context_that_is_not_a_mapping_is_written():
    assert read_json(show_json(["a"])) == {"context": ["a"]}
    assert read_json(show_json(3)) == {"context": 3}


def test_a_mapping_whose_methods_raise_is_written():
    shown = read_json(show_json(MappingProxyType(Hostile(a=1))))
    assert shown is not None


def test_numbers_of_numpy_are_written_as_numbers():
    numpy = pytest.importorskip("numpy")
    shown = show_json({"f": numpy.float32(0.5), "i": numpy.int16(7)})
    assert read_json(shown) == {"f": 0.5, "i": 7}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '"x"', '{"a":}', "{'a':1}", "[" * 100_000]
)
def test_text_that_is_not_a_json_object_is_read_as_none(text):
    assert read_json(text) is None


def test_all_control_characters_in_a_context_are_escaped():
    """JSON allows C1 controls and DEL."""
    text = show_json({"a": "\x9b31m\x7f\u2028\u202e", "\x85": 1})
    assert text.isascii()
    assert not CONTROL.search(text)
    assert read_json(text) == {"a": "\x9b31m\x7f\u2028\u202e", "\x85": 1}


def test_show_text_does_not_shorten_strings():
    assert show_text("x" * 5_000) == "x" * 5_000
    assert show_text(None) == "None"
