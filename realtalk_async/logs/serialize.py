"""
Any value as JSON on one line, shown as well as it can be, but for secrets (pure).

`show_json` never raises: what JSON cannot carry is written as text that a person can
read, and nothing in it can end the line or drive a terminal.

    ====================================  =======================================
    value                                 is written as
    ====================================  =======================================
    NaN, infinity                         ``"NaN"``, ``"Infinity"``, ``"-Infinity"``
    bytes                                 ``"b'\\\\x00\\\\x01'"``, the first 256 and the count
    an integer of any size                its digits (hexadecimal beyond 4,000 digits)
    a lone surrogate                      ``\\ud800``
    a key that is no string               its ``str()``
    a value that contains itself          ``"<cycle>"``
    more than 100 levels                  the ``repr`` of what lies below
    a set, a deque                        a list
    a path, a timedelta, a Decimal        its ``str()``
    an exception                          ``"ValueError: its message"``
    any other object                      its ``repr``, the first 1,000 characters
    an object that cannot even do that    ``"<Thing whose repr raised ValueError>"``
    ====================================  =======================================

`Secrets` hides what must not be shown: API keys, bearer tokens, the values of keys with
telling names, and any text that it is given.
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

LONGEST_REPR = 1_000
"""Characters of an object's ``repr`` that are shown."""

LONGEST_BYTES = 256
"""Bytes of a bytes value that are shown."""

DEEPEST = 100
"""Levels of nesting that are followed outside orjson's own fast path."""

CONTROLS = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
"""
What must not reach a log as it is, as the inside of a character class.

C0 and C1 controls (newlines, escape sequences), the two Unicode line separators,
the marks and overrides that reverse the direction of text, and lone surrogates.
"""

REDACTED = "[redacted]"
"""What stands for a secret."""

_SECRET = [
    "api_key",
    "apikey",
    "access_key",
    "secret_key",
    "private_key",
    "client_secret",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "token",
    "access_token",
    "refresh_token",
    "id_token",
    "auth_token",
    "authorization",
    "proxy_authorization",
    "credential",
    "credentials",
    "cookie",
    "set_cookie",
    "x_api_key",
    "openai_api_key",
]
SECRET_NAMES = frozenset(
    spelling
    for name in _SECRET
    for words in [name.split("_")]
    for spelling in (
        name,
        name.upper(),
        name.replace("_", "-"),
        "-".join(word.capitalize() for word in words),
        words[0] + "".join(word.capitalize() for word in words[1:]),
    )
)
"""Keys whose values are secret, in the usual spellings."""

_NAME = r"[\w-]*(?:" + "|".join(name.replace("_", "[-_]?") for name in _SECRET) + ")"
_TELLING = (
    "key",
    "secret",
    "passw",
    "passphrase",
    "token",
    "authoriz",
    "cred",
    "cookie",
)
_NAMED_SECRET = re.compile(
    # {"api_key":"…"} and {'api_key': '…'}: what is quoted after a telling key, also as
    # it stands within a string of JSON: {\"api_key\":\"…\"}
    rf"""((\\?["']){_NAME}\2\s*:\s*)(\\?["'])(?:(?!\3)(?:[^\\]|\\.))*\3"""
    # api_key=…, as in an address
    rf"""|(\b{_NAME}=)[^\s&"']+""",
    re.IGNORECASE,
)
_KNOWN_SECRET = re.compile(
    # a bearer token; OpenAI's keys, and the short-lived ones that it makes from them
    r"\b(bearer\s+|[se]k[-_])[\w.~+/=-]{12,}",
    re.IGNORECASE,
)
_CONTROL = re.compile(f"[{CONTROLS}]")
# Integers that orjson would read as floats: more digits than 64 bits surely hold.
_LONG_INTEGER = re.compile(r"(?<![\d.eE+])-?\d{19}")
# Python refuses to convert longer ones (sys.set_int_max_str_digits), but for base 16.
_LONGEST_INTEGER = 10**4000
_PLAIN = (str, int, bool, type(None))


def show_json(context: object) -> str:
    """
    Return *context* as a JSON object on one line, without spaces between its parts.

    Args:
        context: A mapping; anything else is shown as ``{"context": …}``.

    Returns:
        Text that begins with ``{`` and holds no control character.
    """
    try:
        return escape_json(_json_of(context))
    except Exception:  # noqa: BLE001 - the last resort, for a log call never raises
        return escape_json(json.dumps({"context": show_repr(context)}))


def is_something(context: object) -> bool:
    """Whether *context* is not empty; never raises."""
    try:
        return bool(context)
    except Exception:  # noqa: BLE001 - foreign code: __bool__, __len__
        return True


