"""The tap on the sound of a session: the recording, timeline and metrics listen to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from realtalk_async.voice.protocol.pcm import whole_samples

if TYPE_CHECKING:
    from realtalk_async.voice.protocol.microphone import InputFilter
    from realtalk_async.voice.protocol.playback import Part


class SoundListener(Protocol):
    """A listener; all times are in monotonic seconds."""

    def recorded(self, pcm: bytes, at: float) -> None:
        """The recorder delivered *pcm*, whole samples."""
        ...

    def received(self, part: Part, pcm: bytes, at: float) -> None:
        """The service sent a piece of a response."""
        ...

    def played(self, part: Part | None, pcm: bytes, at: float) -> None:
        """The player was given a piece of a response, which is audible from *at* on."""
        ...


class SoundTap:
    """
    Passes all sound of a session to its listeners; the event bus carries no sound.

    Args:
        input_filter: Tells when another recorder begins, with a whole sample.
    """

    def __init__(self, input_filter: InputFilter) -> None:
        self._listeners: list[SoundListener] = []
        self._filter = input_filter
        self._realignments = input_filter.realignments
        self._half = b""

    def add(self, listener: SoundListener) -> None:
        """Pass all sound to *listener* from now on."""
        self._listeners.append(listener)

    def remove(self, listener: SoundListener) -> None:
        """Pass no more sound to *listener*."""
        self._listeners = [each for each in self._listeners if each is not listener]

    def recorded(self, pcm: bytes, at: float) -> None:
        """Pass on the whole samples of a piece from the recorder."""
        if self._realignments != self._filter.realignments:
            # Half a sample of the last recorder would garble the next one's samples.
            self._realignments, self._half = self._filter.realignments, b""
        whole = self._half + pcm
        size = whole_samples(len(whole))
        pcm, self._half = whole[:size], whole[size:]
        for listener in self._listeners:
            listener.recorded(pcm, at)

    def received(self, part: Part, pcm: bytes, at: float) -> None:
        """Pass on a piece from the service."""
        for listener in self._listeners:
            listener.received(part, pcm, at)

    def played(self, part: Part | None, pcm: bytes, at: float) -> None:
        """Pass on a piece that the player was given."""
        for listener in self._listeners:
            listener.played(part, pcm, at)
