"""
The messages of the OpenAI Realtime protocol (GA), to and from the service.

The beta names of server events, which Azure and other servers still use, are understood
too. The reference for all shapes is the official SDK's ``openai.types.realtime``; the
tests validate every message with it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Literal,
    NamedTuple,
    Protocol,
    TypeAlias,
    cast,
    get_args,
)

import orjson

if TYPE_CHECKING:
    from realtalk_async.voice.protocol.requests.images import Image

Role: TypeAlias = Literal["user", "assistant", "system"]
"""The author of a message of the conversation."""

ROLES: tuple[Role, ...] = get_args(Role)

Message: TypeAlias = dict[str, object]
"""A message to the service."""

FATAL_CODES = frozenset(
    {
        "account_deactivated",
        "beta_api_shape_disabled",
        "billing_hard_limit_reached",
        "credit_balance_exhausted",
        "insufficient_quota",
        "invalid_api_key",
    }
)
"""Errors that another try would not mend: the session ends with `ServiceRefused`."""

IGNORED = frozenset(
    {
        "conversation.created",
        "conversation.item.input_audio_transcription.segment",
        "conversation.item.retrieved",
        "conversation.item.truncated",
        "input_audio_buffer.cleared",
        "input_audio_buffer.timeout_triggered",
        "output_audio_buffer.cleared",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
        "rate_limits.updated",
        "response.content_part.added",
        "response.content_part.done",
        "response.function_call_arguments.delta",
        "response.output_audio.done",
    }
)
"""Events of the service that change nothing here; the event log has them."""

RESPONSE_ACTIVE = "conversation_already_has_active_response"
"""The error of a request that comes while another response is active."""

Direction: TypeAlias = Literal["sent", "received"]

_GA_NAMES = {
    "conversation.item.created": "conversation.item.added",
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
}


class Malformed(ValueError):
    """A message of the service is not an event; the session continues without it."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of the service, under its GA name."""

    type: str
    data: Mapping[str, object]
    """The whole message; its ``type`` may still be the beta name."""

    def get(self, *path: str) -> object:
        """Return the value at *path* (keys of nested objects), or ``None``."""
        value: object = self.data
        for key in path:
            value = _fields(value).get(key)
        return value

    def within(self, *path: str) -> ServerEvent:
        """Return the object at *path*; an empty one if there is none."""
        return ServerEvent(path[-1], _fields(self.get(*path)))

    def text(self, *path: str) -> str:
        """Return the string at *path*; the empty string if there is none."""
        value = self.get(*path)
        return value if isinstance(value, str) else ""

    @property
    def index(self) -> int:
        """Its ``content_index``; 0 if there is none."""
        return int(self.number("content_index") or 0)

    def number(self, *path: str) -> float | None:
        """Return the number at *path*, or ``None``."""
        value = self.get(*path)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return value

    def objects(self, *path: str) -> list[dict[str, object]]:
        """Return the objects in the list at *path*, without other values."""
        value = self.get(*path)
        items = cast("list[object]", value) if isinstance(value, list) else []
        return [cast("dict[str, object]", o) for o in items if isinstance(o, dict)]


def _fields(value: object) -> Mapping[str, object]:
    """Return *value* if it is a JSON object, else an empty one."""
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def parse(raw: bytes | str) -> ServerEvent:
    """
    Parse one message of the service.

    Raises:
        Malformed: If it is not JSON, not an object, or has no ``type``.
    """
    try:
        data: object = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error}: {raw[:80]!r}") from error
    if not isinstance(data, dict):
        raise Malformed(f"not an object: {raw[:80]!r}")
    fields = cast("dict[str, object]", data)
    name = fields.get("type")
    if not isinstance(name, str) or not name:
        raise Malformed(f"no type: {raw[:80]!r}")
    return ServerEvent(_GA_NAMES.get(name, name), fields)


def decode_audio(text: str) -> bytes:
    """
    Decode the base64 of an audio delta.

    Raises:
        Malformed: If it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"not base64: {error}: {text[:40]!r}") from error


def encode(message: Mapping[str, object]) -> bytes:
    """
    Encode *message* as JSON.

    A lone surrogate in a text, which JSON cannot carry, becomes a question mark.
    """
    try:
        return orjson.dumps(message)
    except orjson.JSONEncodeError:
        return orjson.dumps(_without_surrogates(message))


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, object]", value)
        return {str(key): _without_surrogates(item) for key, item in fields.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(v) for v in cast("list[object]", value)]
    return value


# --- Messages to the service ------------------------------------------------------


class Sent(NamedTuple):
    """A sent message, for errors that name it."""

    type: str
    item_id: str = ""
    """The item that it creates; empty if it creates none."""
    from_app: bool = False
    """Whether the app made it; its errors are only told."""


class SendMessage(Protocol):
    """Sends a message to the service."""

    def __call__(self, message: Message, item_id: str = "") -> str:
        """Send *message*, which creates *item_id* if that is given; return the event id."""
        ...


def session_touch() -> Message:
    """Update nothing: a keepalive, which the service answers with a confirmation."""
    return {"type": "session.update", "session": {"type": "realtime"}}


def append_audio(data: bytes) -> Message:
    """Send audio of the microphone: whole samples, in the format of the session."""
    audio = base64.b64encode(data).decode("ascii")
    return {"type": "input_audio_buffer.append", "audio": audio}


def commit_audio() -> Message:
    """Return the message that commits the user's turn of at least 100 ms."""
    return {"type": "input_audio_buffer.commit"}


def clear_audio() -> Message:
    """Return the message that clears the audio since the last turn."""
    return {"type": "input_audio_buffer.clear"}


def create_item(
    item_id: str, role: Role, text: str, image: Image | None = None
) -> Message:
    """Return the message that adds a text, an image or both to the conversation."""
    kind = "output_text" if role == "assistant" else "input_text"
    content: list[Message] = [] if image is None else [image.to_content()]
    if text or image is None:
        content.append({"type": kind, "text": text})
    item: Message = {
        "id": item_id,
        "type": "message",
        "role": role,
        "content": content,
    }
    return {"type": "conversation.item.create", "item": item}


def repeat_call(item_id: str, call_id: str, name: str, arguments: str) -> Message:
    """Return the message that replays a tool call on a new connection."""
    return {
        "type": "conversation.item.create",
        "item": {
            "id": item_id,
            "type": "function_call",
            "call_id": call_id,
            "name": name,
            "arguments": arguments,
        },
    }


def answer_call(item_id: str, call_id: str, output: str) -> Message:
    """Return the message that adds the result of a tool."""
    return {
        "type": "conversation.item.create",
        "item": {
            "id": item_id,
            "type": "function_call_output",
            "call_id": call_id,
            "output": output,
        },
    }


def truncate_item(item_id: str, content_index: int, audio_end_ms: int) -> Message:
    """Return the message that truncates a response to the audio that was heard."""
    return {
        "type": "conversation.item.truncate",
        "item_id": item_id,
        "content_index": content_index,
        "audio_end_ms": audio_end_ms,
    }


def create_response(*, tools: bool = True) -> Message:
    """Return the message that asks for a response, which may call *tools* or not."""
    message: Message = {"type": "response.create"}
    return message if tools else {**message, "response": {"tool_choice": "none"}}


def cancel_response(response_id: str) -> Message:
    """Return the message that cancels a response."""
    return {"type": "response.cancel", "response_id": response_id}
