"""
One client's connection: executes the effects of a `Session` on socket and speech engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import orjson
from websockets.exceptions import ConnectionClosed

from realtalk_async.offline.answers.policy import sentences
from realtalk_async.offline.answers.tools import ToolCall
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
)
from realtalk_async.offline.faults.injector import Close, Drop, Send, error_event
from realtalk_async.offline.faults.kinds import CLOSE_CODES, Fault
from realtalk_async.offline.requests.parsing import parse_event
from realtalk_async.offline.scripting.replies import Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from anyio.abc import TaskGroup
    from websockets.asyncio.server import ServerConnection

    from realtalk_async.offline.faults.injector import Action, FaultInjector
    from realtalk_async.offline.scripting.answerer import Answerer
    from realtalk_async.offline.scripting.latency import Latency
    from realtalk_async.offline.scripting.replies import Reply
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
        answerer: Finds the answers; shared by all connections.
        injector: Injects the faults of this connection.
        latency: Delays the events to the client.
        pace: Seconds of audio sent per second; 0 for no limit.
        lifetime: Seconds until the session expires.
        on_event: Called with each event of the client.
    """

    def __init__(
        self,
        socket: ServerConnection,
        session: Session,
        speech: SpeechEngine,
        answerer: Answerer,
        injector: FaultInjector,
        *,
        latency: Latency,
        pace: float,
        lifetime: float,
        on_event: Callable[[JsonObject], None],
    ) -> None:
        self._socket = socket
        self._session = session
        self._speech = speech
        self._answerer = answerer
        self._injector = injector
        self._latency = latency
        self._pace = pace
        self._lifetime = lifetime
        self._on_event = on_event
        self._recogniser = speech.new_recogniser()
        self._detector = speech.new_voice_detector()
        self._backlog = 0
        self._travelling: deque[tuple[float, JsonObject | Fault]] = deque()
        self._arriving: asyncio.TimerHandle | None = None
        self._outbox: deque[JsonObject | Fault] = deque()
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._response_ended = asyncio.Event()
        self._tasks: TaskGroup | None = None

    async def run(self) -> None:
        """
        Serve until either side closes.

        Cancellation: Safe; the server closes the connection.
        """
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                tasks.start_soon(self._write, tasks)
                tasks.start_soon(self._expire)
                await self._execute(self._session.opened(), tasks)
                await self._read(tasks)
                tasks.cancel_scope.cancel()
        finally:
            self._tasks = None
            if self._arriving:
                self._arriving.cancel()
            self._speech.reset(self._recogniser)

    def apply(self, fault: Fault) -> None:
        """Inject *fault* after the events that wait to be sent."""
        self._queue(fault)

    async def send(self, event: JsonObject) -> None:
        """Send an event of a test; return when it is sent or the connection has ended."""
        self._queue(event)
        await self._in_task(self._wait_until_sent)

    async def say(self, reply: Reply) -> None:
        """Give an answer that nobody asked for, as soon as no response is under way."""
        await self._in_task(self._say, reply)

    # --- events of the client

    async def _read(self, tasks: TaskGroup) -> None:
        with suppress(ConnectionClosed):
            while True:
                # Undecoded: websockets would close at text that is no UTF-8.
                message = await self._socket.recv(decode=False)
                try:
                    event = parse_event(message)
                except InvalidRequest as problem:
                    self._queue(self._session.error(problem).event)
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
        try:
            words = await text
        except Exception as error:  # noqa: BLE001 - the recogniser fails on some audio
            _log.warning("the recogniser failed: %r", error)
            words = ""
        await self._execute(self._session.recognised(item_id, words), tasks)

    # --- the answer

    async def _answer(self, request: FindAnswer) -> None:
        await self._give(request, await self._answerer.find(request.question))

    async def _say(self, reply: Reply) -> None:
        while self._session.has_response:
            self._response_ended.clear()
            await self._response_ended.wait()
        request, effects = self._session.start_response()
        self._queue_all(effects)
        await self._give(request, reply)

    async def _give(self, request: FindAnswer, reply: Reply) -> None:
        """Put an answer into the response; a failure ends the response only."""
        session, response = self._session, request.response_id
        if isinstance(reply, Failure):
            self._queue_all(session.fail(response, reply.code, reply.message))
            return
        parts = [reply] if isinstance(reply, str | ToolCall) else reply
        try:
            for part in parts:
                if isinstance(part, ToolCall):
                    called = session.call_function(response, part.name, part.text)
                    self._queue_all(called)
                else:
                    await self._speak(request, part)
                self._queue_all(session.end_output(response))
        except Exception as error:  # noqa: BLE001 - the voice fails on some texts
            _log.warning("the voice failed on %.100r: %r", reply, error)
            message = f"The voice failed: {error!r}."
            self._queue_all(session.fail(response, "server_error", message))
        self._queue_all(session.complete(response))

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

    def _queue(self, event: JsonObject | Fault) -> None:
        loop = asyncio.get_running_loop()
        arrival = self._latency.arrival(loop.time())
        if arrival > loop.time() or self._travelling:
            self._travelling.append((arrival, event))
            if self._arriving is None:
                self._arriving = loop.call_at(arrival, self._arrive)
            return
        self._outbox.append(event)
        self._filled.set()

    def _arrive(self) -> None:
        """Give the events whose time has come to the writer."""
        loop = asyncio.get_running_loop()
        self._arriving = None
        while self._travelling and self._travelling[0][0] <= loop.time():
            self._outbox.append(self._travelling.popleft()[1])
            self._filled.set()
        if self._travelling:
            self._arriving = loop.call_at(self._travelling[0][0], self._arrive)

    async def _in_task(
        self, function: Callable[..., Awaitable[None]], *args: object
    ) -> None:
        """Run a function in a task of the connection; return when either has ended."""
        ended = asyncio.Event()

        async def run() -> None:
            try:
                await function(*args)
            finally:
                ended.set()

        if self._tasks is not None:
            self._tasks.start_soon(run)
            await ended.wait()

    async def _wait_until_sent(self) -> None:
        while self._travelling or self._outbox:
            self._drained.clear()
            await self._drained.wait()

    async def _write(self, tasks: TaskGroup) -> None:
        """Send the events of the outbox, in their order, until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._outbox:
                for action in self._next_actions():
                    await self._perform(action, tasks)
            self._drained.set()
            if not self._session.has_response:
                self._response_ended.set()

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


def _slices(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))
