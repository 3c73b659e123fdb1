"""
One client's connection: executes the effects of a `Session` on socket and speech engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

import anyio
import orjson
from websockets.exceptions import ConnectionClosed

from realtalk_async.offline.answers.policy import choose_answer, sentences
from realtalk_async.offline.answers.tools import Call
from realtalk_async.offline.effects import (
    BYTES_PER_MS,
    DetectVoice,
    Effect,
    FeedRecogniser,
    FindAnswer,
    InvalidRequest,
    JsonObject,
    Recognise,
    ResetRecogniser,
    SendEvent,
    Transcribe,
    as_object,
)
from realtalk_async.offline.faults.injector import Close, Drop, Send, error_event
from realtalk_async.offline.faults.kinds import CLOSE_CODES, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anyio.abc import TaskGroup
    from websockets.asyncio.server import ServerConnection

    from realtalk_async.offline.faults.injector import Action, FaultInjector
    from realtalk_async.offline.session import Session
    from realtalk_async.offline.speech.engine import SpeechEngine

DELTA_BYTES = 100 * BYTES_PER_MS
"""Audio in one delta."""

_SLICE_BYTES = 1000 * BYTES_PER_MS
"""Audio in one call of the voice detector: about a millisecond of work."""

_BACKLOG_LIMIT = 10_000 * BYTES_PER_MS
"""
Audio that may wait for the recogniser before reading pauses.

