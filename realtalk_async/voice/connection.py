"""
The connection task: dials, drives the sans-I/O session, and publishes its events.

It is supervised like a process: when the connection breaks, `Connection.run` raises, and
the restart policy of the supervisor decides whether and when it is called again. Each
call configures the session and replays the conversation.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from realtalk_async.concurrency.waiting import first_of
from realtalk_async.exceptions import (
    AuthenticationRefused,
    ServiceRefused,
    ServiceUnreachable,
    StreamError,
)
from realtalk_async.supervision import RestartPolicy
from realtalk_async.voice.events import EndpointChanged
from realtalk_async.voice.protocol import messages
from realtalk_async.voice.protocol.connection_state import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.asyncio.client import ClientConnection

    from realtalk_async.voice.credentials.hiding import Secrets
    from realtalk_async.voice.dialing.endpoint_list import EndpointList
    from realtalk_async.voice.dialing.summarizer import Summarizer
    from realtalk_async.voice.endpoint import Endpoint
    from realtalk_async.voice.event_bus import SessionEventBus
    from realtalk_async.voice.events import ToolFinished
    from realtalk_async.voice.protocol.session import Session


class NeverConnected(ServiceUnreachable):
    """The first connection failed: the cause is rather a mistake than an outage."""


FATAL = (AuthenticationRefused, NeverConnected, ServiceRefused)
"""Errors that a new connection would meet as well."""

RECONNECT = RestartPolicy(
    "permanent", max_failures=30, decay=60.0, first_delay=0.1, max_delay=15.0
)
"""
The restart policy of the connection: at most 15 s between two attempts, however long the
outage is; 0.1 s before the first attempt after a connection that has worked.
"""

_PROVEN = 5.0  # seconds after which a connection that breaks is no repeated failure


class Connection:
    """
    Drives one session: gives it the time and the messages, and acts on its state.

    Each method that changes the session calls `update` afterwards.

    Args:
        session: The sans-I/O session.
        bus: Where the events of the session are published.
        summarizer: Sums up what a new connection does not get of the conversation.
    """

    def __init__(
        self, session: Session, bus: SessionEventBus, summarizer: Summarizer
    ) -> None:
        self.session = session
        self.bus = bus
        self._summarizer = summarizer
        self.error: StreamError | None = None
        """The last error of `run`."""
        self.on_proven: Callable[[], object] = _nothing
        """Called when a connection breaks that has worked for a while."""
        self._endpoints: EndpointList | None = None
        self._is_opened = False
        self._has_message = asyncio.Event()
        self._has_audio = asyncio.Event()
        self._closing = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._is_publishing = False

    # --- The websocket ------------------------------------------------------------

    async def run(self, endpoints: EndpointList) -> None:
        """
        Hold a connection until it breaks; replace it before the service ends it.

        If an endpoint cannot be used, the next one is dialled at once.

        Raises:
            ServiceUnreachable: If it broke, or cannot be opened now.
            NeverConnected: Likewise, and the session has never been ready.
            AuthenticationRefused, ServiceRefused: If a retry would fail as well.

        Cancellation: The connection is closed, within a second.
        """
        try:
            while True:
                await self._hold_any(endpoints)
        except StreamError as error:
            self.error = error
            was_ready = self.session.connection.was_ready
            if isinstance(error, ServiceUnreachable) and not was_ready:
                self.error = NeverConnected(str(error))
                raise self.error from error
            raise

    async def _hold_any(self, endpoints: EndpointList) -> None:
        """Hold a connection to the endpoint that is to be tried."""
        before, is_first = endpoints.current, self._endpoints is None
        self._endpoints = endpoints
        endpoint = endpoints.choose(time.monotonic())
        if endpoint is not before and not is_first:
            reason = "" if self.error is None else str(self.error)
            self.bus.publish(EndpointChanged(str(endpoint), endpoint.model, reason))
        self._is_opened = False
        try:
            await self._hold(endpoint)
        except StreamError as error:
            worked = self._is_opened and self.session.connection.is_healthy
            if not endpoints.failed(error, time.monotonic(), worked=worked):
                raise
            self.error = error

    async def _hold(self, endpoint: Endpoint) -> None:
        """Hold one connection until it breaks or is to be closed."""
        # websockets takes a third of the import time: only a dialling app pays for it.
        from realtalk_async.voice.websocket import dial, translated_errors

        left_out = self.session.messages_left_out()
        self._summarizer.begin(left_out)
        async with dial(endpoint) as websocket:
            summary = await self._summarizer.text(left_out)
            opened_at = time.monotonic()
            self._closing.clear()
            self._is_opened = True
            model = endpoint.model
            self.session.connected(opened_at, time.time(), summary, model=model)
            self.update()
            try:
                with translated_errors(endpoint):
                    await self._exchange(websocket, endpoint.secrets)
            except ServiceRefused as error:
                if self._endpoints is not None and self._endpoints.has_other:
                    self._lost(str(error), opened_at)
                raise  # otherwise the session ends, and all responses with it
            except Exception as error:
                self._lost(str(error), opened_at)
                raise

    async def _exchange(self, websocket: ClientConnection, secrets: Secrets) -> None:
        """
        Read and write until the connection breaks or is to be closed.

        Raises:
            StreamError: Why it is closed, unless it is only replaced in time.
        """
        await first_of(
            self._read(websocket, secrets), self._write(websocket), self._closing.wait()
        )
        error = self.session.connection.error
        if error is not None:
            raise error

    async def _read(self, websocket: ClientConnection, secrets: Secrets) -> None:
        while self.session.state is not State.CLOSING:
            # A service may quote the key, in an error or elsewhere.
            data = secrets.hide_bytes(await websocket.recv(decode=False))
            self.session.receive_data(data, time.monotonic())
            self.update()

    async def _write(self, websocket: ClientConnection) -> None:
        while True:
            await self._has_message.wait()
            self._has_message.clear()
            while message := self.session.next_message(time.monotonic()):
                await websocket.send(messages.encode(message), text=True)
            self.update()

    def _lost(self, reason: str, opened_at: float) -> None:
        now = time.monotonic()
        if self.session.connection.is_healthy and now - opened_at >= _PROVEN:
            self.on_proven()
        self.session.connection_lost(reason, now)
        self.update()

    # --- The state of the session -------------------------------------------------

    def update(self) -> None:
        """Publish the events of the session, wake its tasks, and set its timer."""
        if self._is_publishing:
            return  # a subscriber acts; the call that publishes goes on after it
        session = self.session
        self._is_publishing = True
        try:
            for event in session.events_received():
                self.bus.publish(event)
        finally:
            self._is_publishing = False
        if session.has_message:
            self._has_message.set()
        if session.playback.queued:
            self._has_audio.set()
        if session.state is State.CLOSING:
            self._closing.set()
        self._set_timer()

    def _set_timer(self) -> None:
        """Call `_tick` at the deadline of the session; an early call does no harm."""
        deadline = self.session.deadline
        if self._timer is not None:
            if deadline is not None and self._timer_at <= deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            delay = max(0.0, deadline - time.monotonic())
            self._timer_at = deadline
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.session.tick(time.monotonic())
        self.update()

    def tool_finished(self, result: ToolFinished) -> None:
        """Send the result of a tool."""
        self.session.tool_finished(result, time.monotonic())
        self.update()

    def request_reconnect(self) -> None:
        """Replace the connection soon, and dial all endpoints again, in their order."""
        if self._endpoints is not None:
            self._endpoints.forget_failures()
        self.session.replacement.request(time.monotonic())
        self.session.tick(time.monotonic())
        self.update()

    def interruption_decided(self, *, interrupts: bool) -> None:
        """Interrupt the response, or let the speech go unanswered."""
        self.session.interruption_decided(time.monotonic(), interrupts=interrupts)
        self.update()

    def end(self, reason: str) -> None:
        """End the session: nothing is sent or played any more."""
        self.session.end(reason, time.monotonic())
        self.update()

    # --- Recorder and player ------------------------------------------------------

    def push_audio(self, pcm: bytes) -> None:
        """Take audio from the recorder, in any size."""
        self.session.push_audio(pcm, time.monotonic())
        if self.session.has_event:
            self.update()  # the user interrupted
        elif self.session.has_message:
            self._has_message.set()

    def audio_due(self) -> bytes:
        """Return the audio that may be written to the player now."""
        return self.session.audio_due(time.monotonic())

    async def wait_for_audio(self) -> None:
        """Wait until `audio_due` may have audio."""
        delay = self.session.playback.wait(time.monotonic())
        self._has_audio.clear()
        try:
            async with asyncio.timeout(delay):
                await self._has_audio.wait()
        except TimeoutError:
            return

    def speaker_lost(self) -> None:
        """Drop the queued and all later audio: there is no speaker."""
        self.session.playback.speaker_lost(time.monotonic())


def _nothing() -> None:
    return
