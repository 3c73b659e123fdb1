"""The configuration of a session: what the parameters of `Stream` and its options give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args

from realtalk_async import arguments
from realtalk_async.voice.protocol.pcm import SAMPLE_RATE
from realtalk_async.voice.protocol.requests.session_options import (
    PARAMETERS,
    check_options,
    find,
    merged,
    nested,
    update_message,
    with_tools,
    without,
)

if TYPE_CHECKING:
    from realtalk_async.g711 import AudioFormat
    from realtalk_async.voice.protocol.messages import Message

Eagerness: TypeAlias = Literal["low", "medium", "high", "auto"]

DEFAULT_MODEL = "gpt-realtime-2.1"
DEFAULT_VOICE = "marin"
_TURN_DETECTION = ("audio", "input", "turn_detection")

DEFAULT_TRANSCRIPTION = "gpt-transcribe"


@dataclass(frozen=True, slots=True)
class ServerVad:
    """
    The service detects turns by volume; times are in milliseconds.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500
    create_response: bool = True
    """Whether the service responds when the user's turn ends."""
    interrupt_response: bool = True
    """Whether the service cancels the response under way when the user speaks."""

    def __post_init__(self) -> None:
        arguments.number("threshold", self.threshold, minimum=0, maximum=1)
        for name in ("prefix_padding_ms", "silence_duration_ms"):
            arguments.integer(name, getattr(self, name), of="milliseconds", minimum=0)
        arguments.flag("create_response", self.create_response)
        arguments.flag("interrupt_response", self.interrupt_response)

    def to_message(self) -> Message:
        """Return the ``turn_detection`` object."""
        return {
            "type": "server_vad",
            "threshold": self.threshold,
            "prefix_padding_ms": self.prefix_padding_ms,
            "silence_duration_ms": self.silence_duration_ms,
            "create_response": self.create_response,
            "interrupt_response": self.interrupt_response,
        }


