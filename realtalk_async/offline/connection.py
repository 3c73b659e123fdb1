"""
One client's connection: the websocket on one side, `Turns` and `Speech` on the other.
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

from realtalk_async.offline.answers.policy import Call, decide, sentences
from realtalk_async.offline.effects import (
    BYTES_PER_MS,
    Answer,
    Effect,
    Emit,
    Forget,
    JsonObject,
    Judge,
    Listen,
    Recognise,
    Rejected,
    Transcribe,
    as_object,
)
from realtalk_async.offline.faults import FATAL, Close, Drop, Fault, Send, error_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anyio.abc import TaskGroup
    from websockets.asyncio.server import ServerConnection

    from realtalk_async.offline.faults import Act, Wire
    from realtalk_async.offline.session import Turns
    from realtalk_async.offline.speech.recogniser import Speech

DELTA_BYTES = 100 * BYTES_PER_MS
"""Audio in one delta."""

_SLICE_BYTES = 1000 * BYTES_PER_MS
"""Audio judged in one go: about a millisecond of work."""

_UNHEARD_LIMIT = 10_000 * BYTES_PER_MS
"""
Audio that may wait to be heard before the client waits too.

Who speaks in real time never does: hearing is ten times as fast.
"""

_OUTBOX_LIMIT = 64
"""Events that may wait to be sent before an answer waits too."""

_log = logging.getLogger(__name__)


class Link:
    """
    Serves one client until the connection ends.

    Args:
        socket: The connection.
        turns: Its protocol state.
        speech: What hears and speaks; shared by all links.
        wire: The faults to make.
        pace: Seconds of audio sent per second; 0 is as fast as the client reads.
        lifetime: Seconds until the session expires.
        on_event: Called with each event of the client.
    """

    def __init__(
        self,
        socket: ServerConnection,
        turns: Turns,
        speech: Speech,
        wire: Wire,
        *,
        pace: float,
        lifetime: float,
        on_event: Callable[[JsonObject], None],
    ) -> None:
        self._socket = socket
        self._turns = turns
        self._speech = speech
        self._wire = wire
        self._pace = pace
        self._lifetime = lifetime
        self._on_event = on_event
        self._ear = speech.ear()
        self._activity = speech.activity()
        self._unheard = 0
        self._outbox: deque[JsonObject | Fault] = deque()
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()

    async def run(self) -> None:
        """
        Serve until either side closes.

        Cancellation: Safe; the connection is left to the server to close.
        """
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, tasks)
                tasks.start_soon(self._expire)
                await self._perform(self._turns.opened(), tasks)
                await self._read(tasks)
                tasks.cancel_scope.cancel()
        finally:
            self._speech.forget(self._ear)

    def strike(self, fault: Fault) -> None:
        """Have *fault* strike now, after what waits to be sent."""
        self._outbox.append(fault)
        self._filled.set()

    # --- in

    async def _read(self, tasks: TaskGroup) -> None:
        with suppress(ConnectionClosed):
            async for message in self._socket:
                event = _parse(message)
                if event is None:
                    self._emit(self._turns.error(_NOT_JSON).event)
                    continue
                self._on_event(event)
                await self._perform(self._turns.receive(event), tasks)
                # Not among the effects: they are one step, seen from other tasks.
                if self._unheard > _UNHEARD_LIMIT:
                    await self._speech.catch_up()
                    self._unheard = 0

    async def _perform(self, effects: list[Effect], tasks: TaskGroup) -> None:
        """Do what was decided, in its order; what takes long becomes a task."""
        for effect in effects:
            match effect:
                case Emit():
                    self._emit(effect.event)
                case Listen():
                    self._speech.listen(self._ear, effect.pcm)
                    self._unheard += len(effect.pcm)
                case Forget():
                    self._speech.forget(self._ear)
                case Judge():
                    await self._judge(effect, tasks)
                case Recognise():
                    text = self._speech.recognise(self._ear)
                    tasks.start_soon(self._tell, effect.item_id, text, tasks)
                case Transcribe():
                    text = self._speech.transcribe(effect.pcm)
                    tasks.start_soon(self._tell, effect.item_id, text, tasks)
                case Answer():
                    tasks.start_soon(self._answer, effect)

    async def _judge(self, effect: Judge, tasks: TaskGroup) -> None:
        for part in _slices(effect.pcm, _SLICE_BYTES):
            voiced = self._activity.judge(part, effect.threshold)
            await self._perform(self._turns.heard(part, voiced), tasks)
            await asyncio.sleep(0)

    async def _tell(
        self, item_id: str, text: asyncio.Future[str], tasks: TaskGroup
    ) -> None:
        await self._perform(self._turns.recognised(item_id, await text), tasks)

    # --- the answer

    async def _answer(self, asked: Answer) -> None:
        reply = decide(asked.question, datetime.now().astimezone())
        if isinstance(reply, Call):
            called = self._turns.call(asked.response_id, reply.name, reply.arguments)
            self._emit_all(called)
            return
        try:
            await self._speak(asked, reply.text)
        except Exception as error:  # noqa: BLE001 (a text may be too much for the voice)
            _log.warning("cannot say %.100r: %r", reply.text, error)
            message = f"The voice cannot say this: {error!r}."
            failed = self._turns.fail(asked.response_id, "server_error", message)
            self._emit_all(failed)

    async def _speak(self, asked: Answer, text: str) -> None:
        turns, response = self._turns, asked.response_id
        begun = False
        for sentence in sentences(text):
            sound = await self._voice(sentence, asked)
            if not begun:
                self._emit_all(turns.begin(response))
                begun = True
            self._emit_all(turns.say(response, sentence))
            await self._stream(response, sound)
        self._emit_all(turns.finish(response))

    async def _voice(self, sentence: str, asked: Answer) -> bytes:
        if not asked.spoken or not self._turns.is_active(asked.response_id):
            return b""
        return await self._speech.say(sentence, asked.speed)

    async def _stream(self, response: str, sound: bytes) -> None:
        """Send a sentence's audio no faster than the pace, and than it is read."""
        due = asyncio.get_running_loop().time()
        for part in _slices(sound, DELTA_BYTES):
            if not self._turns.is_active(response):
                return
            self._emit_all(self._turns.sound(response, part))
            due += len(part) / BYTES_PER_MS / 1000 / self._pace if self._pace else 0
            await asyncio.sleep(max(due - asyncio.get_running_loop().time(), 0))
            while len(self._outbox) > _OUTBOX_LIMIT:
                self._drained.clear()
                await self._drained.wait()

    # --- out

    def _emit_all(self, effects: list[Effect]) -> None:
        for effect in effects:
            assert isinstance(effect, Emit)
            self._emit(effect.event)

    def _emit(self, event: JsonObject) -> None:
        self._outbox.append(event)
        self._filled.set()

    async def _write(self, tasks: TaskGroup) -> None:
        """Send what is in the outbox, in its order, for ever."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._outbox:
                for act in self._next_acts():
                    await self._act(act, tasks)
            self._drained.set()

    def _next_acts(self) -> list[Act]:
        waiting, wire = self._outbox.popleft(), self._wire
        if isinstance(waiting, Fault):
            return wire.strike(waiting)
        return wire.send(waiting)

    async def _act(self, act: Act, tasks: TaskGroup) -> None:
        match act:
            case Send(delay=0.0):
                await self._send(act)
            case Send():
                tasks.start_soon(self._send_late, act)
            case Drop():
                self._socket.transport.abort()
            case Close():
                await self._socket.close(act.code, act.reason)

    async def _send(self, act: Send) -> None:
        # A client that has gone is noticed where we read.
        with suppress(ConnectionClosed):
            await self._socket.send(act.data, text=not act.binary)

    async def _send_late(self, act: Send) -> None:
        await asyncio.sleep(act.delay)
        await self._send(act)

    async def _expire(self) -> None:
        await asyncio.sleep(self._lifetime)
        await self._send(Send(orjson.dumps(error_event("session_expired"))))
        await self._socket.close(FATAL["session_expired"], "session_expired")


_NOT_JSON = Rejected("invalid_json", "The message is not a JSON object.")


def _parse(message: str | bytes) -> JsonObject | None:
    try:
        event: object = orjson.loads(message)
    except orjson.JSONDecodeError:
        return None
    return as_object(event) or None


def _slices(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))
