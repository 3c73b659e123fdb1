"""The check of values that the app wants to send as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

from realtalk_async import arguments
from realtalk_async.exceptions import InvalidConfiguration

MAX_DEPTH = 64
"""Levels of nested objects and lists; a value that contains itself has more."""

SECRETS = ("authorization", "headers")
"""Keys of the service's tools whose values no message and no log may show."""

HIDDEN = "<hidden>"

_INTEGERS = range(-(2**63), 2**63)


def json_object(argument: str, value: object) -> dict[str, object]:
    """
    Check an object for JSON, and return a copy that the caller cannot change.

    Args:
        argument: The name of the argument; an error names the path from there, such as
            ``session.audio.input.noise_reduction``.
        value: A dict with texts as keys. Its values are texts, numbers, True, False,
            None, lists and such dicts.

    Raises:
        InvalidConfiguration: If it holds any other value, a number that is not finite or
            an integer of more than 64 bits, or is nested deeper than `MAX_DEPTH`.
    """
    arguments.mapping(argument, value)
    return _object(argument, cast("Mapping[object, object]", value), 1)


def _object(path: str, given: Mapping[object, object], depth: int) -> dict[str, object]:
    _check_depth(path, depth)
    copied: dict[str, object] = {}
    for key, value in given.items():
        if not isinstance(key, str):
            raise arguments.refused(f"each key of {path}", "text", key)
        copied[str.__str__(key)] = _value(f"{path}.{key}", value, depth)
    return copied


def _value(path: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and int(value) in _INTEGERS:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, Mapping):
        return _object(path, cast("Mapping[object, object]", value), depth + 1)
    if isinstance(value, list | tuple):
        items = cast("list[object]", value)
        _check_depth(path, depth + 1)
        return [_value(f"{path}[{n}]", item, depth + 1) for n, item in enumerate(items)]
    allowed = "a value that JSON can hold"
    if any(key in path.split(".") for key in SECRETS):
        kind = type(value).__name__
        raise InvalidConfiguration(f"{path} must be {allowed}, not a {kind}")
    raise arguments.refused(path, allowed, value)


def without_secrets(value: object) -> object:
    """Return *value* with `HIDDEN` in place of each value of one of `SECRETS`."""
    if isinstance(value, Mapping):
        items = cast("Mapping[str, object]", value).items()
        return {k: HIDDEN if k in SECRETS else without_secrets(v) for k, v in items}
    if isinstance(value, list):
        return [without_secrets(each) for each in cast("list[object]", value)]
    return value


def _check_depth(path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        shown = path[: arguments.MAX_SHOWN]
        raise InvalidConfiguration(f"{shown}… is nested deeper than {MAX_DEPTH} levels")
