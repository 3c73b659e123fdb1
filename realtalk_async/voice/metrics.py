"""
How a session performs: latencies of its turns, sound sent and played, what went wrong. Pure.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from realtalk_async.voice import events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from realtalk_async.voice.events import VoiceEvent
    from realtalk_async.voice.protocol.playback import Part

_REMEMBERED = 1000  # turns, and interruptions


@dataclass(frozen=True, slots=True)
class TurnLatency:
    """
    How long one response took, in seconds from the end of the question.

    That is when the service heard the user stop, or when we asked for the response.
    """

    response_id: str
    started: float
    """Until the service began it."""
    first_output: float | None = None
    """Until its first text or sound came."""
    first_sound: float | None = None
    """Until its first sound left the speaker, as far as that is known."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return dataclasses.asdict(self)


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the value below which *share* of *values* lie; ``None`` if there is none."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Metrics:
    """One session in numbers, up to now; sound is in seconds."""

    duration: float
    """Seconds."""
    connected: bool
    turns: tuple[TurnLatency, ...]
    """Of the last 1,000 responses, oldest first."""
    barge_ins: tuple[float, ...]
    """
    Of the last 1,000 interruptions, the milliseconds from our knowing of it until the
    player has played what it had.
    """
    switches: tuple[float, ...]
    """
    Of the last 1,000 times that the standby player took over, the seconds from when it
    was noticed that the other one was gone to the first write that it took.
    """
    responses: Mapping[str, int]
    """How many responses ended in which way."""
    restarts: Mapping[str, int]
    """How often recorder, player and connection were revived."""
    sent_audio: float
    """Of the microphone, what the service got."""
    waiting_audio: float
    """Of the microphone, what waits to be sent."""
    dropped_audio: float
    """Of the microphone, what was too old when the connection came back."""
    withheld_audio: float
    """Of the microphone, what the service was not to hear."""
    played_audio: float
    """Of the responses, what was handed to the player."""
    queued_audio: float
    """Of the responses, what waits to be played."""
    underruns: int
    """How often the player ran dry in the middle of a response."""
    recorder_rate: float
    """Bytes a second, when last looked at; 48,000 is right."""
    missed_events: int
    """Events that readers of `Stream.events` were too slow for."""
    unrecorded_audio: float = 0.0
    """Of both sides, what the recording has silence for: its disk took nothing."""

    def latency(self, share: float) -> float | None:
        """
        Return the seconds to the first sound, or else output, of *share* of the responses.

        ``metrics.latency(0.5)`` is the median; ``None`` if there was none.
        """
        firsts = (t.first_sound or t.first_output for t in self.turns)
        return quantile([first for first in firsts if first is not None], share)

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {
            **fields,
            "turns": [turn.to_dict() for turn in self.turns],
            "barge_ins": list(self.barge_ins),
            "switches": list(self.switches),
            "responses": dict(self.responses),
            "restarts": dict(self.restarts),
        }


@dataclass(slots=True)
class LatencyMeter:
    """Who takes the times of a session; all in monotonic seconds."""

    turns: deque[TurnLatency] = field(
        default_factory=lambda: deque[TurnLatency](maxlen=_REMEMBERED)
    )
    barge_ins: deque[float] = field(
        default_factory=lambda: deque[float](maxlen=_REMEMBERED)
    )
    switches: deque[float] = field(
        default_factory=lambda: deque[float](maxlen=_REMEMBERED)
    )
    _asked_at: float | None = None
    _zero: float = 0.0  # the end of the question that the last turn answers
    _sounds: Part | None = None

    def asked(self, now: float) -> None:
        """A question has ended: spoken, or in writing."""
        self._asked_at = now

    def began(self, response_id: str, now: float) -> None:
        """A response began; one that nobody asked for counts from here."""
        self._zero = now if self._asked_at is None else self._asked_at
        self._asked_at = self._sounds = None
        self.turns.append(TurnLatency(response_id, now - self._zero))

    def came(self, now: float, part: Part | None = None) -> None:
        """Text of the newest response came, or sound, which belongs to *part*."""
        if not self.turns:
            return
        if self._sounds is None:
            self._sounds = part
        if self.turns[-1].first_output is None:
            self.turns[-1] = replace(self.turns[-1], first_output=now - self._zero)

    def sounds(self, part: Part | None, at: float) -> None:
        """A piece of *part* is heard from *at* on."""
        is_newest = part is not None and part == self._sounds
        if is_newest and self.turns[-1].first_sound is None:
            self.turns[-1] = replace(self.turns[-1], first_sound=at - self._zero)

    def silenced(self, level_ms: float) -> None:
        """A response was interrupted while the player had so much to play."""
        self.barge_ins.append(level_ms)

    # --- Listening ----------------------------------------------------------------

    def on_event(self, event: VoiceEvent) -> None:
        """Take the time of an event."""
        now = time.monotonic()
        match event:
            case events.ResponseRequested() | events.SpeechStopped():
                self.asked(now)
            case events.ResponseStarted():
                self.began(event.response_id, now)
            case events.ResponseText():
                self.came(now)
            case events.PlaybackCleared():
                self.silenced(event.audible_ms)
            case events.PlayerSwitched():
                self.switches.append(event.seconds)
            case _:
                return

    def recorded(self, pcm: bytes, at: float) -> None:
        """Do nothing: the microphone has no latency here."""

    def received(self, part: Part, pcm: bytes, at: float) -> None:
        """Take the time of the first sound from the service."""
        self.came(at, part)

    def played(self, part: Part | None, pcm: bytes, at: float) -> None:
        """Take the time of the first sound from the speaker."""
        self.sounds(part, at)
