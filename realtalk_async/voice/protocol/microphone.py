"""The buffer between recorder and service, and the filter in front of it."""

from __future__ import annotations

from realtalk_async.voice.protocol.pcm import BYTES_PER_MS, whole_samples


class InputFilter:
    """
    Decides which audio of the recorder the service gets, in whole samples.

    Args:
        push_to_talk: Pass audio only between `open` and `close`.
        half_duplex: Pass silence while a response is audible: without echo cancellation
            the service would hear itself. The user cannot interrupt a response then.
    """

    def __init__(
        self, *, push_to_talk: bool = False, half_duplex: bool = False
    ) -> None:
        self.push_to_talk = push_to_talk
        self.half_duplex = half_duplex
        self.muted = False
        """Pass silence, by which the service still detects the end of a turn."""
        self.is_open = not push_to_talk
        """Whether audio passes."""
        self.withheld = 0
        """Number of bytes that the service did not get."""
        self.passed = 0
        """Number of bytes that passed since `open`, silence included."""
        self._half = b""
        self.realignments = 0
        """Number of times that another recorder began, with a whole sample."""

    def set_push_to_talk(self, push_to_talk: bool) -> None:  # noqa: FBT001
        """Pass audio only between `open` and `close` from now on, or all of it."""
        self.push_to_talk = push_to_talk
        self.is_open = not push_to_talk

    def open(self) -> None:
        """Start a turn of push-to-talk."""
        self.is_open = True
        self.passed = 0

    def close(self) -> None:
        """End a turn of push-to-talk."""
        self.is_open = False

    def realign(self) -> None:
        """Drop half a sample, whose other half was lost with the recorder."""
        self._half = b""
        self.realignments += 1

    def apply(self, pcm: bytes, *, playing: bool = False) -> bytes:
        """
        Return the audio for the service.

        Args:
            pcm: Audio of the recorder, of any size.
            playing: Whether a response is audible.
        """
        whole = self._half + pcm
        size = len(whole) & ~1
        whole, self._half = whole[:size], whole[size:]
        if not self.is_open:
            self.withheld += size
            return b""
        self.passed += size
        if self.muted or (self.half_duplex and playing):
            self.withheld += size
            return bytes(size)
        return whole


class MicrophoneBuffer:
    """
    Audio of the recorder that was not sent yet.

    Recorders write odd sizes (2.5 to 85 ms were measured, half samples among them); the
    service gets pieces of *least_ms* to *most_ms*. Without a connection the last
    *keep_ms* are kept, and older audio is counted as dropped. The *input_filter* decides
    which audio gets into the buffer.
    """

    def __init__(
        self,
        *,
        least_ms: int = 20,
        most_ms: int = 40,
        keep_ms: int = 2000,
        input_filter: InputFilter | None = None,
    ) -> None:
        self.filter = input_filter or InputFilter()
        self._least = least_ms * BYTES_PER_MS
        self._most = most_ms * BYTES_PER_MS
        self._keep = keep_ms * BYTES_PER_MS
        self._pending = bytearray()
        self.received = 0
        """Number of bytes from the recorder, over all its incarnations."""
        self.taken = 0
        """Number of bytes that were taken to be sent."""
        self.dropped = 0
        """Number of bytes that were too old to be kept."""

    def __len__(self) -> int:
        return len(self._pending)

    def push(self, pcm: bytes, *, playing: bool = False) -> None:
        """Add audio of the recorder; *playing* tells whether a response is audible."""
        self.received += len(pcm)
        self._pending += self.filter.apply(pcm, playing=playing)
        excess = len(self._pending) - self._keep
        if excess > 0:
            del self._pending[:excess]
            self.dropped += excess

    def realign(self) -> None:
        """Drop half a sample, whose other half was lost with the recorder."""
        self.filter.realign()

    @property
    def ready(self) -> bool:
        """Whether `take` has a piece."""
        return len(self._pending) >= self._least

    def take(self, *, rest: bool = False) -> bytes:
        """
        Return the next piece, whole samples; empty if there is not enough yet.

        Args:
            rest: Whether a shorter piece will do, because the turn has ended.
        """
        if not self.ready and not rest:
            return b""
        size = whole_samples(min(len(self._pending), self._most))
        piece = bytes(self._pending[:size])
        del self._pending[:size]
        self.taken += size
        return piece

    def clear(self) -> None:
        """Drop the pending audio, and count it."""
        self.dropped += len(self._pending)
        self._pending.clear()
