"""Values as JSON on one line: what JSON carries comes back, the rest can be read."""

import math
import re
import sys
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
    Secrets,
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
    """A mapping that fails when it is looked at."""

    def __iter__(self):
        raise ZeroDivisionError

    def items(self):
        raise ZeroDivisionError


@given(st.dictionaries(TEXT, JSON))
def test_what_json_can_carry_comes_back_equal(context):
    """Every mapping of strings to JSON values survives, on one line, exactly."""
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
def test_any_value_is_shown_as_well_as_it_can_be(value, shown):
    """Each kind of value has the form the module's table promises."""
    assert read_json(show_json({"value": value})) == {"value": shown}


def test_a_value_that_contains_itself_is_cut_where_it_does():
    """A cycle shows as such, and what is around it is shown."""
    context: dict[str, object] = {"a": 1}
    context["self"] = context
    context["list"] = [context]
    assert read_json(show_json(context)) == {
        "a": 1,
        "self": "<cycle>",
        "list": ["<cycle>"],
    }


def test_the_same_value_twice_is_no_cycle():
    """A shared value is shown at each of its places."""
    shared = {"x": math.nan}
    assert read_json(show_json({"a": shared, "b": shared})) == {
        "a": {"x": "NaN"},
        "b": {"x": "NaN"},
    }


@pytest.mark.parametrize("depth", [90, 200, 300, 5_000])
def test_any_depth_is_written(depth):
    """Deep nesting is written, and cut only where it goes beyond all reason."""
    value: object = "end"
    for _ in range(depth):
        value = [value]
    shown = read_json(show_json({"deep": value}))
    assert shown is not None
    if depth <= 200:
        assert shown == {"deep": value}


def test_long_things_are_shortened_and_say_how_long_they_are():
    """A buffer of sound, a huge repr, do not fill the log."""

    class Long:
        def __repr__(self) -> str:
            return "x" * 5_000

    shown = read_json(show_json({"pcm": bytes(96_000), "long": Long()}))
    assert shown is not None
    assert str(shown["pcm"]).endswith("… (96000 bytes)")
    assert str(shown["long"]).endswith("… (5000 characters)")
    assert len(str(shown)) < 3_000


def test_an_integer_beyond_what_python_prints_is_hexadecimal():
    """Python refuses to print more than 4,300 decimal digits."""
    shown = read_json(show_json({"n": 1 << 20_000}))
    assert shown == {"n": hex(1 << 20_000)}


def test_what_is_no_mapping_is_still_shown():
    """A context of the wrong type is no reason to lose the entry."""
    assert read_json(show_json(["a"])) == {"context": ["a"]}
    assert read_json(show_json(3)) == {"context": 3}


def test_a_mapping_that_fails_when_looked_at_raises_nothing():
    """The worst that a context can do is to be shown badly."""
    shown = read_json(show_json(MappingProxyType(Hostile(a=1))))
    assert shown is not None


def test_numbers_of_other_libraries_are_numbers():
    """What registers as a number, as numpy's do, is written as one."""
    numpy = pytest.importorskip("numpy")
    shown = show_json({"f": numpy.float32(0.5), "i": numpy.int16(7)})
    assert read_json(shown) == {"f": 0.5, "i": 7}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '"x"', '{"a":}', "{'a':1}", "[" * 100_000]
)
def test_what_is_no_object_is_none(text):
    """Anything but a JSON object is refused, and nothing is raised."""
    assert read_json(text) is None


def test_controls_in_a_context_cannot_drive_a_terminal():
    """C1 controls and DEL, which JSON allows raw, are escaped too."""
    text = show_json({"a": "\x9b31m\x7f\u2028\u202e", "\x85": 1})
    assert text.isascii()
    assert not CONTROL.search(text)
    assert read_json(text) == {"a": "\x9b31m\x7f\u2028\u202e", "\x85": 1}


def test_text_of_a_string_is_the_whole_string():
    """Only what is no string is shortened."""
    assert show_text("x" * 5_000) == "x" * 5_000
    assert show_text(None) == "None"
    assert sys.getrecursionlimit() > 0


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ('{"api_key":"abc"}', '{"api_key":"[redacted]"}'),
        ('{"a":{"OPENAI_API_KEY":"x\\"y"},"n":1}', None),
        ('{"headers":{"Authorization":"Bearer ey.abc-12345"}}', None),
        ("Authorization: Bearer abc.def.ghi12345", "Authorization: Bearer [redacted]"),
        ("{'password': 'a\"b'}", "{'password': '[redacted]'}"),
        ("http://x/?api_key=abc&x=1", "http://x/?api_key=[redacted]&x=1"),
        ("key sk-proj-ABCDEFGHIJKLMNOP_1234 end", "key sk-[redacted] end"),
        ("ephemeral ek_68af296e8e408191a1120", "ephemeral ek_[redacted]"),
        ('{"x-api-key":"abc","n":1}', '{"x-api-key":"[redacted]","n":1}'),
        ('{"clientSecret":"abc"}', '{"clientSecret":"[redacted]"}'),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text, hidden):
    """In JSON, in a repr, in an address, in plain text; JSON stays JSON."""
    shown = Secrets().hide(text)
    assert "[redacted]" in shown
    if hidden is not None:
        assert shown == hidden
    if text.startswith('{"'):
        assert read_json(shown) is not None


@pytest.mark.parametrize(
    "text",
    [
        "disk-full risk-free task-1",
        '{"max_tokens":4096,"total_token":12}',
        "the bearer of bad news",
        '{"keys":"a","monkey":"b","passing":"c","authors":"d"}',
        "n=3",
        "",
    ],
)
def test_what_is_no_secret_is_shown(text):
    """Counts of tokens, words that resemble."""
    assert Secrets().hide(text) == text


def test_given_texts_are_hidden_wherever_they_are():
    """Also as they stand escaped in JSON."""
    secrets = Secrets()
    secrets.add("hunter2", 'a"b', "")
    assert secrets.hide("it is hunter2!") == "it is [redacted]!"
    assert secrets.hide(show_json({"x": 'a"b'})) == '{"x":"[redacted]"}'
    assert secrets.hide("hunter3") == "hunter3"
