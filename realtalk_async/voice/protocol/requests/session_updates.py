"""
The configuration of the session, and its changes until the service confirms them.

The service confirms each ``session.update`` by a ``session.updated`` that does not name
it, in their order, and refuses one by an ``error`` that names it. A change that is under
way when the connection is lost is sent again on the next one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from realtalk_async.exceptions import RequestRefused, WaitExpired
from realtalk_async.voice.events import ProtocolProblem, SessionUpdated
from realtalk_async.voice.protocol.requests.json_value import without_secrets
from realtalk_async.voice.protocol.requests.session_config import (
    session_change,
    session_update,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from realtalk_async.exceptions import RealtalkError
    from realtalk_async.voice.events import VoiceEvent
    from realtalk_async.voice.protocol.messages import Message
    from realtalk_async.voice.protocol.microphone import MicrophoneBuffer
    from realtalk_async.voice.protocol.requests.message_queue import MessageQueue
    from realtalk_async.voice.protocol.requests.session_config import SessionConfig
    from realtalk_async.voice.protocol.turns import Turn


_MAX_LOSSES = 3  # of the connection while a change is under way


@dataclass(slots=True, eq=False)
class SessionChange:
    """A change of the session."""

    options: Mapping[str, object]
    """The part of the ``session`` object that changes."""
    sent_at: float | None = None
    """When the service got it; ``None`` while it waits for a connection."""
    losses: int = 0
    """How often the connection was lost while it was under way."""
    is_over: bool = False
    """Whether it applies, or never will."""
    error: RealtalkError | None = None
    """Why it does not apply."""


class SessionUpdates:
    """
    The configuration, and the changes that are not confirmed.

    Args:
        config: The configuration that the first connection gets.
        queue: Sends the messages.
        turn: Is discarded if turns are detected otherwise from now on.
        microphone: Passes audio as the configuration says.
        publish: Called with each event for the app.
        grace: Seconds after which a change counts as confirmed by a service that
            confirms nothing.
        timeout: Seconds after which a change counts as refused by any other service.
    """

    def __init__(
        self,
        config: SessionConfig,
        queue: MessageQueue,
        turn: Turn,
        microphone: MicrophoneBuffer,
        publish: Callable[[VoiceEvent], None],
        *,
        grace: float,
        timeout: float,
    ) -> None:
        self.config = config
        """The configuration that each connection gets."""
        self._queue = queue
        self._turn = turn
        self._microphone = microphone
        self._publish = publish
        self._grace = grace
        self._timeout = timeout
        self._waiting: deque[SessionChange] = deque()
        self._sent: dict[str, SessionChange | None] = {}

    def send(self, message: Message, item_id: str = "") -> str:
        """Send a ``session.update``, which the service confirms; return its id."""
        event_id = self._queue.send(message, item_id)
        self._sent[event_id] = None
        return event_id

    def configure(self, config: SessionConfig, now: float) -> None:
        """Have each connection configured like this from now on."""
        self.config = config
        push_to_talk = config.detection is None
        if push_to_talk != self._microphone.filter.push_to_talk:
            self._turn.discard(now)
            self._microphone.filter.set_push_to_talk(push_to_talk)

    def connection_opened(self) -> str:
        """Send the configuration to a new connection; return the id of the message."""
        self.connection_lost()
        return self.send(session_update(self.config))

    def add(self, options: Mapping[str, object]) -> SessionChange:
        """Queue a change."""
        change = SessionChange(options)
        self._waiting.append(change)
        return change

    def withdraw(self, change: SessionChange) -> None:
        """Forget a change that was not sent; another one takes its course."""
        if change in self._waiting:
            self._waiting.remove(change)

    def send_waiting(self, now: float) -> None:
        """Send the changes that wait for a connection."""
        while self._waiting:
            change = self._waiting.popleft()
            event_id = self.send(session_change(self.config, change.options))
            self._sent[event_id] = change
            change.sent_at = now

    def confirmed(self, now: float) -> None:
        """Note a ``session.updated``: a change that it confirms is kept."""
        event_id = next(iter(self._sent), "")
        change = self._sent.pop(event_id, None)
        if change is not None:
            self._keep(change, now)

    def _keep(self, change: SessionChange, now: float) -> None:
        change.is_over = True
        self.configure(self.config.changed(change.options), now)
        told = cast("Mapping[str, object]", without_secrets(change.options))
        self._publish(SessionUpdated(told))

    def refused(self, event_id: str, param: str, code: str, message: str) -> bool:
        """
        Note an error; return whether it refuses a change.

        Args:
            event_id: The message that caused it; empty if the service does not tell.
            param: The field at fault, by which such an error is recognised.
            code: The code of the error.
            message: Its text.
        """
        if not event_id and param.split(".")[0] == "session":
            changes = (key for key, change in self._sent.items() if change)
            event_id = next(changes, "")
        change = self._sent.pop(event_id, None)
        if change is None:
            return False
        self._end(change, RequestRefused(code, message, "session.update"))
        return True

    def connection_lost(self) -> None:
        """Queue the changes again that were under way, unless they seem to break it."""
        changes = [change for change in self._sent.values() if change is not None]
        self._sent.clear()
        for change in reversed(changes):
            change.sent_at, change.losses = None, change.losses + 1
            if change.losses < _MAX_LOSSES:
                self._waiting.appendleft(change)
            else:
                why = f"the connection broke {_MAX_LOSSES} times after it was sent"
                error = RequestRefused("connection_lost", why, "session.update")
                self._end(change, error)

    def deadline(self, *, confirms: bool) -> float | None:
        """
        Return when `end_overdue` has something to do; ``None`` for never.

        Args:
            confirms: Whether the service has confirmed anything on this connection.
        """
        limit = self._timeout if confirms else self._grace
        times = (c.sent_at for c in self._sent.values() if c is not None)
        return min((at + limit for at in times if at is not None), default=None)

    def end_overdue(self, now: float, *, confirms: bool) -> None:
        """End the changes whose confirmation is overdue."""
        limit = self._timeout if confirms else self._grace
        for event_id, change in list(self._sent.items()):
            if change is None or change.sent_at is None or change.sent_at + limit > now:
                continue
            del self._sent[event_id]
            if not confirms:
                self._keep(change, now)
                continue
            error = f"the service did not confirm the update within {limit:g} s"
            self._end(change, WaitExpired(error))
            self._publish(ProtocolProblem(error))

    def _end(self, change: SessionChange, error: RealtalkError) -> None:
        change.is_over, change.error = True, error
