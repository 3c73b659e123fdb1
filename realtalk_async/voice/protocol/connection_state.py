"""
The state of the connection to the service: configuration, keepalive, expiry.

All times are in monotonic seconds.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from realtalk_async.exceptions import ServiceRefused, ServiceUnreachable
from realtalk_async.voice import events
from realtalk_async.voice.protocol import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.voice.events import VoiceEvent
    from realtalk_async.voice.protocol.messages import SendMessage, ServerEvent
    from realtalk_async.voice.protocol.outbox import Replayed

DEFAULT_LIFETIME = 3600.0
"""Seconds after which the service ends a session, unless it tells the time."""

_MARGIN = 60.0  # seconds before the end
_QUIET = 2.0  # seconds without speech
_LARGEST_SHARE = 10  # both are at most a tenth of a short lifetime, as tests use


class Keepalive:
    """
    Detects a service that stopped sending while its websocket still answers pings.

    After *silence* seconds the client sends a request that the service has answered
    before. If the service does not answer it, the connection is lost.

    Args:
        now: When the connection was opened.
        silence: Seconds without a message after which to ask.
        timeout: Seconds that the service has to answer.
    """

    def __init__(self, now: float, *, silence: float, timeout: float) -> None:
        self._silence = silence
        self._timeout = timeout
        self._received_at = now
        self._asked_at: float | None = None
        self.has_received = False
        """Whether any message has arrived."""
        self.answers = False
        """Whether the service confirmed the configuration; it is not asked otherwise."""

    def received(self, now: float) -> None:
        """Note that a message arrived."""
        self.has_received = True
        self._received_at = now
        self._asked_at = None

    def asked(self, now: float) -> None:
        """Note that a keepalive was sent."""
        self._asked_at = now

    def silent_for(self, now: float) -> float:
        """Return the seconds since the last message."""
        return now - self._received_at

    @property
    def ask_at(self) -> float | None:
        """When to send a keepalive; ``None`` if one is unanswered or would stay so."""
        if not self.answers or self._asked_at is not None:
            return None
        return self._received_at + self._silence

    @property
    def lost_at(self) -> float | None:
        """When the connection counts as lost; ``None`` if no answer is due."""
        return None if self._asked_at is None else self._asked_at + self._timeout


class Expiry:
    """
    Tells when to replace a connection before the service ends the session.

    The service ends a session after an hour without a warning, in the middle of a
    sentence too. The client replaces the connection a minute before, in silence.
    """

    def __init__(self, now: float) -> None:
        self.opened_at = now
        self._replace_at = now + DEFAULT_LIFETIME - _MARGIN
        self._quiet = _QUIET

    def end_at(self, end: float) -> None:
        """Note when the service will end the session; a time in the past is ignored."""
        lifetime = end - self.opened_at
        if lifetime <= 0:
            return
        self._replace_at = end - min(_MARGIN, lifetime / _LARGEST_SHARE)
        self._quiet = min(_QUIET, lifetime / _LARGEST_SHARE)

    def replace_at(self, active_at: float) -> float:
        """
        Return when to replace the connection, if neither side speaks then.

        Args:
            active_at: When the last turn or response ended.
        """
        return max(self._replace_at, active_at + self._quiet)


class State(enum.Enum):
    """The state of a session."""

    CONNECTING = "connecting"
    """There is no connection (yet, or any more)."""
    CONFIGURING = "configuring"
    """The connection is open; the service has not confirmed the configuration."""
    READY = "ready"
    CLOSING = "closing"
    """The connection is of no more use: close it, see `ConnectionState.error`."""
    CLOSED = "closed"
    """The session is over."""


class ConnectionState:
    """
    The state of one session's connection, from one websocket to the next.

    Args:
        send: Called with each message for the service.
        publish: Called with each event for the app.
        silence: Seconds without a message after which a keepalive is sent.
        timeout: Seconds that the service has to answer a keepalive, or to confirm the
            configuration.
    """

    def __init__(
        self,
        send: SendMessage,
        publish: Callable[[VoiceEvent], None],
        *,
        silence: float,
        timeout: float,
    ) -> None:
        self._send = send
        self._publish = publish
        self._silence = silence
        self._timeout = timeout
        self.state = State.CONNECTING
        self.error: ServiceUnreachable | ServiceRefused | None = None
        """Why the connection is closed; ``None`` if it is only replaced in time."""
        self.number = 0
        """The number of the connection, from 1 on."""
        self.was_ready = False
        """Whether the session has ever been ready."""
        self.is_healthy = False
        """Whether the service configured this connection and has not fallen silent."""
        self.expires_at: float | None = None
        """When the service will end the session, in seconds since the epoch."""
        self.keepalive = Keepalive(0.0, silence=silence, timeout=timeout)
        self.expiry = Expiry(0.0)
        self._model = ""
        self._epoch = 0.0  # seconds since the epoch at the monotonic time 0
        self._configuring_until: float | None = None
        self._config_message = ""
        self._keepalive_message = ""
        self.lost_at: float | None = None
        """When the last connection was lost; ``None`` while one works, and before."""
        self._replayed: Replayed | None = None

    @property
    def is_open(self) -> bool:
        """Whether the connection carries messages."""
        return self.state in (State.CONFIGURING, State.READY)

    # --- From opening to closing --------------------------------------------------

    def opened(
        self,
        model: str,
        config_message: str,
        replayed: Replayed,
        now: float,
        wall: float,
    ) -> None:
        """
        Note a new connection, which gets the configuration and the conversation.

        Args:
            model: The model of the configuration.
            config_message: The id of the message that configures the session.
            replayed: The number of replayed messages and tool calls, and of others.
            now: The time.
            wall: The same time in seconds since the epoch.
        """
        self.state, self.error, self.is_healthy = State.CONFIGURING, None, False
        self.number += 1
        self._model = model
        self._epoch = wall - now
        self.expiry = Expiry(now)
        self.keepalive = Keepalive(now, silence=self._silence, timeout=self._timeout)
        self._config_message = config_message
        self._configuring_until = now + self._timeout
        self._replayed = replayed

    def on_session_created(self, event: ServerEvent, now: float) -> None:
        """Note when the service will end the session."""
        expires_at = event.number("session", "expires_at")
        if expires_at is not None:
            self.expires_at = expires_at
            self.expiry.end_at(expires_at - self._epoch)

    def on_session_updated(self, event: ServerEvent, now: float) -> None:
        """Note the confirmation of the configuration or the answer to a keepalive."""
        self.on_session_created(event, now)
        self.keepalive.answers = True
        if self.state is State.CONFIGURING:
            self._configured(now, event.text("session", "id"))

    def _configured(self, now: float, session_id: str) -> None:
        self.state = State.READY
        self.was_ready = self.is_healthy = True
        self._configuring_until = None
        if self.lost_at is None:
            self._publish(events.Connected(session_id, self._model))
        else:
            downtime, self.lost_at = now - self.lost_at, None
            numbers = self._replayed or (0, 0)
            self._publish(events.ConnectionRestored(downtime, *numbers))

    def fail(self, reason: str) -> None:
        """Close the connection; a new connection may work."""
        self.state, self.error = State.CLOSING, ServiceUnreachable(reason)

    def refuse(self, code: str, message: str) -> None:
        """Close the connection and end the session: a new connection would fail too."""
        self.state, self.error = State.CLOSING, ServiceRefused(code, message)

    def replace(self, now: float, *, requested: bool = False) -> None:
        """Close the connection before the service ends it, or because the app asks."""
        age = now - self.expiry.opened_at
        self._publish(events.ConnectionRecycled(age, requested))
        self.state, self.lost_at = State.CLOSING, now

    def lost(self, now: float, state: State) -> None:
        """Note that the connection is lost; *state* follows."""
        self.state = state
        self._configuring_until = None
        if self.lost_at is None:
            self.lost_at = now

    # --- Errors and silence -------------------------------------------------------

    def on_response_done(self, event: ServerEvent) -> None:
        """End the session if a response failed because of a fatal error."""
        error = ("response", "status_details", "error")
        code, message = event.text(*error, "code"), event.text(*error, "message")
        if code in messages.FATAL_CODES:
            self.refuse(code, ": ".join(filter(None, (code, message))))

    def is_fatal(self, code: str, event_id: str) -> bool:
        """Return whether an error refuses the client, or its first configuration."""
        is_configuration = bool(event_id) and event_id == self._config_message
        is_refused = is_configuration and self.state is State.CONFIGURING
        return is_refused or code in messages.FATAL_CODES

    def is_about_keepalive(self, event_id: str) -> bool:
        """Return whether an error answers the keepalive."""
        return bool(event_id) and event_id == self._keepalive_message

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do; ``None`` for never."""
        times = [self._configuring_until]
        if self.state is State.READY:
            times += [self.keepalive.ask_at, self.keepalive.lost_at]
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> None:
        """Stop waiting for a confirmation; send a keepalive to a silent service."""
        keepalive = self.keepalive
        if is_due(self._configuring_until, now):
            self._skip_confirmation(now)
        if self.state is State.READY and is_due(keepalive.ask_at, now):
            keepalive.asked(now)
            self._keepalive_message = self._send(messages.session_touch())
        if self.state is State.READY and is_due(keepalive.lost_at, now):
            self._leave_silent_service(now)

    def _skip_confirmation(self, now: float) -> None:
        """Go on with a service that sends messages but never confirms."""
        self._configuring_until = None
        if not self.keepalive.has_received:
            self.fail(f"the service sent nothing within {self._timeout:g} s")
            return
        self._publish(events.ProtocolProblem("no session.updated; going on"))
        self._configured(now, "")

    def response_stalled(self, now: float) -> None:
        """Close the connection of a silent service that answers no keepalive."""
        keepalive = self.keepalive
        silent = keepalive.silent_for(now) >= self._silence
        if self.is_open and silent and not keepalive.answers:
            self._leave_silent_service(now)

    def _leave_silent_service(self, now: float) -> None:
        self.is_healthy = False
        silence = self.keepalive.silent_for(now)
        self.fail(f"the service sent nothing for {silence:.1f} s")


def is_due(time: float | None, now: float) -> bool:
    """Return whether *time* has come; ``None`` never comes."""
    return time is not None and now >= time
