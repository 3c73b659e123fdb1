"""
What of the microphone the service may hear: muted, push-to-talk, half-duplex. Pure.
"""

from __future__ import annotations


class Gate:
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

    def let_through(self, pcm: bytes, *, playing: bool = False) -> bytes:
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
