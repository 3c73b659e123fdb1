"""The events of recorder and player."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from realtalk_async.voice.events.base import NotLogged, VoiceEvent, info, warning

if TYPE_CHECKING:
    from realtalk_async.events.base import EventLogEntry


class DeviceProblem(enum.StrEnum):
    """The problem of a microphone or a speaker."""

    BUSY = "busy"
    """Another program holds the device."""
    SERVER_GONE = "server gone"
    """The sound server ended, or does not run."""
    MISSING = "missing"
    """The device does not exist."""
    LOST = "lost"
    """The program runs, but no audio passes: the device is usually unplugged."""
    WRONG_RATE = "wrong rate"
    """The audio is at least 10 % slower or faster than its sample rate."""
    DIED = "died"
    """The program exited and its output does not say why."""


@dataclass(frozen=True, slots=True)
class DeviceFailed(VoiceEvent):
    """The recorder or the player failed, and is restarted."""

    kind = "device.failed"
    device: Literal["recorder", "player"]
    problem: DeviceProblem
    reason: str
    """How the program ended, for people."""
    advice: str
    """The meaning of the problem, and advice."""

    def log_entry(self) -> EventLogEntry:
        context = {"problem": str(self.problem), "advice": self.advice}
        return warning(self.device, "Device failed", **context)

    def __str__(self) -> str:
        return f"{self.device} {self.problem}: {self.reason}; {self.advice}"


@dataclass(frozen=True, slots=True)
class DefaultDeviceChanged(VoiceEvent):
    """The system has another default device; the recorder or the player begins anew."""

    kind = "device.default_changed"
    device: Literal["recorder", "player"]
    name: str
    """The name of the device at the sound server."""

    def log_entry(self) -> EventLogEntry:
        return info(self.device, "Follows the default device", name=self.name)

    def __str__(self) -> str:
        return f"{self.device} follows the default device: {self.name}"


class SoundProblem(enum.StrEnum):
    """A problem of a microphone that delivers; the value says it in words."""

    SILENT = "nothing but digital silence"
    MONITOR = "it records an output"
    WRONG_RATE = "wrong rate"
    CLIPPED = "clipped"
    ECHO = "echo of the speaker"
    INTERRUPTS_ITSELF = "the assistant interrupts itself"


@dataclass(frozen=True, slots=True)
class MicrophoneProblem(VoiceEvent):
    """Why the user may not be heard; told once a session, and nothing is restarted."""

    kind = "microphone.problem_found"
    problem: SoundProblem
    reason: str
    """What was found."""
    advice: str
    """What to do."""

    def log_entry(self) -> EventLogEntry:
        context = {"problem": str(self.problem), "advice": self.advice}
        return warning("recorder", f"Microphone: {self.reason}", **context)

    def __str__(self) -> str:
        return f"microphone: {self.reason}; {self.advice}"


@dataclass(frozen=True, slots=True)
class PlaybackCleared(NotLogged, VoiceEvent):
    """An interruption dropped the queued audio; the player still plays what it has."""

    kind = "playback.cleared"
    audible_ms: float
    """Milliseconds until the player is silent."""

    def __str__(self) -> str:
        return f"silent in {self.audible_ms:.0f} ms"


@dataclass(frozen=True, slots=True)
class PlayerSwitched(VoiceEvent):
    """The standby player took over from a player that died."""

    kind = "player.switched"
    seconds: float
    """From the discovery of the dead player to the first write to the other."""

    def log_entry(self) -> EventLogEntry | None:
        seconds = round(self.seconds, 3)
        return info("player", "Standby player took over", seconds=seconds)

    def __str__(self) -> str:
        return f"standby player took over within {self.seconds * 1000:.0f} ms"
