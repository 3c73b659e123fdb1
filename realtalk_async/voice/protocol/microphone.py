"""What the recorder delivers on its way to the service: filtered, then buffered."""

from __future__ import annotations

from realtalk_async.voice.protocol.pcm import BYTES_PER_MS, whole_samples


class InputFilter:
    """
    Between the recorder and the service.

    It works on whole samples, so that none is torn where it opens or closes.

    Args:
        push_to_talk: Let nothing through but between `open` and `close`.
        half_duplex: Let silence through while a response is played, for without echo
            cancellation the service would hear itself. The user's voice cannot break
            into a response then.
    """

    def __init__(
        self, *, push_to_talk: bool = False, half_duplex: bool = False
    ) -> None:
        self.push_to_talk = push_to_talk
        self.half_duplex = half_duplex
        self.muted = False
        """Let silence through: the service still hears that a turn has ended."""
        self.is_open = not push_to_talk
        """Whether anything goes through."""
        self.withheld = 0
        """Bytes that the service was not to hear."""
        self.passed = 0
        """Bytes that went through since it was last opened, silence among them."""
        self._half = b""

    def open(self) -> None:
        """Begin a turn of push-to-talk."""
        self.is_open = True
        self.passed = 0

    def close(self) -> None:
        """End a turn of push-to-talk."""
        self.is_open = False

    def realign(self) -> None:
        """Forget half a sample: its other half died with the recorder."""
        self._half = b""

    def apply(self, pcm: bytes, *, playing: bool = False) -> bytes:
        """
        Return what the service may hear of *pcm*, which may be of any size.

        Args:
            pcm: What the recorder gave.
            playing: Whether a response is being heard.
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
    What the recorder gave and the service has not yet taken.

    Recorders write in odd sizes (2.5 to 85 ms were seen, half samples among them);
    the service gets pieces of *least_ms* to *most_ms*. While nobody takes, the last
    *keep_ms* are kept and the rest is counted as dropped. What the service is not to
    hear stops at the *input_filter*.
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
        """Bytes the recorder gave, in all its lives."""
        self.dropped = 0
        """Bytes that were too old to be kept."""

    def __len__(self) -> int:
        return len(self._pending)

    def push(self, pcm: bytes, *, playing: bool = False) -> None:
        """Add what the recorder gave, while a response is *playing* or not."""
        self.received += len(pcm)
        self._pending += self.filter.apply(pcm, playing=playing)
        excess = len(self._pending) - self._keep
        if excess > 0:
            del self._pending[:excess]
            self.dropped += excess

    def realign(self) -> None:
        """Forget half a sample: its other half died with the recorder."""
        self.filter.realign()

    @property
    def ready(self) -> bool:
        """Whether `take` has something to give."""
        return len(self._pending) >= self._least

    def take(self, *, rest: bool = False) -> bytes:
        """
        Return the next piece, whole samples; empty if there is not enough yet.

        Args:
            rest: Whether less than usual is enough, for no more will come.
        """
        if not self.ready and not rest:
            return b""
        size = whole_samples(min(len(self._pending), self._most))
        piece = bytes(self._pending[:size])
        del self._pending[:size]
        return piece

    def clear(self) -> None:
        """Forget what is pending, and count it as dropped."""
        self.dropped += len(self._pending)
        self._pending.clear()
