"""
The types that the parts of the offline peer share: effects, requests, audio constants.

Audio is signed 16-bit little-endian mono at 24 kHz everywhere: 48,000 bytes a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

JsonObject: TypeAlias = dict[str, object]

SAMPLE_RATE = 24_000
"""Samples a second, in both directions."""

BYTES_PER_MS = 2 * SAMPLE_RATE // 1000
"""Bytes of one millisecond of audio."""

FRAME_MS = 20
"""The length of a frame: voice detection decides once for each frame."""

FRAME_BYTES = FRAME_MS * BYTES_PER_MS


def as_object(value: object) -> JsonObject:
    """Return *value* if it is a JSON object, else an empty one."""
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """Return *value* if it is a JSON array, else an empty one."""
    return cast("list[object]", value) if isinstance(value, list) else []


class InvalidRequest(Exception):  # no error of the peer: the client gets an ``error``
    """A client event is invalid; the session goes on."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        """The service's own code, such as ``unknown_parameter``."""
        self.message = message
        self.param = param
        """The invalid field of the client event, as a dotted name."""

    def body(self, event_id: str | None) -> JsonObject:
        """Return the ``error`` field of the event that answers *event_id*."""
        return {
            "type": "invalid_request_error",
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "event_id": event_id,
        }


def unknown_event(kind: object, known: Iterable[str]) -> InvalidRequest:
    """Return the error for a client event whose type is none of *known*."""
    if kind is None:
        message = "Missing required parameter: 'type'."
        return InvalidRequest("missing_required_parameter", message, "type")
    supported = ", ".join(f"'{name}'" for name in known)
    message = f"Invalid value: '{kind}'. Supported values are: {supported}."
    return InvalidRequest("invalid_value", message, "type")


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation, as the answer policy sees it."""

    role: str
    """``user``, ``assistant``, ``system``, or ``tool`` for a function's output."""
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """The input of the answer policy."""

    messages: tuple[Message, ...]
    """The conversation so far, oldest message first."""
    instructions: str = ""
    """The instructions of this response only; the policy ignores those of the session."""
    tools: tuple[JsonObject, ...] = ()
    """The function tools of the session, as the client described them."""
    tool_choice: object = "auto"

    @property
    def last(self) -> Message | None:
        """The newest message of the user or of a tool."""
        found = (m for m in reversed(self.messages) if m.role in ("user", "tool"))
        return next(found, None)

    @property
    def text(self) -> str:
        """The text of that message; empty if there is none."""
        return self.last.text if self.last else ""


@dataclass(frozen=True, slots=True)
class SendEvent:
    """Send this server event."""

    event: JsonObject


@dataclass(frozen=True, slots=True)
class DetectVoice:
    """Detect which frames hold a voice, then call `Session.voice_detected`."""

    pcm: bytes = field(repr=False)
    """Whole frames of `FRAME_BYTES`."""
    threshold: float
    """From 0 (every sound counts as a voice) to 1 (only a clear voice counts)."""


@dataclass(frozen=True, slots=True)
class FeedRecogniser:
    """Feed this audio of the current utterance to the recogniser."""

    pcm: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ResetRecogniser:
    """Discard the audio of the current utterance."""


@dataclass(frozen=True, slots=True)
class Recognise:
    """End the current utterance, then call `Session.recognised` with its text."""

    item_id: str


@dataclass(frozen=True, slots=True)
class Transcribe:
    """Recognise the audio of an item, then call `Session.recognised` with its text."""

    item_id: str
    pcm: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class FindAnswer:
    """
    Find an answer and give it to the session.

    Call `Session.begin`, `Session.add_text` and `Session.add_audio` for a message, or
    `Session.call_function`, then `Session.complete`; or `Session.fail`.
    """

    response_id: str
    question: Question
    spoken: bool
    """Whether the response has audio; a text response has none."""
    speed: float
    """The speed of the voice; 1.0 is its normal speed."""


Effect: TypeAlias = (
    SendEvent
    | DetectVoice
    | FeedRecogniser
    | ResetRecogniser
    | Recognise
    | Transcribe
    | FindAnswer
)
