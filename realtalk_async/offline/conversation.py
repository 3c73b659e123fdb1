"""
The items of a conversation in their order, and what a client may put there. Pure.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from realtalk_async.offline.effects import (
    BYTES_PER_MS,
    JsonObject,
    Message,
    Rejected,
    as_list,
    as_object,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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
    """As the protocol shows it."""
    sound: bytearray = field(default_factory=bytearray, repr=False)
    """Its audio, whoever spoke it; empty for an old item, see `Items.keep_sound`."""
    sound_ms: int = 0
    """How much audio it has, or has left after it was truncated."""

    @classmethod
    def of_speech(cls, item_id: str, sound: bytearray) -> Item:
        """Make a user's message of audio that waits for its transcript."""
        part: JsonObject = {"type": "input_audio", "transcript": None}
        head: JsonObject = {"id": item_id, "object": "realtime.item"}
        body: JsonObject = {"type": "message", "status": "completed", "role": "user"}
        return cls({**head, **body, "content": [part]}, sound, duration_ms(sound))

    @property
    def id(self) -> str:
        """The item's id."""
        return str(self.body["id"])

    @property
    def contents(self) -> list[JsonObject]:
        """The parts of a message; changing one changes the item."""
        return [as_object(part) for part in as_list(self.body.get("content"))]

    def with_sound(self) -> JsonObject:
        """Return its body with its audio, as an item is retrieved."""
        parts = [dict(part) for part in self.contents]
        heard = (part for part in parts if str(part["type"]).endswith("_audio"))
        part = next(heard, None)
        if part is None or not self.sound:
            return dict(self.body)
        part["audio"] = base64.b64encode(self.sound).decode("ascii")
        return {**self.body, "content": parts}

    def truncate(self, content_index: object, end_ms: object) -> None:
        """
        Cut the audio of an assistant's message and drop its transcript.

        The transcript goes as a whole: words that were not heard must not be in the
        context.

        Raises:
            Rejected: If there is no such audio.
        """
        self.sound_ms = self._check_truncation(content_index, end_ms)
        del self.sound[self.sound_ms * BYTES_PER_MS :]
        for part in self.contents:
            part["transcript"] = None

    def _check_truncation(self, content_index: object, end_ms: object) -> int:
        if self.body.get("role") != "assistant":
            message = "Only model output audio messages can be truncated."
            raise Rejected("invalid_value", message, "item_id")
        if content_index != 0:
            message = (
                f"Invalid value for 'content_index': {content_index!r}; expected 0."
            )
            raise Rejected("invalid_value", message, "content_index")
        if not isinstance(end_ms, int) or isinstance(end_ms, bool) or end_ms < 0:
            message = f"Invalid value for 'audio_end_ms': {end_ms!r}."
            raise Rejected("invalid_value", message, "audio_end_ms")
        if end_ms > self.sound_ms:
            message = f"Audio content of {self.sound_ms}ms is already shorter than "
            raise Rejected("invalid_value", f"{message}{end_ms}ms", "audio_end_ms")
        return end_ms

    def message(self) -> Message:
        """Return what this item says."""
        if self.body["type"] == "function_call_output":
            return Message("tool", str(self.body.get("output", "")))
        texts = (part.get("text") or part.get("transcript") for part in self.contents)
        said = " ".join(str(text) for text in texts if text)
        return Message(str(self.body.get("role", "assistant")), said)


