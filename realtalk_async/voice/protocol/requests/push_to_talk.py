"""A turn of push-to-talk, and the request for the response to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.voice.events import Status
from realtalk_async.voice.protocol import messages
from realtalk_async.voice.protocol.connection_state import State
from realtalk_async.voice.protocol.turns import LEAST_TURN_MS

if TYPE_CHECKING:
    from realtalk_async.voice.protocol.connection_state import ConnectionState
    from realtalk_async.voice.protocol.messages import SendMessage
    from realtalk_async.voice.protocol.outbox import Outbox
    from realtalk_async.voice.protocol.response_events import ResponseEvents
    from realtalk_async.voice.protocol.responses import Request, Responses
    from realtalk_async.voice.protocol.turns import Turn


class PushToTalk:
    """
    Starts and ends the turns of push-to-talk.

    Args:
        turn: The user's turn.
        connection: Tells whether the service gets messages.
        responses: Makes the request.
        response_events: Ends a request that is never sent.
        outbox: Sends the request.
        send: Called with each message for the service.
    """

    def __init__(
        self,
        turn: Turn,
        connection: ConnectionState,
        responses: Responses,
        response_events: ResponseEvents,
        outbox: Outbox,
        send: SendMessage,
    ) -> None:
        self._turn = turn
        self._connection = connection
        self._responses = responses
        self._response_events = response_events
        self._outbox = outbox
        self._send = send

    def start(self, now: float) -> None:
        """Start a turn; one whose audio was not sent yet ends as cancelled."""
        if self._turn.request is not None:
            why = "another turn started before its audio was sent"
            self._end(self._turn.request, Status.CANCELLED, why, now)
        self._turn.start()

    def end(self, now: float, *, discard: bool) -> bool:
        """End a turn; see `Session.end_turn`."""
        if not discard:
            request = self._responses.new_request()
            if self._turn.end(request):
                return True
            why = f"the turn was shorter than {LEAST_TURN_MS} ms"
            self._end(request, Status.CANCELLED, why, now)
        self._turn.discard(now)
        self.clear_audio()
        return False

    def commit(self, now: float) -> None:
        """Request the response; the audio may be lost with an earlier connection."""
        request, was_sent = self._turn.request, self._turn.was_sent
        self._turn.finish(now)
        if request is None:
            return
        if was_sent:
            self._send(messages.commit_audio())
            self._outbox.queue_request(request)
        else:
            self.clear_audio()
            why = "the turn was lost with the connection"
            self._end(request, Status.LOST, why, now)

    def clear_audio(self) -> None:
        """Have the service forget the audio since the last turn."""
        if self._connection.state is State.READY:
            self._send(messages.clear_audio())

    def _end(self, request: Request, status: Status, why: str, now: float) -> None:
        self._response_events.finish_unsent(request, status, why, now)