def read_json(text: str) -> dict[str, object] | None:
    """
    Return the JSON object that *text* is, or `None` if it is not one.

    Integers of any size and lone surrogates come back as they were.
    """
    value = _read(text)
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def escape_json(text: str) -> str:
    """Return JSON *text* with every control character as its ``\\u`` escape."""
    # Only strings can hold them, for JSON's own structure is printable ASCII.
    if text.isascii() and "\x7f" not in text:
        return text
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def show_object(value: object) -> object:
    """Return something that orjson can write in place of *value*; never raises."""
    try:
        return _converted(value)
    except Exception:  # noqa: BLE001 - foreign code: __iter__, __float__, __fspath__
        return show_repr(value)


def show_repr(value: object) -> str:
    """Return the ``repr`` of *value*, shortened; never raises."""
    return _told(repr, value)


def show_text(value: object) -> str:
    """Return the ``str`` of *value*, whole if it is a string; never raises."""
    if issubclass(type(value), str):  # isinstance would ask the value for its class
        return str.__str__(cast("str", value))
    return _told(str, value)


class Secrets:
    """What must not be shown."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: tuple[str, ...] = ()
        """Texts to hide wherever they occur, each as it stands in a message and JSON."""

    def add(self, *values: str) -> None:
        """Hide these texts from now on; empty ones are passed over."""
        forms = {form for value in values if value for form in _forms(value)}
        self.values = tuple(sorted({*self.values, *forms}, key=len, reverse=True))

    def hide(self, text: str) -> str:
        """Return *text*, of a message or in JSON, without its secrets."""
        for value in self.values:
            text = text.replace(value, REDACTED)
        lower = text.lower()
        for word in _TELLING:
            if word in lower:
                text = _NAMED_SECRET.sub(_redact, text)
                break
        if "bearer" in lower or "k-" in lower or "k_" in lower:
            text = _KNOWN_SECRET.sub(rf"\1{REDACTED}", text)
        return text


def _forms(value: str) -> tuple[str, str]:
    return value, json.dumps(value, ensure_ascii=False)[1:-1]


def _redact(match: re.Match[str]) -> str:
    named, _, quote, assigned = match.groups()
    return f"{named}{quote}{REDACTED}{quote}" if named else assigned + REDACTED


def _told(tell: Callable[[object], str], value: object) -> str:
    """Call *tell*, which is ``str`` or ``repr``, and survive what it does."""
    try:
        text = str.__str__(tell(value))
    except Exception as error:  # noqa: BLE001 - foreign code
        return f"<{_name_of(value)} whose repr raised {type(error).__name__}>"
    if len(text) <= LONGEST_REPR:
        return text
    return f"{text[:LONGEST_REPR]}… ({len(text)} characters)"


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
    known = cast("dict[str, object]", context)
    return _fast(known) or _careful(known)


def _fast(context: Mapping[str, object]) -> str | None:
    """Let orjson do it, or return `None` if it cannot, or would hide something."""
    try:
        text = orjson.dumps(context, show_object).decode()
    except TypeError:  # orjson.JSONEncodeError among them
        return None
    # orjson writes NaN and the infinities as null.
    if "null" in text and _hides_a_number(context):
        return None
    return text


def _hides_a_number(value: object) -> bool:
    """Whether *value* has, or may have, a number in it that JSON lacks."""
    if isinstance(value, _PLAIN):
        return False
    if isinstance(value, float):
        return not isfinite(value)
    if isinstance(value, dict):
        return any(map(_hides_a_number, cast("dict[str, object]", value).values()))
    if isinstance(value, (list, tuple)):
        return any(map(_hides_a_number, cast("list[object]", value)))
    return True


def _careful(context: Mapping[str, object]) -> str:
    """Convert every value by hand and let the standard library write it."""
    plain = _plain(context, ())
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _plain(value: object, above: tuple[int, ...]) -> object:
    """Return *value* as strings, numbers, lists and dicts; *above* are its parents."""
    if value is None or isinstance(value, (str, bool)):
        return str.__str__(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return _integer(int(value))
    if isinstance(value, float):
        return _number(float(value))
    if id(value) in above:
        return "<cycle>"
    if len(above) >= DEEPEST:
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
        while name in shown:  # 1 and "1" are two keys here, but not in JSON
            name += "'"
        shown[name] = _plain(item, above)
    return shown


def _leaf(value: object, above: tuple[int, ...]) -> object:
    """Return what stands for an object: orjson's own choice, or ours."""
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
    """Return a simpler value for the kinds of object that are worth it."""
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
    shown = repr(bytes(value[:LONGEST_BYTES]))
    return shown if size <= LONGEST_BYTES else f"{shown}… ({size} bytes)"


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