@dataclass(frozen=True, slots=True)
class SemanticVad:
    """
    The service detects the end of a turn by the words.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """

    eagerness: Eagerness = "auto"
    create_response: bool = True
    interrupt_response: bool = True

    def __post_init__(self) -> None:
        arguments.choice("eagerness", self.eagerness, get_args(Eagerness))
        arguments.flag("create_response", self.create_response)
        arguments.flag("interrupt_response", self.interrupt_response)

    def to_message(self) -> Message:
        """Return the ``turn_detection`` object."""
        return {
            "type": "semantic_vad",
            "eagerness": self.eagerness,
            "create_response": self.create_response,
            "interrupt_response": self.interrupt_response,
        }


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """The configuration that the service gets on each new connection."""

    model: str = DEFAULT_MODEL
    voice: str = DEFAULT_VOICE
    """It cannot change once the service has spoken."""
    instructions: str | None = None
    """``None`` for the default of the service."""
    modality: Literal["audio", "text"] = "audio"
    """The form of the responses; audio always comes with its transcript."""
    transcription: str | None = DEFAULT_TRANSCRIPTION
    """The model that transcribes the user's speech; ``None`` for none."""
    turn_detection: ServerVad | SemanticVad | None = field(default_factory=ServerVad)
    """``None`` is push-to-talk: commit, then ask for a response."""
    tools: tuple[Message, ...] = ()
    """The tools that the service may call."""
    audio_format: AudioFormat = "audio/pcm"
    """The format of the audio in both directions."""
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    """A part of the ``session`` object that is merged into what the fields say."""

    local_turns: bool = False
    """Whether the session interrupts and requests responses itself, not the service."""

    @property
    def detection(self) -> Mapping[str, object] | None:
        """The turn detection with all options; ``None`` for push-to-talk."""
        return _fields_or_none(
            find(self.to_message(), "audio", "input", "turn_detection")
        )

    @property
    def interrupts(self) -> bool:
        """Whether the user's voice interrupts a response."""
        detection = self.detection
        return detection is not None and bool(detection.get("interrupt_response", True))

    @property
    def responds(self) -> bool:
        """Whether the service responds to a turn without a request."""
        detection = self.detection
        return detection is not None and bool(detection.get("create_response", True))

    def with_options(self, argument: str, value: object) -> SessionConfig:
        """
        Return the configuration with options of the app.

        Raises:
            InvalidConfiguration: See `check_options`; they may repeat a field that has
                not its default, but not contradict it.
        """
        options = check_options(argument, value, self._fixed(), self._tool_names())
        model = options.get("model", self.model)
        arguments.one_line(f"{argument}.model", model)
        options = with_tools(self.tools, options)
        return replace(self, model=cast("str", model), options=options)

    def check_change(self, argument: str, value: object) -> dict[str, object]:
        """
        Check a change during the session, and return a copy.

        Raises:
            InvalidConfiguration: See `check_options`; neither the model nor the formats
                of the audio can change.
        """
        fixed: Message = {"model": self.model, **self._always_fixed()}
        return check_options(argument, value, fixed, self._tool_names(), {})

    def _fixed(self) -> Message:
        usual = SessionConfig().to_message()
        mine = replace(self, options={}).to_message()
        fixed = self._always_fixed()
        for path in PARAMETERS:
            value = find(mine, *path)
            if value != find(usual, *path):
                fixed = merged(fixed, nested(path, value))
        return fixed if self.model == DEFAULT_MODEL else {**fixed, "model": self.model}

    def _always_fixed(self) -> Message:
        mine = self.to_message()
        audio = {
            side: {"format": find(mine, "audio", side, "format")}
            for side in ("input", "output")
        }
        return {"type": "realtime", "audio": audio}

    def _tool_names(self) -> list[str]:
        return [str(tool.get("name")) for tool in self.tools]

    def changed(self, change: Mapping[str, object]) -> SessionConfig:
        """Return the configuration with *change* merged into its options."""
        return replace(self, options=merged(self.options, change))

    def started_with(self, model: str | None, voice: str | None) -> SessionConfig:
        """Return the configuration with another model or voice, if that is given."""
        options = self.options
        if model is not None:
            options = without(options, "model")
        if voice is not None:
            options = without(options, "audio", "output", "voice")
        model, voice = model or self.model, voice or self.voice
        return replace(self, model=model, voice=voice, options=options)

    def to_message(self) -> Message:
        """Return the ``session`` object of ``session.update``."""
        # A new object each time: it says "rate" in both directions, because a server
        # that assumed another rate garbled every transcript.
        detection = self.turn_detection
        audio_input: Message = {
            "format": _format_message(self.audio_format),
            "transcription": self.transcription and {"model": self.transcription},
            "turn_detection": detection and detection.to_message(),
        }
        audio_format = _format_message(self.audio_format)
        spoken: Message = {"format": audio_format, "voice": self.voice}
        session: Message = {
            "type": "realtime",
            "output_modalities": [self.modality],
            "audio": {"input": audio_input, "output": spoken},
        }
        if self.instructions is not None:
            session["instructions"] = self.instructions
        if self.tools:
            session["tools"] = list(self.tools)
        session = merged(session, self.options)
        if self.local_turns and find(session, *_TURN_DETECTION) is not None:
            flags = {"create_response": False, "interrupt_response": False}
            session = merged(session, nested(_TURN_DETECTION, flags))
        return session

    def without_service_turns(self) -> SessionConfig:
        """Return the configuration in which the service starts and ends no response."""
        return replace(self, local_turns=True)


def _fields_or_none(value: object) -> Mapping[str, object] | None:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else None


def _format_message(audio_format: AudioFormat) -> Message:
    rate: Message = {"rate": SAMPLE_RATE} if audio_format == "audio/pcm" else {}
    return {"type": audio_format, **rate}


def session_update(config: SessionConfig) -> Message:
    """Ask for the session that *config* describes."""
    return {"type": "session.update", "session": config.to_message()}


def session_change(config: SessionConfig, change: Mapping[str, object]) -> Message:
    """Ask for a change of the session that *config* describes."""
    session = update_message(config.to_message(), change)
    return {"type": "session.update", "session": session}
