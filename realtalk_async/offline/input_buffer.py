"""
The input audio buffer of a session: its frames, its turns, its limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from realtalk_async.offline import config
from realtalk_async.offline.effects import BYTES_PER_MS, FRAME_BYTES, InvalidRequest
from realtalk_async.offline.vad import ONSET_MS, TurnChange, TurnDetector

if TYPE_CHECKING:
    from realtalk_async.offline.effects import JsonObject

LONGEST_UTTERANCE_MS = 120_000
"""A longer utterance is split into two turns, or refused without turn detection."""

LONGEST_BYTES = LONGEST_UTTERANCE_MS * BYTES_PER_MS

_SMALLEST_COMMIT_MS = 100


class InputBuffer:
    """The audio that a client has sent since its last commit."""

    def __init__(self) -> None:
        self._detector = TurnDetector()
        self._incomplete = bytearray()
        self._audio = bytearray()
        self._received = 0

    @property
    def speaking(self) -> bool:
        """Whether a turn of the user is under way."""
        return self._detector.speaking

    @property
    def audio(self) -> bytes:
        """A copy of the buffered audio."""
        return bytes(self._audio)

    @property
    def start_ms(self) -> int:
        """The time at which the buffered audio begins, see `now_ms`."""
        return self.now_ms - len(self._audio) // BYTES_PER_MS

    @property
    def now_ms(self) -> int:
        """The duration of all received audio: the clock of the input."""
        return self._received // BYTES_PER_MS

    def take_frames(self, pcm: bytes) -> bytes:
        """Return the whole frames that *pcm* completes; keep the rest for later."""
        self._incomplete += pcm
        size = len(self._incomplete) // FRAME_BYTES * FRAME_BYTES
        frames = bytes(self._incomplete[:size])
        del self._incomplete[:size]
        return frames

    def push(
        self, frame: bytes, *, voiced: bool, detection: JsonObject
    ) -> tuple[TurnChange | None, bytes]:
        """
        Buffer the next frame, and detect whether a turn starts or stops with it.

        Returns:
            The change, and the audio that the frame adds to the utterance: at the start
            of a turn also the padding before it, between turns none.
        """
        self._received += len(frame)
        self._audio += frame
        if not self.speaking:
            padding = cast("int", detection.get("prefix_padding_ms", 300))
            del self._audio[: -(padding + ONSET_MS) * BYTES_PER_MS]
        silence_ms = config.silence_ms(detection)
        change = self._detector.push(voiced=voiced, silence_ms=silence_ms)
        if change is TurnChange.STARTED:
            return change, self.audio
        if change is None and not self.speaking:
            return None, b""
        if len(self._audio) >= LONGEST_BYTES:
            self._detector.reset()
            change = TurnChange.STOPPED
        return change, frame

    def append(self, pcm: bytes) -> None:
        """
        Buffer audio without turn detection.

        Raises:
            InvalidRequest: If the buffer has no room for it.
        """
        if len(self._audio) + len(pcm) > LONGEST_BYTES:
            longest = LONGEST_UTTERANCE_MS // 1000
            message = f"The input audio buffer holds at most {longest} s of audio: "
            message += "commit or clear it first."
            raise InvalidRequest("input_audio_buffer_full", message, "audio")
        self._received += len(pcm)
        self._audio += pcm

    def check_commit(self) -> None:
        """
        Check that a client may commit the buffer, incomplete frame included.

        Raises:
            InvalidRequest: If it holds less than 100 ms.
        """
        self._audio += self._incomplete
        self._incomplete.clear()
        has = len(self._audio) / BYTES_PER_MS
        if has < _SMALLEST_COMMIT_MS:
            message = "Error committing input audio buffer: buffer too small. Expected "
            message += (
                f"at least 100ms of audio, but buffer only has {has:.2f}ms of audio."
            )
            raise InvalidRequest("input_audio_buffer_commit_empty", message)

    def take(self) -> bytearray:
        """Return the buffered audio and empty the buffer."""
        audio, self._audio = self._audio, bytearray()
        return audio

    def end_turn(self) -> None:
        """End the turn that is under way, if any."""
        self._detector.reset()

    def clear(self) -> None:
        """Drop all audio and the turn that is under way."""
        self._audio.clear()
        self._incomplete.clear()
        self._detector.reset()
