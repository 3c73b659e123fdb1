"""Metrics of a session: latencies of its turns, audio sent and played, failures."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from realtalk_async import arguments
from realtalk_async.voice import events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from realtalk_async.voice.events import VoiceEvent
    from realtalk_async.voice.protocol.playback import Part

_MAX_KEPT = 1000  # turns, interruptions and switches


@dataclass(frozen=True, slots=True)
class TurnLatency:
    """
    The latency of one response, in seconds from the end of the user's turn.

    The turn ends when the service detects the end of speech, or when the client requests
    the response.
    """

    response_id: str
    started: float
    """Until the service started the response."""
    first_output: float | None = None
    """Until its first text or audio arrived."""
    first_sound: float | None = None
    """Until its first audio left the speaker, as far as that is known."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields, ready for JSON."""
        return dataclasses.asdict(self)


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the quantile *share* of *values*; ``None`` if there are no values."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics of one session up to now; audio is in seconds."""

    duration: float
    """Seconds."""
    connected: bool
    turns: tuple[TurnLatency, ...]
    """The last 1,000 responses, oldest first."""
    barge_ins: tuple[float, ...]
    """
    For each of the last 1,000 interruptions, the milliseconds from its detection until the
    player was silent.
    """
    switches: tuple[float, ...]
    """
    For each of the last 1,000 times that the standby player took over, the seconds from the
    detection of the failure to the first write to the standby.
    """
    responses: Mapping[str, int]
    """The number of responses by their final status."""
    restarts: Mapping[str, int]
    """The number of restarts of recorder, player and connection."""
    sent_audio: float
    """Audio of the microphone that was sent."""
    waiting_audio: float
    """Audio of the microphone that waits to be sent."""
    dropped_audio: float
    """Audio of the microphone that was too old when the connection was restored."""
    withheld_audio: float
    """Audio of the microphone that was muted."""
    played_audio: float
    """Audio of responses that was written to the player."""
    queued_audio: float
    """Audio of responses that waits to be played."""
    underruns: int
    """How often the player ran out of audio in the middle of a response."""
    recorder_rate: float
    """Bytes a second in the last measured period; 48,000 is right."""
    missed_events: int
    """Events that were dropped because readers of `Stream.events` were too slow."""
    microphone_dbfs: float | None = None
    """The level of the microphone in the last second; None without sound from it."""
    speaker_dbfs: float | None = None
    """The level of the speaker in the last second; None if nothing was audible."""
    unrecorded_audio: float = 0.0
    """Audio that the recording lacks because the disk was too slow."""
    dropped_history: Mapping[str, int] = field(default_factory=dict[str, int])
    """
    What is not kept any more: the oldest messages, outcomes, protocol events and marks of
    the timeline, see `HistoryLimits`.
    """

    usage: events.Usage = events.Usage()  # noqa: RUF009 - it is frozen
    """The tokens of all responses and transcripts."""

    def latency(self, share: float) -> float | None:
        """
        Return the quantile *share* of the seconds to the first audio, or else first output.

        ``metrics.latency(0.5)`` is the median; ``None`` if there was no response.

        Raises:
            InvalidConfiguration: If *share* is no number from 0 to 1.
        """
        arguments.number("share", share, minimum=0, maximum=1)
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
            "dropped_history": dict(self.dropped_history),
            "usage": self.usage.to_dict(),
        }


@dataclass(slots=True)
class LatencyMeter:
    """Measures latencies as a listener to a session's events and audio."""

    turns: deque[TurnLatency] = field(
        default_factory=lambda: deque[TurnLatency](maxlen=_MAX_KEPT)
    )
    barge_ins: deque[float] = field(
        default_factory=lambda: deque[float](maxlen=_MAX_KEPT)
    )
    switches: deque[float] = field(
        default_factory=lambda: deque[float](maxlen=_MAX_KEPT)
    )
    _requested_at: float | None = None
    _turn_ended_at: float = 0.0  # the end of the turn that the last response answers
    _first_part: Part | None = None

    def turn_ended(self, now: float) -> None:
        """Note the end of the user's turn, spoken or written."""
        self._requested_at = now

    def response_started(self, response_id: str, now: float) -> None:
        """Note the start of a response; without a turn its latency counts from here."""
        self._turn_ended_at = now if self._requested_at is None else self._requested_at
        self._requested_at = self._first_part = None
        self.turns.append(TurnLatency(response_id, now - self._turn_ended_at))

    def output_arrived(self, now: float, part: Part | None = None) -> None:
        """Note text of the newest response, or its audio, which belongs to *part*."""
        if not self.turns:
            return
        if self._first_part is None:
            self._first_part = part
        if self.turns[-1].first_output is None:
            self.turns[-1] = replace(
                self.turns[-1], first_output=now - self._turn_ended_at
            )

    def audible(self, part: Part | None, at: float) -> None:
        """Note that audio of *part* is audible from *at* on."""
        is_newest = part is not None and part == self._first_part
        if is_newest and self.turns[-1].first_sound is None:
            self.turns[-1] = replace(
                self.turns[-1], first_sound=at - self._turn_ended_at
            )

    def interrupted(self, audible_ms: float) -> None:
        """Note an interruption after which the player is audible for *audible_ms*."""
        self.barge_ins.append(audible_ms)

    # --- Listeners ----------------------------------------------------------------

    def on_event(self, event: VoiceEvent) -> None:
        """Note an event of the session."""
        now = time.monotonic()
        match event:
            case events.ResponseRequested() | events.SpeechStopped():
                self.turn_ended(now)
            case events.ResponseStarted():
                self.response_started(event.response_id, now)
            case events.ResponseText():
                self.output_arrived(now)
            case events.PlaybackCleared():
                self.interrupted(event.audible_ms)
            case events.PlayerSwitched():
                self.switches.append(event.seconds)
            case _:
                return

    def recorded(self, pcm: bytes, at: float) -> None:
        """Do nothing: the recorder's audio has no latency here."""

    def received(self, part: Part, pcm: bytes, at: float) -> None:
        """Note audio from the service."""
        self.output_arrived(at, part)

    def played(self, part: Part | None, pcm: bytes, at: float) -> None:
        """Note audio of the speaker."""
        self.audible(part, at)
