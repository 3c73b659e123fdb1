"""
A message of a client: from its bytes to an event, or to the error that the client gets.
"""

from __future__ import annotations

from typing import cast

import orjson

from realtalk_async import arguments
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.offline.effects import InvalidRequest, JsonObject

LARGEST_MESSAGE = 16 * 2**20
"""Bytes of the largest message that is read; a larger one gets an error."""

LARGEST_FRAME = 16 * LARGEST_MESSAGE
"""Bytes above which the connection is closed with 1009, so that memory is bounded."""

DEEPEST = 64
"""Levels of objects and arrays in a message."""


def parse_event(message: bytes) -> JsonObject:
    """
    Return the event of a message, from a text or a binary frame.

    Raises:
        InvalidRequest: If it is too large or nested too deeply, or no JSON object.
    """
    if len(message) > LARGEST_MESSAGE:
        text = f"The message has {len(message)} bytes; {LARGEST_MESSAGE} are allowed."
        raise InvalidRequest("message_too_large", text)
    try:
        event: object = orjson.loads(message)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            "invalid_json", f"The message is no JSON: {error}."
        ) from None
    if not isinstance(event, dict):
        raise InvalidRequest("invalid_json", "The message is not a JSON object.")
    if _is_deeper(cast("object", event), DEEPEST):
        text = f"The message has more than {DEEPEST} levels of objects and arrays."
        raise InvalidRequest("invalid_value", text)
    return cast("JsonObject", event)


def checked_event(event: object) -> JsonObject:
    """
    Return an event of a test as an object of its own.

    Raises:
        InvalidConfiguration: If it is no object that JSON can express, or has no type.
    """
    allowed = 'an event, a dict such as {"type": "error"}'
    arguments.mapping("event", event, allowed)
    try:
        data: JsonObject = orjson.loads(orjson.dumps(dict(cast("JsonObject", event))))
    except TypeError as error:
        raise InvalidConfiguration(f"event: JSON cannot express it: {error}") from None
    if not isinstance(data.get("type"), str):
        raise arguments.refused("event", allowed + " with a type", event)
    return data


def _is_deeper(value: object, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast("dict[str, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else []
