"""
One response of the peer and its events, from ``response.created`` to ``response.done``.

The events have the service's order: the item and its part are added, text and audio
follow, and each gets its ``done``, whether the response completes, is cancelled or fails.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from realtalk_async import g711
from realtalk_async.offline import config
from realtalk_async.offline.conversation import InputTokens, Item, duration_ms
from realtalk_async.offline.effects import BYTES_PER_MS, JsonObject

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class Response:
    """
    One response; its methods return server events without ``event_id``.

    They check nothing: `Session` calls only the active response.
    """

    id: str
    conversation_id: str | None
    """``None`` for a response outside the conversation."""
    spoken: bool
    """Whether its content is audio with a transcript; else it is text."""
    metadata: object = None
    max_output_tokens: object = "inf"
    voice: object = "marin"
    encoder: g711.Encoder = field(default_factory=partial(g711.Encoder, "audio/pcm"))
    input: InputTokens = field(default_factory=InputTokens)
    """The tokens of the conversation before it."""
    answer_requested: bool = False
    """Whether the session has returned a `FindAnswer` for it."""
    item: Item | None = None
    """The message or function call that is under way; ``None`` between two."""
    text: str = ""
    """The words of the item."""
    earlier_text: str = ""
    """The words of the items before it."""
    audio_bytes: int = 0
    outputs: list[JsonObject] = field(default_factory=list[JsonObject])

    @classmethod
    def of(
        cls,
        response_id: str,
        conversation_id: str,
        settings: JsonObject,
        options: JsonObject,
    ) -> Response:
        """
        Make a response.

        Args:
            response_id: Its id.
            conversation_id: The id of the conversation, to which it may not belong.
            settings: The configuration of the session.
            options: Its own options, which come first.
        """
        both = {**settings, **options}
        outside = both.get("conversation") == "none"
        return cls(
            response_id,
            None if outside else conversation_id,
            spoken=both.get("output_modalities") == ["audio"],
            metadata=both.get("metadata"),
            max_output_tokens=both.get("max_output_tokens", "inf"),
            voice=config.voice(options) or config.voice(settings),
            encoder=g711.Encoder(config.output_format(settings, options)),
        )

    @property
    def modality(self) -> str:
        """``audio`` or ``text``."""
        return "audio" if self.spoken else "text"

    @property
    def audio_ms(self) -> int:
        """The duration of all its audio."""
        return self.audio_bytes // BYTES_PER_MS

    @property
    def _all_text(self) -> str:
        return f"{self.earlier_text} {self.text}"

    @property
    def in_conversation(self) -> bool:
        """Whether its item belongs to the conversation."""
        return self.conversation_id is not None

    def created(self) -> Iterator[JsonObject]:
        """Return the first event of the response."""
        body = self._body("in_progress", None)
        yield {"type": "response.created", "response": body}

    def add_item(self, item: Item) -> Iterator[JsonObject]:
        """Begin its next item; the caller sends ``conversation.item.added`` next."""
        self.item, self.earlier_text, self.text = item, self._all_text, ""
        yield self._item_event("response.output_item.added")

    def add_part(self) -> Iterator[JsonObject]:
        """Add the item's only content part, empty."""
        yield self._part_event("response.content_part.added", part=self._part())

    def add_text(self, text: str) -> Iterator[JsonObject]:
        """Add words, one delta each, separated by spaces."""
        kind = "output_audio_transcript" if self.spoken else "output_text"
        for word in text.split():
            delta = f" {word}" if self.text else word
            self.text += delta
            yield self._part_event(f"response.{kind}.delta", delta=delta)

    def add_audio(self, pcm: bytes) -> Iterator[JsonObject]:
        """Add audio, in one delta."""
        assert self.item is not None
        self.audio_bytes += len(pcm)
        self.item.audio += pcm
        self.item.audio_ms += duration_ms(pcm)
        delta = base64.b64encode(self.encoder.encode(pcm)).decode("ascii")
        yield self._part_event("response.output_audio.delta", delta=delta)

    def add_arguments(self, arguments: str) -> Iterator[JsonObject]:
        """Add the arguments of a function call, in one delta."""
        assert self.item is not None
        self.item.body["arguments"] = arguments
        kind, body = "response.function_call_arguments", self.item.body
        named = {"call_id": body["call_id"]}
        yield self._output_event(f"{kind}.delta", delta=arguments, **named)
        done = {"arguments": arguments, "name": body["name"], **named}
        yield self._output_event(f"{kind}.done", **done)

    def item_done(self, status: str) -> Iterator[JsonObject]:
        """End its parts; the caller sends ``conversation.item.done`` next."""
        assert self.item is not None
        if self.item.body["type"] == "message":
            self.item.body["content"] = [self._content()]
            yield from self._parts_done()
        self.item.body["status"] = status

    def output_done(self) -> Iterator[JsonObject]:
        """End its item."""
        assert self.item is not None
        done = self._item_event("response.output_item.done")
        self.outputs.append(dict(self.item.body))
        yield done

    def done(self, status: str, details: JsonObject | None) -> Iterator[JsonObject]:
        """End the response."""
        yield {"type": "response.done", "response": self._body(status, details)}

    def _parts_done(self) -> Iterator[JsonObject]:
        if self.spoken:
            kind = "response.output_audio_transcript.done"
            yield self._part_event(kind, transcript=self.text)
            yield self._part_event("response.output_audio.done")
        else:
            yield self._part_event("response.output_text.done", text=self.text)
        yield self._part_event("response.content_part.done", part=self._part())

    def _part(self) -> JsonObject:
        key = "transcript" if self.spoken else "text"
        return {"type": self.modality, key: self.text}

    def _content(self) -> JsonObject:
        return {**self._part(), "type": f"output_{self.modality}"}

    def _item_event(self, kind: str) -> JsonObject:
        assert self.item is not None
        ids = {"response_id": self.id, "output_index": len(self.outputs)}
        return {"type": kind, **ids, "item": dict(self.item.body)}

    def _output_event(self, kind: str, **fields: object) -> JsonObject:
        assert self.item is not None
        ids = {"response_id": self.id, "item_id": self.item.id}
        return {"type": kind, **ids, "output_index": len(self.outputs), **fields}

    def _part_event(self, kind: str, **fields: object) -> JsonObject:
        return self._output_event(kind, content_index=0, **fields)

    def _body(self, status: str, details: JsonObject | None) -> JsonObject:
        kind = self.encoder.audio_format
        audio_format = {
            "type": kind,
            **({"rate": 24_000} if kind == "audio/pcm" else {}),
        }
        audio = {"format": audio_format, "voice": self.voice}
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": status,
            "status_details": details,
            "output": list(self.outputs),
            "conversation_id": self.conversation_id,
            "output_modalities": [self.modality],
            "max_output_tokens": self.max_output_tokens,
            "audio": {"output": audio},
            "usage": None if status == "in_progress" else self._usage(),
            "metadata": self.metadata,
        }

    def _usage(self) -> JsonObject:
        """Estimate the tokens: one for each word, ten for a second of audio."""
        text, audio = len(self._all_text.split()), self.audio_bytes // 4800
        details = {"text_tokens": text, "audio_tokens": audio}
        return {
            "total_tokens": self.input.text + self.input.audio + text + audio,
            **self.input.to_usage(),
            "output_tokens": text + audio,
            "output_token_details": details,
        }


def rate_limits() -> list[JsonObject]:
    """Return rate limits that are never reached, as ``rate_limits.updated`` has them."""
    limit: JsonObject = {"name": "tokens", "limit": 40_000, "remaining": 40_000}
    return [{**limit, "reset_seconds": 0.0}]
