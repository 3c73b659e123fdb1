"""
Options of the service's session: the check of what an app adds, and the merge.

A value of a parameter of `Stream` cannot be contradicted: see `check_options`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias, cast

from realtalk_async import arguments
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.voice.protocol.requests.json_value import json_object

Options: TypeAlias = Mapping[str, object]

PARAMETERS = {
    ("instructions",): "instructions",
    ("model",): "model",
    ("audio", "output", "voice"): "voice",
    ("audio", "input", "transcription"): "transcription",
    ("audio", "input", "turn_detection"): "turn_detection",
}
"""The parameter of `Stream` that sets the part of the session at a path."""

_TURN_DETECTION = ("audio", "input", "turn_detection")


def merged(base: Options, change: Options) -> dict[str, object]:
    """
    Return *base* with *change*: objects are merged, any other value is replaced.

    An object of another ``type`` replaces the whole object: its fields are others.
    """
    result = dict(base)
    for key, value in change.items():
        before = result.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            former, new = cast("Options", before), cast("Options", value)
            is_other = new.get("type", former.get("type")) != former.get("type")
            result[key] = dict(new) if is_other else merged(former, new)
        else:
            result[key] = value
    return result


def nested(path: Iterable[str], value: object) -> dict[str, object]:
    """Return an object that has *value* at *path* only."""
    for key in reversed(tuple(path)):
        value = {key: value}
    return cast("dict[str, object]", value)


def _object(value: object) -> Options | None:
    return cast("Options", value) if isinstance(value, Mapping) else None


def find(options: Options, *path: str) -> object:
    """Return the value at *path*, or None."""
    value: object = options
    for key in path:
        known = _object(value)
        value = None if known is None else known.get(key)
    return value


def without(options: Options, *path: str) -> dict[str, object]:
    """Return *options* without the value at *path*."""
    key, *rest = path
    value = options.get(key)
    result = dict(options)
    if not rest:
        result.pop(key, None)
    elif isinstance(value, Mapping):
        result[key] = without(cast("Options", value), *rest)
    return result


def check_options(
    argument: str,
    value: object,
    fixed: Options,
    tools: Iterable[str],
    parameters: Mapping[tuple[str, ...], str] = PARAMETERS,
) -> dict[str, object]:
    """
    Check what an app adds to the session, and return a copy.

    Args:
        argument: The name of the argument.
        value: The part of the ``session`` object.
        fixed: What *value* may only repeat.
        tools: The names of the functions that the session can call.
        parameters: The parameters of `Stream` that set a part of *fixed*, for the error.

    Raises:
        InvalidConfiguration: If *value* is no JSON object, contradicts *fixed*, or names
            a function that the session cannot call.
    """
    options = json_object(argument, value)
    _compare(options, fixed, (), argument, parameters)
    _check_tools(argument, options.get("tools"), set(tools))
    return options


def _compare(
    options: Options,
    fixed: Options,
    path: tuple[str, ...],
    argument: str,
    parameters: Mapping[tuple[str, ...], str],
) -> None:
    """Refuse a value that contradicts a fixed one."""
    for key in options.keys() & fixed.keys():
        value, other, place = options[key], fixed[key], (*path, key)
        inner, fixed_inner = _object(value), _object(other)
        if inner is not None and fixed_inner is not None:
            _compare(inner, fixed_inner, place, argument, parameters)
        elif value != other:
            named, parameter = (
                ".".join((argument, *place)),
                _parameter(place, parameters),
            )
            if fixed_inner is not None and not parameter:
                raise arguments.refused(named, "an object", value)
            raise _contradiction(named, value, other, parameter)


def _parameter(
    place: tuple[str, ...], parameters: Mapping[tuple[str, ...], str]
) -> str:
    found = (name for path, name in parameters.items() if place[: len(path)] == path)
    return next(found, "")


def _contradiction(
    named: str, value: object, other: object, parameter: str
) -> InvalidConfiguration:
    if parameter:
        return InvalidConfiguration(
            f"{named} is {_show(value)}, but {parameter}= gives {_show(other)}: "
            f"give it in one place only"
        )
    return InvalidConfiguration(
        f"{named} must stay {_show(other)}, it cannot be {_show(value)}"
    )


def _show(value: object) -> str:
    shown = repr(value)
    most = arguments.MAX_SHOWN
    return shown if len(shown) <= most else f"{shown[:most]}…"


def _check_tools(argument: str, tools: object, known: set[str]) -> None:
    if tools is None:
        return
    if not isinstance(tools, list):
        raise arguments.refused(f"{argument}.tools", "a list of objects", tools)
    for index, tool in enumerate(cast("list[object]", tools)):
        place = f"{argument}.tools[{index}]"
        if not isinstance(tool, dict):
            raise arguments.refused(place, "an object", tool)
        described = cast("dict[str, object]", tool)
        if described.get("type") == "function" and described.get("name") not in known:
            raise InvalidConfiguration(
                f"{place} describes the function {described.get('name')!r}, which this "
                f"session cannot call: give the function itself to Stream(tools=[…])"
            )


def with_tools(
    own: Iterable[Mapping[str, object]], options: Options
) -> dict[str, object]:
    """Return *options* whose tools stand behind the session's own functions."""
    given = options.get("tools")
    if not isinstance(given, list):
        return dict(options)
    tools = cast("list[Mapping[str, object]]", given)
    described = {tool.get("name") for tool in tools if tool.get("type") == "function"}
    kept = [dict(tool) for tool in own if tool.get("name") not in described]
    return {**options, "tools": [*kept, *tools]}


def update_message(options: Options, change: Options) -> dict[str, object]:
    """
    Return the ``session`` object that asks for *change*.

    Only what changes is sent, because the voice, for example, may not be sent again once
    the service has spoken. Turn detection is sent whole: without its type the service
    refuses it.
    """
    message = {"type": "realtime", **change}
    detection = find(change, *_TURN_DETECTION)
    if isinstance(detection, Mapping):
        whole = find(merged(options, change), *_TURN_DETECTION)
        message = merged(message, {"audio": {"input": {"turn_detection": whole}}})
    return message
