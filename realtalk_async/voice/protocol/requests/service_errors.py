"""Handles the ``error`` events of the service: each belongs to a message of the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.voice import events
from realtalk_async.voice.protocol import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.voice.events import VoiceEvent
    from realtalk_async.voice.protocol.connection_state import ConnectionState
    from realtalk_async.voice.protocol.conversation import Conversation
    from realtalk_async.voice.protocol.messages import Sent, ServerEvent
    from realtalk_async.voice.protocol.requests.message_queue import MessageQueue
    from realtalk_async.voice.protocol.requests.session_updates import SessionUpdates
    from realtalk_async.voice.protocol.response_events import ResponseEvents
    from realtalk_async.voice.protocol.responses import Responses

_NOTHING_TO_CANCEL = "response_cancel_not_active"


class ServiceErrors:
    """
    Handles errors of the service; the session goes on unless one is fatal.

    Args:
        sent: The messages that errors name.
        connection: Ends with a fatal error.
        updates: The changes of the session that an error may refuse.
        responses: The requests that an error may refuse.
        response_events: Ends a refused request.
        conversation: Loses a refused item.
        publish: Called with each event for the app.
    """

    def __init__(
        self,
        sent: MessageQueue,
        connection: ConnectionState,
        updates: SessionUpdates,
        responses: Responses,
        response_events: ResponseEvents,
        conversation: Conversation,
        publish: Callable[[VoiceEvent], None],
    ) -> None:
        self._sent = sent
        self._connection = connection
        self._updates = updates
        self._responses = responses
        self._response_events = response_events
        self._conversation = conversation
        self._publish = publish

    def on_error(self, event: ServerEvent, now: float) -> None:
        """Handle an ``error`` event."""
        code = event.text("error", "code") or event.text("error", "type") or "error"
        message = event.text("error", "message")
        event_id = event.text("error", "event_id")
        about = self._sent.named(event_id)
        needless = code == _NOTHING_TO_CANCEL and about.type == "response.cancel"
        param = event.text("error", "param")
        self._updates.refused(event_id, param, code, message)
        if needless or self._connection.is_about_keepalive(event_id):
            return  # the response ended meanwhile; the service is alive
        fatal = self._connection.is_fatal(code, event_id)
        error = events.ServiceError(code, message, event_id, about.type, fatal)
        self._publish(error)
        if fatal:
            self._connection.refuse(code, message)
        elif code == "session_expired":
            reason = f"the session has expired: {code}: {message}"
            self._connection.fail(reason)
        elif not about.from_app:
            self._end_refused(about, code, message, now)

    def _end_refused(self, about: Sent, code: str, message: str, now: float) -> None:
        """End what the refused message asked for."""
        if code == messages.RESPONSE_ACTIVE and about.type in ("response.create", ""):
            outcome = self._responses.request_refused(now)
            if outcome is not None:
                self._publish(events.ResponseFinished(outcome))
        elif about.type == "response.create":
            self._response_events.request_failed(f"{code}: {message}", now)
        elif about.type == "conversation.item.create":
            self._conversation.delete(about.item_id)
            reason = f"the message was refused: {code}: {message}"
            self._response_events.message_refused(about.item_id, reason, now)
