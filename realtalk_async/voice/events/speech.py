"""The events of the user's speech."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async.voice.events.base import (
    SESSION,
    NotLogged,
    VoiceEvent,
    info,
    warning,
)

if TYPE_CHECKING:
    from realtalk_async.events.base import EventLogEntry
    from realtalk_async.voice.events.usage import Usage


@dataclass(frozen=True, slots=True)
class SpeechStarted(VoiceEvent):
    """The service detected the start of the user's speech."""

    kind = "speech.started"
    item_id: str

    def log_entry(self) -> EventLogEntry:
        return info(SESSION, "Speech started")

    def __str__(self) -> str:
        return "speech started"


@dataclass(frozen=True, slots=True)
class SpeechStopped(VoiceEvent):
    """The service detected the end of the user's speech."""

    kind = "speech.stopped"
    item_id: str

    def log_entry(self) -> EventLogEntry:
        return info(SESSION, "Speech stopped")

    def __str__(self) -> str:
        return "speech stopped"


@dataclass(frozen=True, slots=True)
class InterruptionPending(NotLogged, VoiceEvent):
    """Speech is long and loud enough to interrupt; a function of the app decides."""

    kind = "interruption.pending"
    speech_ms: float
    """Milliseconds of speech so far."""
    dbfs: float
    """Its level in dB below full scale."""

    def __str__(self) -> str:
        return (
            f"speech of {self.speech_ms:.0f} ms at {self.dbfs:.0f} dBFS may interrupt"
        )


@dataclass(frozen=True, slots=True)
class SpeechIgnored(VoiceEvent):
    """Speech during a response did not interrupt it, and is not answered."""

    kind = "speech.ignored"
    speech_ms: float
    """Milliseconds of speech that were loud enough."""
    dbfs: float
    """Their level in dB below full scale."""
    reason: str

    def log_entry(self) -> EventLogEntry:
        context = {"ms": round(self.speech_ms), "dbfs": round(self.dbfs)}
        return info(SESSION, "Speech ignored", reason=self.reason, **context)

    def __str__(self) -> str:
        return f"speech of {self.speech_ms:.0f} ms ignored: {self.reason}"


@dataclass(frozen=True, slots=True)
class UserTranscript(VoiceEvent):
    """The transcript of the user's speech; it may arrive after the response."""

    kind = "user.transcribed"
    item_id: str
    text: str
    usage: Usage | None = None
    """The tokens or seconds of the transcript; ``None`` if the service did not tell."""

    def log_entry(self) -> EventLogEntry:
        return info(SESSION, "User said", text=self.text)

    def __str__(self) -> str:
        return f"user: {self.text}"


@dataclass(frozen=True, slots=True)
class TranscriptionFailed(VoiceEvent):
    """The service could not transcribe the user's speech."""

    kind = "user.transcription_failed"
    item_id: str
    reason: str

    def log_entry(self) -> EventLogEntry:
        return warning(SESSION, "Not transcribed", reason=self.reason)

    def __str__(self) -> str:
        return f"not transcribed: {self.reason}"
