"""
Values as JSON on one line; without I/O.

`show_json` never raises: a value that JSON cannot carry is written as readable text, and
no value can end the line or send control sequences to a terminal.

    ====================================  =======================================
    value                                 is written as
    ====================================  =======================================
    NaN, infinity                         ``"NaN"``, ``"Infinity"``, ``"-Infinity"``
    bytes                                 ``"b'\\\\x00\\\\x01'"``, the first 256 and the count
    an integer of any size                its digits (hexadecimal beyond 4,000 digits)
    a lone surrogate                      ``\\ud800``
    a key that is not a string            its ``str()``
    a value that contains itself          ``"<cycle>"``
    more than 100 levels                  the ``repr`` of the value at that level
    a set, a deque                        a list
    a path, a timedelta, a Decimal        its ``str()``
    an exception                          ``"ValueError: its message"``
    any other object                      its ``repr``, the first 1,000 characters
    an object whose ``repr`` raises       ``"<Thing whose repr raised ValueError>"``
    ====================================  =======================================
"""

from __future__ import annotations

import json
import numbers
import os
import re
from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from math import isfinite, isnan
from typing import TYPE_CHECKING, cast

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_REPR = 1_000
"""Characters of an object's ``repr`` that are shown."""

MAX_BYTES = 256
"""Bytes of a bytes value that are shown."""

MAX_DEPTH = 100
"""Levels of nesting that are written, where orjson cannot write the value."""

CONTROLS = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
"""
Characters that are always escaped in a log, as the inside of a character class.

C0 and C1 controls (newlines, escape sequences), the two Unicode line separators, the
marks and overrides that reverse the direction of text, and lone surrogates.
"""

_CONTROL = re.compile(f"[{CONTROLS}]")
# Integers that orjson may read as floats: more digits than 64 bits always hold.
_LONG_INTEGER = re.compile(r"(?<![\d.eE+])-?\d{19}")
# Python refuses to write longer integers (sys.set_int_max_str_digits), except in base 16.
_LONGEST_INTEGER = 10**4000
_PLAIN = (str, int, bool, type(None))


def show_json(context: object) -> str:
    """
    Return *context* as a JSON object on one line, without spaces between its parts.

    Args:
        context: A mapping; any other value is written as ``{"context": …}``.

    Returns:
        Text that begins with ``{`` and contains no control character.
    """
    try:
        return escape_json(_json_of(context))
    except Exception:  # noqa: BLE001 - a log call never raises
        return escape_json(json.dumps({"context": show_repr(context)}))


def is_something(context: object) -> bool:
    """Whether *context* is not empty; never raises."""
    try:
        return bool(context)
    except Exception:  # noqa: BLE001 - foreign code: __bool__, __len__
        return True


def read_json(text: str) -> dict[str, object] | None:
    """
    Return *text* as a JSON object, or `None` if it is not one.

    Integers of any size and lone surrogates are read exactly.
    """
    value = _read(text)
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def escape_json(text: str) -> str:
    """Return JSON *text* with each control character as its ``\\u`` escape."""
    # Control characters are in strings only: JSON's structure is printable ASCII.
    if text.isascii() and "\x7f" not in text:
        return text
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def show_object(value: object) -> object:
    """Return a value that orjson can write in place of *value*; never raises."""
    try:
        return _converted(value)
    except Exception:  # noqa: BLE001 - foreign code: __iter__, __float__, __fspath__
        return show_repr(value)


def show_repr(value: object) -> str:
    """Return the ``repr`` of *value*, shortened; never raises."""
    return _call_safely(repr, value)


def show_text(value: object) -> str:
    """Return the ``str`` of *value*, whole if it is a string; never raises."""
    if issubclass(type(value), str):  # isinstance would ask the value for its class
        return str.__str__(cast("str", value))
    return _call_safely(str, value)


def _call_safely(convert: Callable[[object], str], value: object) -> str:
    """Return what *convert*, ``str`` or ``repr``, returns, shortened; never raises."""
    try:
        text = str.__str__(convert(value))
    except Exception as error:  # noqa: BLE001 - foreign code
        return f"<{_name_of(value)} whose repr raised {type(error).__name__}>"
    if len(text) <= MAX_REPR:
        return text
    return f"{text[:MAX_REPR]}… ({len(text)} characters)"


def _name_of(value: object) -> str:
    try:
        return str.__str__(type(value).__name__)
    except Exception:  # noqa: BLE001 - foreign code: a metaclass
        return "object"


