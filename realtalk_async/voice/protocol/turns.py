"""The user's turn: from the first word, or the pressed button, to the expected response."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from realtalk_async.voice.protocol.pcm import BYTES_PER_MS

if TYPE_CHECKING:
    from realtalk_async.voice.protocol.microphone import MicrophoneBuffer
    from realtalk_async.voice.protocol.responses import Request

LEAST_TURN_MS = 100
"""The service refuses a shorter turn."""

_LEAST_TURN = LEAST_TURN_MS * BYTES_PER_MS


class TurnState(enum.Enum):
    """The state of the user's turn."""

    IDLE = "idle"
    SPEAKING = "speaking"
    """The service detected speech."""
    COMMITTED = "committed"
    """The service took the turn and will respond to it without a request."""
    TALKING = "talking"
    """Push-to-talk: the turn has started."""
    ENDING = "ending"
    """Push-to-talk: the turn has ended, but its audio is not completely sent."""


class Turn:
    """
    The state of the user's turn; all times are in monotonic seconds.

    Args:
        microphone: Its audio passes during a turn of push-to-talk.
        stall_after: Seconds that the service has to start the response that it owes.
    """

    def __init__(self, microphone: MicrophoneBuffer, stall_after: float) -> None:
        self._microphone = microphone
        self._stall_after = stall_after
        self.state = TurnState.IDLE
        self._committed_at = 0.0
        self.request: Request | None = None
        """The request for a response; set in the state ENDING."""
        self.sent = 0
        """Bytes of audio that this connection got since the turn started."""
        self.ended_at = 0.0
        """When the user stopped speaking."""

    @property
    def awaits_response(self) -> bool:
        """Whether the service will respond without a request of the client."""
        return self.state is TurnState.COMMITTED

    @property
    def response_until(self) -> float | None:
        """When the response that the service owes is given up."""
        owed = self.state is TurnState.COMMITTED
        return self._committed_at + self._stall_after if owed else None

    def speech_started(self) -> None:
        """Note that the service detected speech."""
        self.state = TurnState.SPEAKING

    def speech_stopped(self, now: float) -> None:
        """Note that the service detected the end of speech."""
        self.ended_at = now
        if self.state is TurnState.SPEAKING:
            self.state = TurnState.IDLE

    def committed(self, now: float, *, awaits_response: bool) -> None:
        """Note that the service took the turn; some servers announce nothing before."""
        if awaits_response:
            self.state, self._committed_at = TurnState.COMMITTED, now
        elif self.state is TurnState.SPEAKING:
            self.state = TurnState.IDLE

    def answered(self) -> None:
        """Note that the expected response started, or was given up."""
        if self.state is TurnState.COMMITTED:
            self.state = TurnState.IDLE

    def start(self) -> None:
        """Start a turn of push-to-talk, with the audio from now on."""
        self._microphone.clear()
        self._microphone.filter.open()
        self.state, self.request, self.sent = TurnState.TALKING, None, 0

    def end(self, request: Request) -> bool:
        """
        End a turn of push-to-talk; *request* asks for the response to it.

        Returns:
            Whether it was long enough; otherwise `discard` it.
        """
        self._microphone.filter.close()
        if self._microphone.filter.passed < _LEAST_TURN:
            return False
        self.state, self.request = TurnState.ENDING, request
        return True

    @property
    def was_sent(self) -> bool:
        """Whether this connection got enough of the turn."""
        return self.sent >= _LEAST_TURN

    def discard(self, now: float) -> None:
        """Finish a turn of push-to-talk without the audio that was not sent."""
        self._microphone.filter.close()
        self._microphone.clear()
        self.finish(now)

    def finish(self, now: float) -> None:
        """Finish a turn of push-to-talk: its audio was sent, or discarded."""
        self.state, self.request, self.ended_at = TurnState.IDLE, None, now

    def connection_opened(self) -> None:
        """Note that a new connection has got none of the audio."""
        self.sent = 0

    def connection_lost(self) -> bool:
        """Return whether a detected turn was lost; one of push-to-talk goes on."""
        lost = self.state in (TurnState.SPEAKING, TurnState.COMMITTED)
        if lost:
            self.state = TurnState.IDLE
        return lost
