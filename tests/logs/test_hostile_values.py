"""Log calls with all kinds of values: a table of special cases, and random values."""

import asyncio
import enum
import math
import re
from collections import deque
from dataclasses import dataclass
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.logs import Level, Logger, parse_line
from realtalk_async.logs.serialize import CONTROLS

CONTROL = re.compile(f"[{CONTROLS}]")
FORMATS = ["text", "iso", "json"]
FORGED = "\n[2025-05-13 14:30:22] [ERROR] [x] forged"
KEY = "sk-proj-0123456789abcdefghij"


class ReprRaises:
    def __repr__(self) -> str:
        raise ValueError("no")


class ReprForges:
    def __repr__(self) -> str:
        return f"\x1b[31m{FORGED}"


class ReprIsNoText:
    def __repr__(self):
        return 3


class ReprRecurses:
    def __repr__(self) -> str:
        return repr(self)


class RefusesAll:
    def __getattribute__(self, name):
        raise RuntimeError(name)


class Nameless(type):
    @property
    def __name__(cls):  # type: ignore[override]
        raise ValueError("no name")


class OfNameless(metaclass=Nameless):
    def __repr__(self) -> str:
        raise ValueError("no")


class Text(str):
    """A string whose methods raise, except for its characters."""

    __slots__ = ()

    def __str__(self) -> str:
        raise ValueError

    def __format__(self, spec):
        raise ValueError

    def __eq__(self, other):
        raise ValueError

    def __hash__(self):
        raise ValueError


class BadMapping(dict):
    def __iter__(self):
        raise ZeroDivisionError

    def items(self):
        raise ZeroDivisionError


class Undecided(dict):
    """A mapping whose truth value raises."""

    def __bool__(self):
        raise ValueError

    __len__ = __bool__


class Odd(enum.Enum):
    NAN = math.nan


@dataclass
class Node:
    next: object = None


def nested(depth):
    value: object = "end"
    for _ in range(depth):
        value = [value]
    return value


def cycle():
    value: dict[str, object] = {}
    value["self"] = value
    return value


def loop():
    node = Node()
    node.next = node
    return node


# A value of the context, and its form in the entry.
TABLE = [
    ("a newline", FORGED, FORGED),
    ("ANSI", "\x1b[31mred\x1b[0m\x9b1m", "\x1b[31mred\x1b[0m\x9b1m"),
    ("a zero", "\x00", "\x00"),
    ("separators of lines", "\u2028\x85\x0b\x0c\x1c", "\u2028\x85\x0b\x0c\x1c"),
    ("an override of direction", "\u202egpj.exe", "\u202egpj.exe"),
    ("a lone surrogate", "\ud800", "\ud800"),
    ("a quote and a backslash", '"\\', '"\\'),
    ("NaN", math.nan, "NaN"),
    ("infinity", -math.inf, "-Infinity"),
    ("NaN in an enumeration", Odd.NAN, "NaN"),
    ("bytes", b"\x00\xff", r"b'\x00\xff'"),
    ("more than 64 bits", 2**70, 2**70),
    ("5,000 digits", 10**5000, hex(10**5000)),
    ("a cycle", cycle(), {"self": "<cycle>"}),
    ("a cycle of objects", loop(), {"next": "<cycle>"}),
    ("90 levels", nested(90), nested(90)),
    (
        "keys that are not strings",
        {1: 2, None: 3, (4,): 5},
        {"1": 2, "None": 3, "(4,)": 5},
    ),
    ("a set, a deque", [{2, 1}, deque([3])], [[1, 2], [3]]),
    ("a proxy", MappingProxyType({"a": 1}), {"a": 1}),
    ("a repr that raises", ReprRaises(), "<ReprRaises whose repr raised ValueError>"),
    ("a repr that forges", ReprForges(), f"\x1b[31m{FORGED}"),
    (
        "a repr that is not a string",
        ReprIsNoText(),
        "<ReprIsNoText whose repr raised TypeError>",
    ),
    ("a class without a name", OfNameless(), "<object whose repr raised ValueError>"),
    ("a string that raises", Text("text"), "text"),
    ("a megabyte", "x" * 1_000_000, "x" * 1_000_000),
    ("an API key", f"my {KEY}!", "my sk-[redacted]!"),
    ("an ephemeral key", "ek_68af296e8e408191a1120", "ek_[redacted]"),
    ("a bearer token", "Bearer abcdef.012345-ABCDE", "Bearer [redacted]"),
    ("an address with a key", "x?api_key=abcd&n=1", "x?api_key=[redacted]&n=1"),
    ("a telling name", {"password": "abcd"}, {"password": "[redacted]"}),
    ("a telling name in a list", [{"api-key": "abcd"}], [{"api-key": "[redacted]"}]),
    ("a secret of the app", "my hunter2", "my [redacted]"),
]
# Values for which only an entry is guaranteed, not its form.
UNREADABLE = [
    ("a repr that recurses", ReprRecurses()),
    ("an object that refuses all", RefusesAll()),
    ("a mapping that raises", BadMapping(a=1)),
    ("a mapping whose truth value raises", Undecided(a=1)),
    ("5,000 levels", nested(5_000)),
]
# By name, because pytest formats the parameters of a test.
SHOWN = {name: (value, shown) for name, value, shown in TABLE}
VALUES = {name: value for name, value, *_ in [*TABLE, *UNREADABLE]}
PLACES = ["component", "message", "context", "value", "key"]