def _json_of(context: object) -> str:
    if not isinstance(context, Mapping):
        context = {"context": context}
    elif not isinstance(context, dict):
        context = dict(cast("Mapping[str, object]", context))
    values = cast("dict[str, object]", context)
    return _dump_with_orjson(values) or _dump_with_json(values)


def _dump_with_orjson(context: Mapping[str, object]) -> str | None:
    """Return the JSON of orjson, or `None` if orjson fails or would lose a number."""
    try:
        text = orjson.dumps(context, show_object).decode()
    except TypeError:  # orjson.JSONEncodeError among them
        return None
    # orjson writes NaN and the infinities as null.
    if "null" in text and _has_special_float(context):
        return None
    return text


def _has_special_float(value: object) -> bool:
    """Whether *value* contains, or may contain, a NaN or an infinity."""
    if isinstance(value, _PLAIN):
        return False
    if isinstance(value, float):
        return not isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_special_float, cast("dict[str, object]", value).values()))
    if isinstance(value, (list, tuple)):
        return any(map(_has_special_float, cast("list[object]", value)))
    return True


def _dump_with_json(context: Mapping[str, object]) -> str:
    """Return the JSON of the standard library, after the conversion of each value."""
    plain = _plain(context, ())
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _plain(value: object, above: tuple[int, ...]) -> object:
    """Return *value* as strings, numbers, lists and dicts; *above* are its parents' ids."""
    if value is None or isinstance(value, (str, bool)):
        return str.__str__(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return _integer(int(value))
    if isinstance(value, float):
        return _number(float(value))
    if id(value) in above:
        return "<cycle>"
    if len(above) >= MAX_DEPTH:
        return show_repr(value)
    return _container(value, (*above, id(value)))


def _container(value: object, above: tuple[int, ...]) -> object:
    if isinstance(value, (list, tuple)):
        return [_plain(item, above) for item in cast("list[object]", value)]
    if isinstance(value, Mapping):
        return _mapping(cast("Mapping[object, object]", value), above)
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value) if field.name[:1] != "_"]
        return {name: _plain(getattr(value, name), above) for name in names}
    if isinstance(value, Enum):
        return _plain(cast("object", value.value), above)
    return _leaf(value, above)


def _mapping(value: Mapping[object, object], above: tuple[int, ...]) -> object:
    shown: dict[str, object] = {}
    for key, item in value.items():
        name = show_text(key)
        while name in shown:  # 1 and "1" are two keys in Python, but one in JSON
            name += "'"
        shown[name] = _plain(item, above)
    return shown


def _leaf(value: object, above: tuple[int, ...]) -> object:
    """Return the form of orjson for an object, or that of this module."""
    converted = show_object(value)
    if not isinstance(converted, str) or type(converted) is not str:
        return _plain(converted, above)
    try:
        native: object = orjson.loads(orjson.dumps(value))
    except TypeError:
        return converted
    return native


def _integer(value: int) -> int | str:
    return value if abs(value) < _LONGEST_INTEGER else hex(value)


def _number(value: float) -> float | str:
    if isfinite(value):
        return value
    return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _converted(value: object) -> object:
    """Return a simpler value for the types of the table above."""
    match value:
        case bytes() | bytearray() | memoryview():
            return _bytes(cast("bytes", value))
        case Mapping():
            return dict(cast("Mapping[object, object]", value))
        case AbstractSet():
            return _in_order(cast("AbstractSet[object]", value))
        case deque():
            return list(cast("deque[object]", value))
        case os.PathLike() | timedelta() | Decimal() | Fraction():
            return str(cast("object", value))
        case BaseException():
            return f"{type(value).__name__}: {show_text(value)}"
        case numbers.Integral():
            return int(value)
        case numbers.Real():
            return _number(float(value))
        case _:
            return show_repr(value)


def _bytes(value: bytes | bytearray | memoryview[int]) -> str:
    size = value.nbytes if isinstance(value, memoryview) else len(value)
    shown = repr(bytes(value[:MAX_BYTES]))
    return shown if size <= MAX_BYTES else f"{shown}… ({size} bytes)"


def _in_order(values: AbstractSet[object]) -> list[object]:
    try:
        return cast("list[object]", sorted(cast("AbstractSet[str]", values)))
    except TypeError:
        return sorted(values, key=show_repr)


def _read(text: str) -> object:
    try:
        if not _LONG_INTEGER.search(text):
            return cast("object", orjson.loads(text))
    except ValueError:
        pass  # a lone surrogate, a NaN: the standard library takes them
    try:
        return cast("object", json.loads(text))
    except (ValueError, RecursionError):
        return None
