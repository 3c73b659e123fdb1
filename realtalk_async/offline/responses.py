"""
One response of the peer, from ``response.created`` to ``response.done``. Pure.

The order of its events is the service's: the item and its part are announced, words
and sound follow, and each is said to be done, whether the answer was completed, cut
short or failed.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from realtalk_async.offline.conversation import Item, duration_ms
from realtalk_async.offline.effects import JsonObject

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class Response:
    """
    One response; its methods return server events that lack their ``event_id``.

    Nothing is checked here: `Turns` asks only the response that is active.
    """

    id: str
    conversation_id: str | None
    """``None`` for a response outside the conversation."""
    spoken: bool
    """Whether it is audio and its transcript, or text."""
    metadata: object = None
    max_output_tokens: object = "inf"
    voice: object = "marin"
    asked: bool = False
    """Whether an answer is being looked for."""
    item: Item | None = None
    """What it says, or which function it calls; ``None`` before that is known."""
    text: str = ""
    sound_bytes: int = 0
    outputs: list[JsonObject] = field(default_factory=list[JsonObject])

    @property
    def modality(self) -> str:
        """``audio`` or ``text``."""
        return "audio" if self.spoken else "text"

    @property
    def in_conversation(self) -> bool:
        """Whether its item belongs to the conversation."""
        return self.conversation_id is not None

    def created(self) -> Iterator[JsonObject]:
        """The response exists."""
        body = self._body("in_progress", None)
        yield {"type": "response.created", "response": body}

    def opened(self, item: Item) -> Iterator[JsonObject]:
        """Its item exists; ``conversation.item.added`` follows, by the caller."""
        self.item = item
        yield self._about_item("response.output_item.added")

    def part_added(self) -> Iterator[JsonObject]:
        """The item's only part exists, and is empty."""
        yield self._of("response.content_part.added", part=self._part())

    def said(self, text: str) -> Iterator[JsonObject]:
        """Words, one delta each; a space goes before all but the first."""
        kind = "output_audio_transcript" if self.spoken else "output_text"
        for word in text.split():
            delta = f" {word}" if self.text else word
            self.text += delta
            yield self._of(f"response.{kind}.delta", delta=delta)

    def sounded(self, pcm: bytes) -> Iterator[JsonObject]:
        """A piece of the voice."""
        assert self.item is not None
        self.sound_bytes += len(pcm)
        self.item.sound += pcm
        self.item.sound_ms += duration_ms(pcm)
        delta = base64.b64encode(pcm).decode("ascii")
        yield self._of("response.output_audio.delta", delta=delta)

    def called(self, arguments: str) -> Iterator[JsonObject]:
        """The arguments of a function call, in one delta."""
        assert self.item is not None
        self.item.body["arguments"] = arguments
        kind, body = "response.function_call_arguments", self.item.body
        named = {"call_id": body["call_id"]}
        yield self._of_output(f"{kind}.delta", delta=arguments, **named)
        done = {"arguments": arguments, "name": body["name"], **named}
        yield self._of_output(f"{kind}.done", **done)

    def item_done(self, status: str) -> Iterator[JsonObject]:
        """Its parts are done; ``conversation.item.done`` follows, by the caller."""
        assert self.item is not None
        if self.item.body["type"] == "message":
            self.item.body["content"] = [self._content()]
            yield from self._parts_done()
        self.item.body["status"] = status

    def output_done(self) -> Iterator[JsonObject]:
        """Its item is done."""
        assert self.item is not None
        self.outputs.append(dict(self.item.body))
        yield self._about_item("response.output_item.done")

    def done(self, status: str, details: JsonObject | None) -> Iterator[JsonObject]:
        """The response is over."""
        yield {"type": "response.done", "response": self._body(status, details)}

    def _parts_done(self) -> Iterator[JsonObject]:
        if self.spoken:
            kind = "response.output_audio_transcript.done"
            yield self._of(kind, transcript=self.text)
            yield self._of("response.output_audio.done")
        else:
            yield self._of("response.output_text.done", text=self.text)
        yield self._of("response.content_part.done", part=self._part())

    def _part(self) -> JsonObject:
        key = "transcript" if self.spoken else "text"
        return {"type": self.modality, key: self.text}

    def _content(self) -> JsonObject:
        return {**self._part(), "type": f"output_{self.modality}"}

    def _about_item(self, kind: str) -> JsonObject:
        assert self.item is not None
        ids = {"response_id": self.id, "output_index": 0}
        return {"type": kind, **ids, "item": dict(self.item.body)}

    def _of_output(self, kind: str, **fields: object) -> JsonObject:
        assert self.item is not None
        ids = {"response_id": self.id, "item_id": self.item.id, "output_index": 0}
        return {"type": kind, **ids, **fields}

    def _of(self, kind: str, **fields: object) -> JsonObject:
        return self._of_output(kind, content_index=0, **fields)

    def _body(self, status: str, details: JsonObject | None) -> JsonObject:
        audio = {"format": {"type": "audio/pcm", "rate": 24_000}, "voice": self.voice}
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
        """Count as the service might: a token a word, ten a second of audio."""
        text, audio = len(self.text.split()), self.sound_bytes // 4800
        details = {"text_tokens": text, "audio_tokens": audio}
        return {
            "total_tokens": text + audio,
            "input_tokens": 0,
            "output_tokens": text + audio,
            "output_token_details": details,
        }