def fits_place(name, place):
    """Whether a dict takes the value as a key, if that is the place."""
    try:
        return place != "key" or bool({VALUES[name]: 1})
    except (TypeError, ValueError, RuntimeError):
        return False


def only_entry(path):
    """Return the one entry of a log; it must be one line without control characters."""
    data = path.read_bytes()
    assert data.count(b"\n") == 1
    assert data.endswith(b"\n")
    assert not CONTROL.search(data[:-1].decode())
    entry = parse_line(data)
    assert entry is not None
    return entry


@pytest.mark.parametrize("line_format", FORMATS)
@pytest.mark.parametrize("name", SHOWN)
def test_any_value_in_a_context_is_written_on_one_line_and_keeps_its_neighbours(
    tmp_path, name, line_format
):
    value, shown = SHOWN[name]
    for level in Level:
        path = tmp_path / f"{level}.log"
        logger = Logger(path, line_format=line_format, secrets=["hunter2"])
        logger.log(level, "mic", "a message", {"before": 1, "value": value, "after": 2})
        entry = only_entry(path)
        assert (entry.level, entry.component) == (level, "mic")
        assert entry.message == "a message"
        assert entry.context == {"before": 1, "value": shown, "after": 2}


@pytest.mark.parametrize("line_format", FORMATS)
@pytest.mark.parametrize("name", VALUES)
def test_any_value_as_any_argument_gives_one_entry_without_secrets(
    tmp_path, name, line_format
):
    for place in PLACES:
        if fits_place(name, place):
            log_value_at(place, VALUES[name], tmp_path / f"{place}.log", line_format)


def log_value_at(place, value, path, line_format):
    """Log *value* as one of the arguments, and check the entry."""
    logger = Logger(path, line_format=line_format, secrets=["hunter2"])
    given = {"component": "mic", "message": "a message", "context": {"a": 1}}
    if place == "value":
        given["context"] = {"value": [value]}
    elif place == "key":
        given["context"] = {value: 1}
    else:
        given[place] = value
    logger.info(**given)
    entry = only_entry(path)
    assert entry.level is Level.INFO
    if place != "component":
        assert entry.component == "mic"
    if place not in {"component", "message"}:
        assert entry.message == "a message"
    text = path.read_text()
    assert KEY[3:] not in text
    assert "hunter2" not in text
    assert "abcd" not in text.replace("abcdef.", "")


PIECES = st.sampled_from(
    [
        "\\",
        '{"',
        ' {"',
        "]",
        "[",
        " ",
        "\n",
        "\x1b[31m",
        ":",
        "}",
        "n",
        "'",
        "=",
        "\ud800",
    ]
)
TEXTS = st.text(st.characters()) | st.lists(PIECES).map("".join)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
)


@pytest.mark.parametrize("line_format", FORMATS)
def test_get_logs_returns_entries_exactly_as_they_were_logged(
    tmp_path_factory, line_format
):
    logger = Logger(
        tmp_path_factory.mktemp("fuzz") / "app.log", line_format=line_format
    )
    logged: list[tuple[object, ...]] = []

    @given(st.sampled_from(Level), TEXTS, TEXTS, st.dictionaries(TEXTS, ANY))
    def log(level, component, message, context):
        logger.log(level, component, message, context)
        known = {key: _finite(value) for key, value in context.items()}
        logged.append((level, component, message, known))

    log()
    found = asyncio.run(logger.get_logs())
    assert [(e.level, e.component, e.message, e.context) for e in found] == logged


def _finite(value):
    """Return *value* as it is written: JSON has no infinity."""
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value
