"""
The words of the offline peer: what its session decides, and how it refuses. Pure.

Audio is everywhere signed 16-bit little-endian mono at 24 kHz: 48,000 bytes a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias, cast

JsonObject: TypeAlias = dict[str, object]

SAMPLE_RATE = 24_000
"""Samples a second, both ways."""

BYTES_PER_MS = 2 * SAMPLE_RATE // 1000
"""Bytes of one millisecond of audio."""

FRAME_MS = 20
"""How much audio one decision about voice activity is about."""

FRAME_BYTES = FRAME_MS * BYTES_PER_MS


def as_object(value: object) -> JsonObject:
    """Return *value* if it is a JSON object, else an empty one."""
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """Return *value* if it is a JSON array, else an empty one."""
    return cast("list[object]", value) if isinstance(value, list) else []


class Rejected(Exception):  # not an error of ours: it becomes an ``error`` event
    """A client event asks for what cannot be; the session goes on."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        """The service's own code, such as ``unknown_parameter``."""
        self.message = message
        self.param = param
        """Which field of the client event is at fault, dotted."""

    def body(self, event_id: str | None) -> JsonObject:
        """Return the ``error`` field of the event that answers *event_id*."""
        return {
            "type": "invalid_request_error",
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "event_id": event_id,
        }


@dataclass(frozen=True, slots=True)
class Message:
    """One thing said, as the answer policy sees it."""

    role: str
    """``user``, ``assistant``, ``system``, or ``tool`` for a function's output."""
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """All that an answer is made from."""

    messages: tuple[Message, ...]
    """What has been said so far, oldest first."""
    instructions: str = ""
    """Those of this response if it has any, else empty: the policy knows no persona."""
    tools: tuple[JsonObject, ...] = ()
    """The function tools of the session, as the client described them."""
    tool_choice: object = "auto"


@dataclass(frozen=True, slots=True)
class Emit:
    """Send this server event."""

    event: JsonObject


@dataclass(frozen=True, slots=True)
class Judge:
    """Find out which frames hold a voice, then call `Turns.heard` with both."""

    pcm: bytes = field(repr=False)
    """Whole frames of `FRAME_BYTES`."""
    threshold: float
    """From 0 (anything is a voice) to 1 (only what surely is one)."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Give this audio to the recogniser: it belongs to the utterance under way."""

    pcm: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Recognise:
    """The utterance is complete: call `Turns.recognised` with its text."""

    item_id: str


@dataclass(frozen=True, slots=True)
class Transcribe:
    """Recognise audio that came whole inside an item, then call `Turns.recognised`."""

    item_id: str
    pcm: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Forget:
    """The audio that the recogniser has of this utterance is void."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Find an answer and give it by `begin`, `say`, `sound`, `finish` or by `call`."""

    response_id: str
    question: Question
    spoken: bool
    """False if the answer is wanted as text only."""
    speed: float
    """Of the voice, 1.0 is its own."""


Effect: TypeAlias = Emit | Judge | Listen | Recognise | Transcribe | Forget | Answer
