"""
The items of a conversation, their order, and the check of items from a client.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from realtalk_async.offline.effects import (
    BYTES_PER_MS,
    InvalidRequest,
    JsonObject,
    Message,
    as_list,
    as_object,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from realtalk_async.g711 import AudioFormat

_MS_PER_TOKEN = 100

_PARTS = {
    "user": {"input_text", "input_audio", "input_image"},
    "assistant": {"output_text", "output_audio"},
    "system": {"input_text"},
}
"""The kinds of content that a message of each role may have."""


@dataclass(slots=True)
class Item:
    """One item of the conversation."""

    body: JsonObject
    """The item as the protocol shows it."""
    audio: bytearray = field(default_factory=bytearray, repr=False)
    """Its audio; empty for an old item, see `Conversation.limit_audio`."""
    audio_ms: int = 0
    """The duration of its audio, after truncation if it was truncated."""

    @classmethod
    def of_speech(cls, item_id: str, audio: bytearray) -> Item:
        """Make a user's message of audio that waits for its transcript."""
        part: JsonObject = {"type": "input_audio", "transcript": None}
        head: JsonObject = {"id": item_id, "object": "realtime.item"}
        body: JsonObject = {"type": "message", "status": "completed", "role": "user"}
        return cls({**head, **body, "content": [part]}, audio, duration_ms(audio))

    @property
    def id(self) -> str:
        """The item's id."""
        return str(self.body["id"])

    @property
    def contents(self) -> list[JsonObject]:
        """The parts of a message; changing one changes the item."""
        return [as_object(part) for part in as_list(self.body.get("content"))]

    def with_audio(self) -> JsonObject:
        """Return its body with its audio, as ``conversation.item.retrieve`` shows it."""
        parts = [dict(part) for part in self.contents]
        spoken = (part for part in parts if str(part["type"]).endswith("_audio"))
        part = next(spoken, None)
        if part is None or not self.audio:
            return dict(self.body)
        part["audio"] = base64.b64encode(self.audio).decode("ascii")
        return {**self.body, "content": parts}

    def transcription(self, text: str) -> Iterator[JsonObject]:
        """Return the events that tell the words of its audio, without ``event_id``."""
        kind = "conversation.item.input_audio_transcription"
        ids: JsonObject = {"item_id": self.id, "content_index": 0}
        if text:
            yield {"type": f"{kind}.delta", "delta": text, **ids}
        usage = {"type": "duration", "seconds": self.audio_ms / 1000}
        done: JsonObject = {"type": f"{kind}.completed", "transcript": text}
        yield {**done, "usage": usage, **ids}

    @property
    def text_tokens(self) -> int:
        """One for each word of a text; words that were spoken are audio."""
        texts = [part.get("text") for part in self.contents]
        texts += [self.body.get("output"), self.body.get("arguments")]
        return sum(len(text.split()) for text in texts if isinstance(text, str))

    def truncate(self, content_index: object, end_ms: object) -> None:
        """
        Cut the audio of an assistant's message and drop its transcript.

        The whole transcript goes, so that words that were not played are not in the
        context.

        Raises:
            InvalidRequest: If there is no such audio.
        """
        self.audio_ms = self._check_truncation(content_index, end_ms)
        del self.audio[self.audio_ms * BYTES_PER_MS :]
        for part in self.contents:
            part["transcript"] = None

    def _check_truncation(self, content_index: object, end_ms: object) -> int:
        if self.body.get("role") != "assistant":
            message = "Only model output audio messages can be truncated."
            raise InvalidRequest("invalid_value", message, "item_id")
        if content_index != 0:
            message = (
                f"Invalid value for 'content_index': {content_index!r}; expected 0."
            )
            raise InvalidRequest("invalid_value", message, "content_index")
        if not isinstance(end_ms, int) or isinstance(end_ms, bool) or end_ms < 0:
            message = f"Invalid value for 'audio_end_ms': {end_ms!r}."
            raise InvalidRequest("invalid_value", message, "audio_end_ms")
        if end_ms > self.audio_ms:
            message = f"Audio content of {self.audio_ms}ms is already shorter than "
            raise InvalidRequest(
                "invalid_value", f"{message}{end_ms}ms", "audio_end_ms"
            )
        return end_ms

    def message(self) -> Message:
        """Return the message for the answer policy."""
        if self.body["type"] == "function_call_output":
            return Message("tool", str(self.body.get("output", "")))
        texts = (part.get("text") or part.get("transcript") for part in self.contents)
        said = " ".join(str(text) for text in texts if text)
        return Message(str(self.body.get("role", "assistant")), said)


