"""Taking part in a session: send text, interrupt, push-to-talk, wait for responses."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, overload

from realtalk_async import arguments
from realtalk_async.exceptions import (
    ClosedStream,
    InvalidConfiguration,
    WaitExpired,
)
from realtalk_async.voice.inspection import Inspection
from realtalk_async.voice.protocol.messages import ROLES
from realtalk_async.voice.protocol.requests.app_event import check_event
from realtalk_async.voice.protocol.requests.images import DETAILS
from realtalk_async.voice.requests.image_file import check_image, load_image
from realtalk_async.voice.requests.reconnecting import reconnect
from realtalk_async.voice.requests.response_request import (
    ResponseRequest,
    note_request,
    request_of_task,
)
from realtalk_async.voice.requests.threads import callable_from_threads
from realtalk_async.voice.tools import is_in_tool

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from realtalk_async.voice.events import Outcome
    from realtalk_async.voice.protocol.messages import Role
    from realtalk_async.voice.protocol.requests.images import Detail, Image
    from realtalk_async.voice.protocol.responses import Request
    from realtalk_async.voice.requests.image_file import ImageSource


class Interaction(Inspection):
    """The calls of an app that takes part in a session."""

    _microphone: object = None
    """The microphone; None for a session without one."""
    _loop: asyncio.AbstractEventLoop | None = None
    """The event loop in which the session runs."""

    @property
    def home_loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop in which the session runs; None before the start."""
        return self._loop

    @overload
    def send_text(
        self,
        text: str,
        role: Role = "user",
        *,
        trigger_response: Literal[True],
    ) -> ResponseRequest: ...
    @overload
    def send_text(
        self,
        text: str,
        role: Role = "user",
        trigger_response: bool = False,  # noqa: FBT001, FBT002
    ) -> ResponseRequest | None: ...
    @callable_from_threads
    def send_text(
        self,
        text: str,
        role: Role = "user",
        trigger_response: bool = False,  # noqa: FBT001, FBT002 - the contract's order
    ) -> ResponseRequest | None:
        """
        Send a text message.

        It waits while a response is under way or there is no connection, also before
        the start. A tool may send filler words while it works: the response that it asks
        for calls no tools, because it would wait for itself. Any thread may call this,
        such as that of a tool that is not async::

            request = stream.send_text("How are you?", trigger_response=True)
            outcome = await request

        Args:
            text: The message; space around it is removed.
            role: The author: ``user``, ``system`` or ``assistant``.
            trigger_response: Whether to ask for a response.

        Returns:
            The request for the response, if there is one. It may be ignored.

        Raises:
            InvalidConfiguration: If the text is blank, the role unknown, or another
                argument invalid.
            ClosedStream: If the session has ended.
        """
        self._raise_if_over()
        arguments.words("text", text)
        arguments.choice("role", role, ROLES)
        arguments.flag("trigger_response", trigger_response)
        return self._send_message(text, role, None, trigger_response=trigger_response)

    @overload
    async def send_image(
        self,
        image: ImageSource,
        text: str | None = None,
        *,
        detail: Detail = "auto",
        trigger_response: Literal[True],
    ) -> ResponseRequest: ...
    @overload
    async def send_image(
        self,
        image: ImageSource,
        text: str | None = None,
        *,
        detail: Detail = "auto",
        trigger_response: bool = False,
    ) -> ResponseRequest | None: ...
    async def send_image(
        self,
        image: ImageSource,
        text: str | None = None,
        *,
        detail: Detail = "auto",
        trigger_response: bool = False,
    ) -> ResponseRequest | None:
        """
        Show an image to the model, as a message of the user.

        It waits like a text. After a reconnect the newest images are sent again, up to
        16 MB as base64; older ones are named by format and size::

            request = await stream.send_image("receipt.jpg", "What did I pay?", trigger_response=True)
            outcome = await request

        Args:
            image: The path of a PNG or JPEG file, or its bytes; 10 MiB at most. Audio
                waits while a large image is sent.
            text: What the user says about it.
            detail: How closely the model looks: ``low``, ``high`` or ``auto``.
            trigger_response: Whether to ask for a response.

        Returns:
            The request for the response, if there is one, once the image was read.

        Raises:
            InvalidConfiguration: If the image cannot be read, is empty, too large, or of
                another format; if the text is blank or another argument invalid.
            ClosedStream: If the session has ended.

        Cancellation: The image is not sent.
        """
        self._raise_if_over()
        check_image("image", image)
        arguments.words("text", text, optional=True)
        arguments.choice("detail", detail, DETAILS)
        arguments.flag("trigger_response", trigger_response)
        self._check_loop()
        loaded = await load_image("image", image, detail)
        self._raise_if_over()
        return self._send_message(
            text or "", "user", loaded, trigger_response=trigger_response
        )

    def _send_message(
        self, text: str, role: Role, image: Image | None, *, trigger_response: bool
    ) -> ResponseRequest | None:
        request = self._session.send_text(
            *(text, role, time.monotonic()),
            trigger_response=trigger_response,
            may_call_tools=not is_in_tool(),
            image=image,
        )
        if request is not None:
            note_request(self._session.responses)
        self._connection.update()
        if request is None:
            return None
        return ResponseRequest(request, self._wait_for_request)

    def set_status_message(self, text: str) -> None:
        """
        Set the system message that is sent after each finished response.

        It is sent again each time until it is changed; an empty *text* ends that.

        Raises:
            InvalidConfiguration: If *text* is no text.
        """
        arguments.text("text", text)
        self._session.set_status(text)

    async def update_session(self, options: Mapping[str, object]) -> None:
        """
        Change the session in mid-conversation, and keep the change over reconnects::

            await stream.update_session({"instructions": "Speak French.", "tools": []})

        Without a connection the change waits for the next one. Before the start it is
        part of the first configuration, and the call returns at once. A service that
        confirms nothing at all has 5 s to refuse a change; then the change counts.

        Args:
            options: The part of the service's ``session`` object that changes, such as
                instructions, turn detection, speed or tools; objects are merged, lists
                replaced. A function among the tools must be one of the stream's.

        Raises:
            InvalidConfiguration: If a value cannot be written as JSON, if it is the
                model or the format of the audio, which cannot change, or if a tool is a
                function that the stream does not have. The error names the path.
            RequestRefused: If the service refuses the change, which then is not kept.
            WaitExpired: If the service confirms other messages, but not this one within
                `stall_after`; the change is not kept.
            ClosedStream: If the session has ended, or ends before.

        Cancellation: A change that was not sent is withdrawn; the service may still
            confirm another one, which is then kept.
        """
        self._raise_if_over()
        session, supervisor = self._session, self._supervisor
        checked = session.config.check_change("options", options)
        self._check_loop()
        if supervisor.state == "new":
            session.updates.configure(session.config.changed(checked), time.monotonic())
            return
        change = session.update_session(checked, time.monotonic())
        self._connection.update()
        try:
            await supervisor.wait_for(lambda: change.is_over or None)
        finally:
            session.updates.withdraw(change)
        if change.error is not None:
            raise change.error

    async def send_event(self, event: Mapping[str, object]) -> str:
        """
        Send a message of the protocol that no other method sends::

            await stream.send_event({"type": "conversation.item.delete", "item_id": "i"})

        It is not repeated on another connection. Without a connection it waits for the
        next one. What the service answers is in `eventlog`, and unknown events are
        published as `UnknownEvent`; an error is a `ServiceError` with the returned id.

        Args:
            event: A client event with its ``type``; an ``event_id`` is added if it has
                none.

        Returns:
            Its ``event_id``, once it is queued on an open connection.

        Raises:
            InvalidConfiguration: If it has no type, cannot be written as JSON, or is a
                ``session.update``, for which there is `update_session`.
            ClosedStream: If the session has not started, has ended, or ends before.

        Cancellation: It is not sent unless it was queued already.
        """
        self._raise_if_over()
        message = check_event("event", event)
        self._check_loop()
        if self._supervisor.state == "new":
            raise ClosedStream("the session has not started: use it inside its block")
        session = self._session
        await self._supervisor.wait_for(lambda: session.ready or None)
        event_id = session.send_event(message)
        self._connection.update()
        return event_id

    @callable_from_threads
    def interrupt(self) -> None:
        """
        Interrupt the response under way, and tools, as the user's voice does.

        Any thread may call this.

        Raises:
            ClosedStream: If the session has ended.
        """
        self._raise_if_over()
        self._session.interrupt(time.monotonic())
        self._connection.update()

    def mute(self) -> None:
        """Send silence instead of the microphone until `unmute` is called."""
        self._session.microphone.filter.muted = True

    def unmute(self) -> None:
        """Send the microphone again. Idempotent, as `mute` is."""
        self._session.microphone.filter.muted = False

    @property
    def is_muted(self) -> bool:
        """Whether the service gets silence instead of the microphone."""
        return self._session.microphone.filter.muted

    @callable_from_threads
    def start_talking(self) -> None:
        """
        Start a turn of push-to-talk: interrupt the response, and send the microphone.

        Raises:
            InvalidConfiguration: If the service detects the turns, or there is no
                microphone.
            ClosedStream: If the session has ended.
        """
        self._raise_if_over()
        input_filter = self._session.microphone.filter
        if not input_filter.push_to_talk or self._microphone is None:
            raise InvalidConfiguration(
                "push-to-talk needs a microphone and turn_detection=None"
            )
        if not input_filter.is_open:
            self._session.start_turn(time.monotonic())
            self._connection.update()

    @callable_from_threads
    def stop_talking(self, *, discard: bool = False) -> bool:
        """
        End the turn of push-to-talk, and ask for a response to it.

        If the connection is lost, the rest of the turn is sent when it is restored.

        Args:
            discard: Whether to forget the turn instead.

        Returns:
            Whether a response follows. After a turn shorter than 100 ms, which the
            service refuses, `wait_for_response` returns a cancelled outcome at once.

        Raises:
            InvalidConfiguration: If *discard* is neither True nor False.
        """
        arguments.flag("discard", discard)
        input_filter = self._session.microphone.filter
        is_talking = input_filter.push_to_talk and input_filter.is_open
        if self._supervisor.is_closed or not is_talking:
            return False
        follows = self._session.end_turn(time.monotonic(), discard=discard)
        if not discard:
            note_request(self._session.responses)
        self._connection.update()
        return follows

    @asynccontextmanager
    async def push_to_talk(self) -> AsyncGenerator[None, None]:
        """
        Send the microphone inside the block, then ask for a response::

            async with stream.push_to_talk():
                await key_released.wait()
            outcome = await stream.wait_for_response()

        If the block raises or is cancelled, the turn is forgotten.

        Raises:
            InvalidConfiguration, ClosedStream: See `start_talking`.
        """
        self.start_talking()
        try:
            yield
        except BaseException:
            self.stop_talking(discard=True)
            raise
        self.stop_talking()

    async def wait_for_response(self, timeout: float | None = 60.0) -> Outcome:
        """
        Wait for the end of a response: the last one that was requested, or else the one
        under way, or else the next.

        The last request is the last `send_text` with *trigger_response* or turn of
        push-to-talk whose outcome was not returned yet: of the calling task, or else of
        all tasks, at the time of the call; if there is none, the first that is made during
        the call. A response ends when the service has sent it all; it
        may still play then, see `wait_until_played`. A response that only calls tools
        does not count, but the response that follows their results.

        Args:
            timeout: Seconds, or ``None``.

        Returns:
            How it ended: completed, cancelled, failed, incomplete, lost or stalled.

        Raises:
            WaitExpired: If none ended in time.
            ClosedStream: If the session has ended, or ends before.
            InvalidConfiguration: If *timeout* is invalid.
        """
        arguments.seconds("timeout", timeout, infinite=True, optional=True)
        self._check_loop()
        responses = self._session.responses
        first = responses.ended
        request: Request | None = None

        def find() -> Outcome | None:
            nonlocal request
            request = request or request_of_task(responses) or responses.latest
            return request.outcome if request else responses.first_answer(first)

        try:
            async with asyncio.timeout(timeout):
                outcome = await self._supervisor.wait_for(find)
        except TimeoutError:
            raise WaitExpired(
                f"no response ended within {timeout:g} s; view_log() shows what the service sent"
            ) from None
        responses.handed_out(request)
        return outcome

    async def _wait_for_request(self, request: Request) -> Outcome:
        self._check_loop()
        outcome = await self._supervisor.wait_for(lambda: request.outcome)
        self._session.responses.handed_out(request)
        return outcome

    async def wait_until_played(self, timeout: float | None = 60.0) -> None:
        """
        Wait until all audio so far has been heard; return at once without a speaker.

        Raises:
            WaitExpired: If that takes longer than *timeout* seconds.
            InvalidConfiguration: If *timeout* is invalid.
        """
        arguments.seconds("timeout", timeout, infinite=True, optional=True)
        self._check_loop()
        try:
            async with asyncio.timeout(timeout):
                playback = self._session.playback
                # No event tells when audio was heard, only the clock does.
                while left := playback.remaining(time.monotonic()):  # noqa: ASYNC110
                    await asyncio.sleep(min(left, 0.1))
        except TimeoutError:
            raise WaitExpired(f"still playing after {timeout:g} s") from None

    async def reconnect(self, timeout: float | None = 60.0) -> None:
        """
        Replace the connection, and wait until the session is ready on the new one.

        The conversation is replayed. A turn or a response under way may end first, for
        10 s at most; then the response ends as ``lost``. It counts as no failure. All
        addresses of *url* are tried again, in their order. In an outage this waits for
        the next attempt, which follows within 15 s.

        Args:
            timeout: Seconds, or ``None``.

        Raises:
            WaitExpired: If the session is not ready in time; it goes on.
            ClosedStream: If the session has not started, has ended, or ends before.
            InvalidConfiguration: If *timeout* is invalid.

        Cancellation: Only the waiting ends; the connection is still replaced.
        """
        arguments.seconds("timeout", timeout, infinite=True, optional=True)
        self._raise_if_over()
        self._check_loop()
        if self._supervisor.state == "new":
            raise ClosedStream("the session has not started: use it inside its block")
        await reconnect(self._connection, self._supervisor, timeout)

    def _check_loop(self) -> None:
        """Raise `WrongEventLoop` if another event loop than the session's calls."""
        arguments.check_loop(self._loop, "this stream")

    def _raise_if_over(self) -> None:
        if self._supervisor.is_stopping:
            raise self._supervisor.closed()
