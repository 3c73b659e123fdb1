"""The way of the audio: from the recorder to the buffer, from the service to the player."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async import g711
from realtalk_async.voice.protocol import messages
from realtalk_async.voice.protocol.playback import Part

if TYPE_CHECKING:
    from realtalk_async.g711 import AudioFormat
    from realtalk_async.voice.protocol.messages import ServerEvent
    from realtalk_async.voice.protocol.microphone import MicrophoneBuffer
    from realtalk_async.voice.protocol.playback import Playback
    from realtalk_async.voice.protocol.requests.interruption import Interruption
    from realtalk_async.voice.protocol.response_events import ResponseEvents
    from realtalk_async.voice.protocol.sound_tap import SoundTap

_ECHO = 0.2  # seconds for which the microphone may hear the end of a response


class AudioPath:
    """
    Passes on the audio of one session.

    Args:
        audio_format: The format of the service.
        microphone: Gets the audio of the recorder.
        playback: Gets the audio of the service.
        sound: Is told all audio.
        interruption: Gets the audio of the recorder too: speech may interrupt.
        response_events: Knows the responses under way.
    """

    def __init__(
        self,
        audio_format: AudioFormat,
        microphone: MicrophoneBuffer,
        playback: Playback,
        sound: SoundTap,
        interruption: Interruption,
        response_events: ResponseEvents,
    ) -> None:
        self._decoder = g711.Decoder(audio_format)
        self._microphone = microphone
        self._playback = playback
        self._sound = sound
        self._interruption = interruption
        self._response_events = response_events

    def push(self, pcm: bytes, now: float) -> None:
        """Take audio from the recorder, in any size."""
        self._sound.recorded(pcm, now)
        is_audible = self._playback.remaining(now - _ECHO) > 0
        self._microphone.push(pcm, playing=is_audible)
        self._interruption.recorded(pcm, now)

    def due(self, now: float) -> bytes:
        """Return the audio that may be written to the player now."""
        unplayed_ms = self._playback.level_ms(now) + self._playback.latency_ms
        pcm = self._playback.due(now)
        if pcm:
            playing = self._playback.playing
            self._sound.played(playing, pcm, now + unplayed_ms / 1000)
        return pcm

    def on_audio(self, event: ServerEvent, now: float) -> None:
        """Queue an audio delta of the service."""
        response = self._response_events.active_response(event, now)
        if response is None:
            return  # it has ended or was interrupted
        pcm = self._decoder.decode(messages.decode_audio(event.text("delta")))
        self._response_events.note_output(response, event, now)
        if not pcm:
            return
        part = Part(event.text("item_id"), event.index)
        response.audio[part] = response.audio.get(part, 0) + len(pcm)
        self._sound.received(part, pcm, now)
        self._playback.push(part, pcm, now)