class InputTokens(NamedTuple):
    """Tokens of the input of a response, estimated: one a word, ten a second of audio."""

    text: int = 0
    audio: int = 0
    cached_text: int = 0
    cached_audio: int = 0

    def to_usage(self) -> JsonObject:
        """Return the fields of the response's usage."""
        cached = {"text_tokens": self.cached_text, "audio_tokens": self.cached_audio}
        details: JsonObject = {
            "text_tokens": self.text,
            "audio_tokens": self.audio,
            "cached_tokens": self.cached_text + self.cached_audio,
            "cached_tokens_details": cached,
        }
        total = self.text + self.audio
        return {"input_tokens": total, "input_token_details": details}


class Conversation:
    """The items of a session, oldest first."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._order: list[str] = []
        self._counted = 0, 0  # tokens of the last input

    def __iter__(self) -> Iterator[Item]:
        return (self._items[item_id] for item_id in self._order)

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._items

    @property
    def last_id(self) -> str | None:
        """The id of the newest item, or ``None``."""
        return self._order[-1] if self._order else None

    def get(self, item_id: object, *, code: str) -> Item:
        """
        Return an item.

        Raises:
            InvalidRequest: With *code*, if there is no item with that id.
        """
        item = self._items.get(item_id) if isinstance(item_id, str) else None
        if item is None:
            message = f"Item with item_id '{item_id}' not found."
            raise InvalidRequest(code, message, "item_id")
        return item

    def add(self, item: Item, *, after: object = None) -> str | None:
        """
        Insert *item* behind the item *after*, at the front (``"root"``), or at the end.

        Returns:
            The id of the item before it, or ``None`` if it is the first.

        Raises:
            InvalidRequest: If its id is taken, or there is no item *after*.
        """
        if item.id in self._items:
            message = f"Item with id '{item.id}' already exists."
            raise InvalidRequest("item_already_exists", message, "item.id")
        at = self._place(after)
        self._order.insert(at, item.id)
        self._items[item.id] = item
        return self._order[at - 1] if at else None

    def remove(self, item_id: object) -> None:
        """
        Remove an item.

        Raises:
            InvalidRequest: If there is no item with that id.
        """
        item = self.get(item_id, code="item_delete_invalid_item_id")
        self._order.remove(item.id)
        del self._items[item.id]

    def take_input(self) -> InputTokens:
        """Count the tokens of all items; those of the last count are cached."""
        text = sum(item.text_tokens for item in self)
        audio = sum(item.audio_ms // _MS_PER_TOKEN for item in self)
        counted = text, audio
        cached = tuple(map(min, self._counted, counted))
        self._counted = counted
        return InputTokens(text, audio, *cached)

    def limit_audio(self, limit: int) -> None:
        """Drop the audio of the oldest items, so that *limit* bytes at most are left."""
        kept = 0
        for item in reversed(list(self)):
            kept += len(item.audio)
            if kept > limit:
                item.audio.clear()

    def previous_id(self, item_id: str) -> str | None:
        """Return the id of the item before *item_id*, or ``None`` for the first item."""
        at = self._order.index(item_id)
        return self._order[at - 1] if at else None

    def messages(self) -> tuple[Message, ...]:
        """Return the messages, oldest first; a function call has none."""
        return messages(self)

    def _place(self, after: object) -> int:
        if after is None:
            return len(self._order)
        if after == "root":
            return 0
        if not isinstance(after, str) or after not in self._items:
            message = f"Previous item with id '{after}' not found."
            raise InvalidRequest("invalid_value", message, "previous_item_id")
        return self._order.index(after) + 1


def messages(items: Iterable[Item]) -> tuple[Message, ...]:
    """Return the messages of *items*, in their order; a function call has none."""
    return tuple(i.message() for i in items if i.body["type"] != "function_call")


def item_from_client(given: object, new_id: Callable[[str], str]) -> Item:
    """
    Make an item of the body of a client's ``conversation.item.create``.

    Raises:
        InvalidRequest: If its type, role or content is invalid.
    """
    body = as_object(given)
    kind = body.get("type")
    if kind is None:
        raise _missing("item.type")
    if kind == "message":
        fields: JsonObject = {"role": body.get("role"), "content": _content(body)}
    elif kind == "function_call_output":
        fields = _texts(body, "call_id", "output")
    elif kind == "function_call":
        fields = {
            "call_id": _optional_text(body, "call_id"),
            **_texts(body, "name", "arguments"),
        }
    else:
        message = f"Invalid value: '{kind}'. Supported values are: 'message', "
        message += "'function_call', 'function_call_output'."
        raise InvalidRequest("invalid_value", message, "item.type")
    head: JsonObject = {
        "id": _optional_text(body, "id") or new_id("item"),
        "object": "realtime.item",
    }
    item = Item({**head, "type": kind, "status": "completed", **fields})
    for part in as_list(body.get("content")):
        item.audio += _decode(as_object(part).get("audio"))
    return item


def decode_audio(
    text: object, name: str, audio_format: AudioFormat = "audio/pcm"
) -> bytes:
    """
    Return the samples of a base64 text, in their format.

    Raises:
        InvalidRequest: If it is not base64, or not a whole number of samples.
    """
    if not isinstance(text, str):
        raise _missing(name)
    try:
        pcm = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pcm = None
    if pcm is None or (audio_format == "audio/pcm" and len(pcm) % 2):
        message = f"Invalid '{name}'. Expected base64-encoded audio bytes "
        wanted = {"audio/pcm": "mono PCM16 at 24kHz"}.get(audio_format, audio_format)
        message += f"({wanted}) but got invalid bytes."
        raise InvalidRequest("invalid_value", message, name)
    return pcm


def duration_ms(pcm: bytes | bytearray) -> int:
    """Return the duration of *pcm*."""
    return len(pcm) // BYTES_PER_MS


def _missing(name: str) -> InvalidRequest:
    message = f"Missing required parameter: '{name}'."
    return InvalidRequest("missing_required_parameter", message, name)


def _texts(body: JsonObject, *names: str) -> JsonObject:
    for name in names:
        if not isinstance(body.get(name), str):
            raise _missing(f"item.{name}")
    return {name: body[name] for name in names}


def _optional_text(body: JsonObject, name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        message = f"Invalid type for 'item.{name}': expected a string."
        raise InvalidRequest("invalid_value", message, f"item.{name}")
    return value


def _content(body: JsonObject) -> list[object]:
    role = body.get("role")
    if not isinstance(role, str) or role not in _PARTS:
        message = f"Invalid value: '{role}'. Supported values are: 'user', "
        raise InvalidRequest(
            "invalid_value", message + "'assistant', 'system'.", "item.role"
        )
    if not isinstance(body.get("content"), list):
        raise _missing("item.content")
    parts = as_list(body["content"])
    return [
        _part(as_object(part), role, f"item.content[{index}]")
        for index, part in enumerate(parts)
    ]


def _part(part: JsonObject, role: str, name: str) -> JsonObject:
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in _PARTS[role]:
        kinds = ", ".join(f"'{kind}'" for kind in sorted(_PARTS[role]))
        message = f"Invalid value: '{kind}'. Supported values are: {kinds}."
        raise InvalidRequest("invalid_value", message, f"{name}.type")
    if kind.endswith("_text") and not isinstance(part.get("text"), str):
        raise _missing(f"{name}.text")
    if kind == "input_image" and not _is_image(part.get("image_url")):
        message = f"Invalid '{name}.image_url': expected a data URL of PNG or JPEG."
        raise InvalidRequest("invalid_value", message, f"{name}.image_url")
    if kind == "input_audio":
        decode_audio(part.get("audio"), f"{name}.audio")
    # As with the service, only a retrieved item shows its audio.
    return {key: value for key, value in part.items() if key != "audio"}


def _is_image(url: object) -> bool:
    starts = "data:image/png;base64,", "data:image/jpeg;base64,"
    return isinstance(url, str) and url.startswith(starts)


def _decode(audio: object) -> bytes:
    return decode_audio(audio, "audio") if isinstance(audio, str) else b""