class Items:
    """The conversation: its items, oldest first."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._order: list[str] = []

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
            Rejected: With *code*, if there is none of that id.
        """
        item = self._items.get(item_id) if isinstance(item_id, str) else None
        if item is None:
            message = f"Item with item_id '{item_id}' not found."
            raise Rejected(code, message, "item_id")
        return item

    def add(self, item: Item, *, after: object = None) -> str | None:
        """
        Put *item* behind another, ``"root"`` for the front, or at the end.

        Returns:
            The id of the item before it, or ``None`` if it is the first.

        Raises:
            Rejected: If its id is taken, or there is no item to put it behind.
        """
        if item.id in self._items:
            message = f"Item with id '{item.id}' already exists."
            raise Rejected("item_already_exists", message, "item.id")
        at = self._place(after)
        self._order.insert(at, item.id)
        self._items[item.id] = item
        return self._order[at - 1] if at else None

    def remove(self, item_id: object) -> None:
        """
        Take an item out.

        Raises:
            Rejected: If there is none of that id.
        """
        item = self.get(item_id, code="item_delete_invalid_item_id")
        self._order.remove(item.id)
        del self._items[item.id]

    def keep_sound(self, limit: int) -> None:
        """Keep the audio of the newest items only, at most *limit* bytes in all."""
        kept = 0
        for item in reversed(list(self)):
            kept += len(item.sound)
            if kept > limit:
                item.sound.clear()

    def before(self, item_id: str) -> str | None:
        """Return the id of the item before that one, or ``None`` for the first."""
        at = self._order.index(item_id)
        return self._order[at - 1] if at else None

    def messages(self) -> tuple[Message, ...]:
        """Return what was said, oldest first; function calls say nothing."""
        return messages(self)

    def _place(self, after: object) -> int:
        if after is None:
            return len(self._order)
        if after == "root":
            return 0
        if after not in self._items:
            message = f"Previous item with id '{after}' not found."
            raise Rejected("invalid_value", message, "previous_item_id")
        return self._order.index(str(after)) + 1


def messages(items: Iterable[Item]) -> tuple[Message, ...]:
    """Return what *items* say, in their order."""
    return tuple(i.message() for i in items if i.body["type"] != "function_call")


def from_client(given: object, new_id: Callable[[str], str]) -> Item:
    """
    Make an item of what a client sent in ``conversation.item.create``.

    Raises:
        Rejected: If its type, role or content cannot be.
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
        fields = {"call_id": body.get("call_id"), **_texts(body, "name", "arguments")}
    else:
        message = f"Invalid value: '{kind}'. Supported values are: 'message', "
        message += "'function_call', 'function_call_output'."
        raise Rejected("invalid_value", message, "item.type")
    head: JsonObject = {
        "id": body.get("id") or new_id("item"),
        "object": "realtime.item",
    }
    item = Item({**head, "type": kind, "status": "completed", **fields})
    for part in as_list(body.get("content")):
        item.sound += _sound(as_object(part).get("audio"))
    return item


def decode_audio(text: object, name: str) -> bytes:
    """
    Return the samples of a base64 text.

    Raises:
        Rejected: If it is not base64, or not a whole number of samples.
    """
    if not isinstance(text, str):
        raise _missing(name)
    try:
        pcm = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pcm = None
    if pcm is None or len(pcm) % 2:
        message = f"Invalid '{name}'. Expected base64-encoded audio bytes "
        message += "(mono PCM16 at 24kHz) but got invalid bytes."
        raise Rejected("invalid_value", message, name)
    return pcm


def duration_ms(pcm: bytes | bytearray) -> int:
    """Return how long *pcm* lasts."""
    return len(pcm) // BYTES_PER_MS


def _missing(name: str) -> Rejected:
    message = f"Missing required parameter: '{name}'."
    return Rejected("missing_required_parameter", message, name)


def _texts(body: JsonObject, *names: str) -> JsonObject:
    for name in names:
        if not isinstance(body.get(name), str):
            raise _missing(f"item.{name}")
    return {name: body[name] for name in names}


def _content(body: JsonObject) -> list[object]:
    role = body.get("role")
    if role not in _PARTS:
        message = f"Invalid value: '{role}'. Supported values are: 'user', "
        raise Rejected("invalid_value", message + "'assistant', 'system'.", "item.role")
    if not isinstance(body.get("content"), list):
        raise _missing("item.content")
    parts = as_list(body["content"])
    return [
        _part(as_object(part), str(role), f"item.content[{index}]")
        for index, part in enumerate(parts)
    ]


def _part(part: JsonObject, role: str, name: str) -> JsonObject:
    kind = part.get("type")
    if kind not in _PARTS[role]:
        kinds = ", ".join(f"'{kind}'" for kind in sorted(_PARTS[role]))
        message = f"Invalid value: '{kind}'. Supported values are: {kinds}."
        raise Rejected("invalid_value", message, f"{name}.type")
    if str(kind).endswith("_text") and not isinstance(part.get("text"), str):
        raise _missing(f"{name}.text")
    if kind == "input_audio":
        decode_audio(part.get("audio"), f"{name}.audio")
    # Audio is not shown again; an item of the service has it only when retrieved.
    return {key: value for key, value in part.items() if key != "audio"}


def _sound(audio: object) -> bytes:
    return decode_audio(audio, "audio") if isinstance(audio, str) else b""