A client that sends in real time never reaches it: recognition is ten times as fast.
"""

_OUTBOX_LIMIT = 64
"""Events that may wait to be sent before the audio of an answer pauses."""

_log = logging.getLogger(__name__)


class Connection:
    """
    Serves one client until the connection ends.

    Args:
        socket: The websocket.
        session: Its protocol state.
        speech: Recognition and synthesis; shared by all connections.
        injector: Injects the faults of this connection.
        pace: Seconds of audio sent per second; 0 for no limit.
        lifetime: Seconds until the session expires.
        on_event: Called with each event of the client.
    """

    def __init__(
        self,
        socket: ServerConnection,
        session: Session,
        speech: SpeechEngine,
        injector: FaultInjector,
        *,
        pace: float,
        lifetime: float,
        on_event: Callable[[JsonObject], None],
    ) -> None:
        self._socket = socket
        self._session = session
        self._speech = speech
        self._injector = injector
        self._pace = pace
        self._lifetime = lifetime
        self._on_event = on_event
        self._recogniser = speech.new_recogniser()
        self._detector = speech.new_voice_detector()
        self._backlog = 0
        self._outbox: deque[JsonObject | Fault] = deque()
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()

    async def run(self) -> None:
        """
        Serve until either side closes.

        Cancellation: Safe; the server closes the connection.
        """
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, tasks)
                tasks.start_soon(self._expire)
                await self._execute(self._session.opened(), tasks)
                await self._read(tasks)
                tasks.cancel_scope.cancel()
        finally:
            self._speech.reset(self._recogniser)

    def apply(self, fault: Fault) -> None:
        """Inject *fault* after the events that wait to be sent."""
        self._outbox.append(fault)
        self._filled.set()

    # --- events of the client

    async def _read(self, tasks: TaskGroup) -> None:
        with suppress(ConnectionClosed):
            async for message in self._socket:
                event = _parse(message)
                if event is None:
                    self._queue(self._session.error(_NOT_JSON).event)
                    continue
                self._on_event(event)
                await self._execute(self._session.receive(event), tasks)
                # Only here: other tasks must see the effects of one event as one step.
                if self._backlog > _BACKLOG_LIMIT:
                    await self._speech.wait_until_fed()
                    self._backlog = 0

    async def _execute(self, effects: list[Effect], tasks: TaskGroup) -> None:
        """Execute effects in their order; the slow ones in tasks."""
        for effect in effects:
            match effect:
                case SendEvent():
                    self._queue(effect.event)
                case FeedRecogniser():
                    self._speech.feed(self._recogniser, effect.pcm)
                    self._backlog += len(effect.pcm)
                case ResetRecogniser():
                    self._speech.reset(self._recogniser)
                case DetectVoice():
                    await self._detect_voice(effect, tasks)
                case Recognise():
                    text = self._speech.finish(self._recogniser)
                    tasks.start_soon(self._recognise, effect.item_id, text, tasks)
                case Transcribe():
                    text = self._speech.transcribe(effect.pcm)
                    tasks.start_soon(self._recognise, effect.item_id, text, tasks)
                case FindAnswer():
                    tasks.start_soon(self._answer, effect)

    async def _detect_voice(self, effect: DetectVoice, tasks: TaskGroup) -> None:
        for part in _slices(effect.pcm, _SLICE_BYTES):
            voiced = self._detector.detect(part, effect.threshold)
            await self._execute(self._session.voice_detected(part, voiced), tasks)
            await asyncio.sleep(0)

    async def _recognise(
        self, item_id: str, text: asyncio.Future[str], tasks: TaskGroup
    ) -> None:
        await self._execute(self._session.recognised(item_id, await text), tasks)

    # --- the answer

    async def _answer(self, request: FindAnswer) -> None:
        session, response = self._session, request.response_id
        answer = choose_answer(request.question, datetime.now().astimezone())
        if isinstance(answer, Call):
            called = session.call_function(response, answer.name, answer.arguments)
            self._queue_all(called)
            return
        try:
            await self._speak(request, answer.text)
        except Exception as error:  # noqa: BLE001 - the voice fails on some texts
            _log.warning("the voice failed on %.100r: %r", answer.text, error)
            message = f"The voice failed: {error!r}."
            self._queue_all(session.fail(response, "server_error", message))

    async def _speak(self, request: FindAnswer, text: str) -> None:
        session, response = self._session, request.response_id
        begun = False
        for sentence in sentences(text):
            pcm = await self._synthesise(sentence, request)
            if not begun:
                self._queue_all(session.begin(response))
                begun = True
            self._queue_all(session.add_text(response, sentence))
            await self._stream(response, pcm)
        self._queue_all(session.complete(response))

    async def _synthesise(self, sentence: str, request: FindAnswer) -> bytes:
        if not request.spoken or not self._session.is_active(request.response_id):
            return b""
        return await self._speech.synthesise(sentence, request.speed)

    async def _stream(self, response: str, pcm: bytes) -> None:
        """Send the audio of a sentence, limited by the pace and by the client's reads."""
        due = asyncio.get_running_loop().time()
        for part in _slices(pcm, DELTA_BYTES):
            if not self._session.is_active(response):
                return
            self._queue_all(self._session.add_audio(response, part))
            due += len(part) / BYTES_PER_MS / 1000 / self._pace if self._pace else 0
            await asyncio.sleep(max(due - asyncio.get_running_loop().time(), 0))
            while len(self._outbox) > _OUTBOX_LIMIT:
                self._drained.clear()
                await self._drained.wait()

    # --- events to the client

    def _queue_all(self, effects: list[Effect]) -> None:
        for effect in effects:
            assert isinstance(effect, SendEvent)
            self._queue(effect.event)

    def _queue(self, event: JsonObject) -> None:
        self._outbox.append(event)
        self._filled.set()

    async def _write(self, tasks: TaskGroup) -> None:
        """Send the events of the outbox, in their order, until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._outbox:
                for action in self._next_actions():
                    await self._perform(action, tasks)
            self._drained.set()

    def _next_actions(self) -> list[Action]:
        waiting = self._outbox.popleft()
        if isinstance(waiting, Fault):
            return self._injector.apply(waiting)
        return self._injector.process(waiting)

    async def _perform(self, action: Action, tasks: TaskGroup) -> None:
        match action:
            case Send(delay=0.0):
                await self._send(action)
            case Send():
                tasks.start_soon(self._send_late, action)
            case Drop():
                self._socket.transport.abort()
            case Close():
                await self._socket.close(action.code, action.reason)

    async def _send(self, action: Send) -> None:
        # The reading task notices that the client has disconnected.
        with suppress(ConnectionClosed):
            await self._socket.send(action.data, text=not action.binary)

    async def _send_late(self, action: Send) -> None:
        await asyncio.sleep(action.delay)
        await self._send(action)

    async def _expire(self) -> None:
        await asyncio.sleep(self._lifetime)
        await self._send(Send(orjson.dumps(error_event("session_expired"))))
        await self._socket.close(CLOSE_CODES["session_expired"], "session_expired")


_NOT_JSON = InvalidRequest("invalid_json", "The message is not a JSON object.")


def _parse(message: str | bytes) -> JsonObject | None:
    try:
        event: object = orjson.loads(message)
    except orjson.JSONDecodeError:
        return None
    return as_object(event) or None


def _slices(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))
