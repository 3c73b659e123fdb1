"""
Listens to the sound of a session: levels, and why the user may not be heard.

Each problem is told once, as a `MicrophoneProblem`. `Hearing.details` tells all of them, and
the levels, for `explain` and the live view.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from realtalk_async.voice.events import (
    MicrophoneProblem,
    SoundProblem,
    SpeechStarted,
)
from realtalk_async.voice.protocol.hearing.echo import EchoDetector
from realtalk_async.voice.protocol.hearing.faults import (
    SILENT_SECONDS,
    Clipping,
    DigitalSilence,
)
from realtalk_async.voice.protocol.hearing.frames import (
    FRAME_SECONDS,
    Frame,
    Framer,
    LevelMeter,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.voice.audio.devices import Kind
    from realtalk_async.voice.events import VoiceEvent
    from realtalk_async.voice.protocol.microphone import InputFilter

_ADVICE = {
    SoundProblem.SILENT: (
        "is it muted, by a switch on it or in the system's sound settings, and is it the "
        "right one? macOS gives silence to a program that may not use it: System Settings, "
        "Privacy & Security, Microphone"
    ),
    SoundProblem.MONITOR: (
        "choose a microphone in the system's sound settings, or with `pactl list short "
        "sources` and `pactl set-default-source NAME`"
    ),
    SoundProblem.WRONG_RATE: "the audio must be 24 kHz mono of 16 bits, or audio_format=…",
    SoundProblem.CLIPPED: "lower the input level in the system's sound settings",
    SoundProblem.INTERRUPTS_ITSELF: (
        "use a headset, the system's echo cancellation, or half_duplex=True"
    ),
    SoundProblem.ECHO: (
        "use a headset, the system's echo cancellation, or half_duplex=True"
    ),
}


_LATE = 0.3  # seconds for which the service gets silence after a response


class Hearing:
    """
    A listener to the sound of one session.

    Args:
        kind: The kind of the microphone. The end of a file, and a function between two
            calls of a telephone, are digital silence that is no fault.
        input_filter: Tells whether the microphone is heard at all.
        publish: Called with each problem.
        may_gate: Whether the service is to get silence during responses once these
            interrupt themselves.
    """

    def __init__(
        self,
        kind: Kind,
        input_filter: InputFilter,
        publish: Callable[[MicrophoneProblem], object],
        *,
        may_gate: bool = False,
    ) -> None:
        self._kind = kind
        self._filter = input_filter
        self._publish = publish
        self._may_gate = may_gate
        self._microphone, self._speaker = Framer(), Framer()
        self._microphone_level, self._speaker_level = LevelMeter(), LevelMeter()
        self._silence, self._clipping = DigitalSilence(), Clipping()
        self._echo = EchoDetector()
        self._audible_until = 0.0
        self._told: set[SoundProblem] = set()
        self.problems: dict[SoundProblem, str] = {}
        """The problems that were found, with their reasons; that of silence as it lasts."""

    # --- Listener -----------------------------------------------------------------

    def recorded(self, pcm: bytes, at: float) -> None:
        """Note audio of the recorder that ends at *at*."""
        frames = list(self._microphone.push(pcm))
        end = at - self._microphone.pending
        for number, frame in enumerate(frames, 1):
            ends_at = end - (len(frames) - number) * FRAME_SECONDS
            self._microphone_level.add(frame, ends_at)
            self._check(frame, ends_at)

    def received(self, part: object, pcm: bytes, at: float) -> None:
        """Do nothing: only the played part of a response can be heard."""

    def played(self, part: object, pcm: bytes, at: float) -> None:
        """Note audio of a response that is audible from *at* on."""
        starts_at = at - self._speaker.pending
        for number, frame in enumerate(self._speaker.push(pcm), 1):
            ends_at = starts_at + number * FRAME_SECONDS
            self._audible_until = ends_at
            self._speaker_level.add(frame, ends_at)
            self._echo.played(frame, ends_at)

    # --- Problems -----------------------------------------------------------------

    def _check(self, frame: Frame, at: float) -> None:
        muted = self._filter.muted or not self._filter.is_open
        gated = self._filter.half_duplex and at <= self._audible_until + _LATE
        if not (muted or gated) and self._silence.add(frame) and self._is_silence_odd:
            reason = f"nothing but digital silence for {SILENT_SECONDS:.0f} s"
            self.tell(SoundProblem.SILENT, reason)
        if self._silence.is_silent:
            return
        self.problems.pop(SoundProblem.SILENT, None)
        if self._clipping.add(frame):
            self.tell(SoundProblem.CLIPPED, "too loud: its waves are cut off")
        if self._echo.recorded(frame, at) and not self._filter.half_duplex:
            self.tell(SoundProblem.ECHO, "it hears what the speaker plays")

    def on_event(self, event: VoiceEvent) -> None:
        """Note an interruption: the echo of the response may be what interrupts it."""
        if not isinstance(event, SpeechStarted) or self._filter.half_duplex:
            return
        if not self._echo.speech_started(time.monotonic()):
            return
        reason = "the assistant keeps interrupting itself: it hears its own echo"
        if self._may_gate:
            reason += "; the service gets silence during responses from now on"
            self._filter.half_duplex = True
        self.tell(SoundProblem.INTERRUPTS_ITSELF, reason)

    @property
    def _is_silence_odd(self) -> bool:
        from_device = self._kind in ("device", "command")
        return from_device or not self._silence.has_heard

    def tell(self, problem: SoundProblem, reason: str) -> None:
        """Publish a problem, once in the session."""
        if problem not in self._told:
            self._told.add(problem)
            self._publish(MicrophoneProblem(problem, reason, _ADVICE[problem]))
        self.problems[problem] = reason

    # --- Figures ------------------------------------------------------------------

    @property
    def microphone_dbfs(self) -> float | None:
        """The level of the microphone; ``None`` without sound in the last second."""
        return self._microphone_level.dbfs(time.monotonic())

    @property
    def speaker_dbfs(self) -> float | None:
        """The level of the speaker; ``None`` if nothing was audible in the last second."""
        return self._speaker_level.dbfs(time.monotonic())

    def microphone_details(self) -> list[str]:
        """Return the level and the problems of the microphone, a line each."""
        problems = [f"{why}; {_ADVICE[what]}" for what, why in self.problems.items()]
        return [_shown(self.microphone_dbfs), *problems]

    def speaker_details(self) -> list[str]:
        """Return the level of the speaker, in one line."""
        return [_shown(self.speaker_dbfs)]


def _shown(dbfs: float | None) -> str:
    return "level: no sound" if dbfs is None else f"level: {dbfs:.0f} dBFS"
