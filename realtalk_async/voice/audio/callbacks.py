"""
Functions of the app as microphone and speaker: tasks under the same manager.

They are held to the rules of programs. One that raises, ends, hangs or gives something
else than bytes has failed: an event tells it, and it is called again by the same policy.
A function that is not async runs in a thread, where it may block.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Iterator,
)
from contextlib import aclosing
from typing import TYPE_CHECKING, Self, TypeAlias, TypeGuard, cast

from realtalk_async.concurrency.blocking_call import Blocking
from realtalk_async.concurrency.waiting import first_of
from realtalk_async.exceptions import (
    AudioUnavailable,
    CriticalProcessFailed,
    InvalidConfiguration,
)
from realtalk_async.voice.audio import player as playing
from realtalk_async.voice.audio import recorder as recording
from realtalk_async.voice.audio.diagnostics import RateMonitor
from realtalk_async.voice.events import DeviceFailed, DeviceProblem
from realtalk_async.voice.protocol.pcm import BYTES_PER_MS

if TYPE_CHECKING:
    from typing import Literal

    from realtalk_async.supervision import ProcessManager, SupervisedTask
    from realtalk_async.voice.connection import Connection

Source: TypeAlias = (
    AsyncIterable[bytes]
    | Callable[[], AsyncIterable[bytes] | Iterator[bytes] | Awaitable[bytes] | bytes]
)
"""
A microphone: a generator function, async or not, which is called anew when it has failed;
any async iterable; or a function, async or not, that returns the next piece each time.
"""

Sink: TypeAlias = Callable[[bytes], object]
"""A speaker: a function, async or not, that is given each piece when it is due."""

_SECOND = 1000 * BYTES_PER_MS
_SLICE = 100 * BYTES_PER_MS  # what is taken at once of a larger piece
_AHEAD = 0.1  # seconds that a source may be faster than the clock
_BEHIND = 2.0  # seconds of delay that it may make up for: as much as is kept

_FIRST_BYTE = 3.0  # seconds that a source may take to begin
_SILENCE = 2.0  # seconds that it may take between two pieces
_STALL = 2.0  # seconds that a sink may take for one piece
_LOOK_EVERY = 0.25
_PAUSE = 0.01


class CallbackError(Exception):
    """A function did not do what a microphone or a speaker does."""


class CallbackTimeout(CallbackError):
    """It took too long."""


def _name_of(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


class Vigil:
    """
    Watches over the time that a function takes.

    Of the time in which our own loop was late nothing counts.
    """

    def __init__(self) -> None:
        self._limit: float | None = None
        self._left = 0.0

    def begin(self, limit: float) -> None:
        """From here on, something is waited for, so many seconds."""
        self._limit = self._left = limit

    def end(self) -> None:
        """It came."""
        self._limit = None

    async def keep(self) -> None:
        """
        Watch until cancelled.

        Raises:
            CallbackTimeout: If something took too long.
        """
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            # However late this is: a loop that stood still was no fault of theirs.
            self._left -= _LOOK_EVERY
            if self._limit is not None and self._left <= 0:
                raise CallbackTimeout(f"nothing came of it for {self._limit:g} s")


class CallbackRecorder:
    """
    A microphone that is a function of the app.

    It is asked for more no faster than real time, so that a file may be given at once.

    Args:
        source: The function.
        connection: Who is given what is heard.

    Raises:
        InvalidConfiguration: If *source* is no function.
    """

    def __init__(self, source: Source, connection: Connection) -> None:
        if not (callable(source) or _is_iterable(source)):
            raise _nonsense("microphone", source)
        self._source = source
        self._connection = connection
        self._task: SupervisedTask | None = None
        self._vigil = Vigil()
        self._heard_until = 0.0  # what came so far, by the clock
        self._on_first: Callable[[], None] = _nothing
        self.rate_monitor = RateMonitor()
        """How fast it delivers."""

    @property
    def has_delivered(self) -> bool:
        """Whether it has ever delivered something."""
        return self._connection.session.microphone.received > 0

    async def start(self, manager: ProcessManager, *, critical: bool) -> None:
        """Start it under *manager*."""
        self._task = await manager.start_task(
            *(recording.NAME, self._record),
            restart=recording.RESTART,
            critical=critical,
        )

    async def deliver(self, on_first: Callable[[], None]) -> None:
        """
        Wait until it is dead for good.

        Args:
            on_first: Called when it has delivered something for the first time.
        """
        assert self._task is not None, "start it first"
        self._on_first = on_first
        if self.has_delivered:
            on_first()
        await self._task.wait_until_settled()

    def failure(self) -> AudioUnavailable | CriticalProcessFailed:
        """Return the error that says why it is dead for good."""
        assert self._task is not None, "start it first"
        reason = self._task.get_status().reason
        if self.has_delivered:
            report = self._task.get_report()
            return CriticalProcessFailed(recording.NAME, reason, report)
        return AudioUnavailable(
            f"the microphone's function {_name_of(self._source)} does not work: "
            f"{reason}; error_history('recorder') has its traceback"
        )

    async def _record(self) -> None:
        """
        Be the microphone, for one life.

        Raises:
            Exception: Whatever the function raised.
            CallbackError: If it ended, hung, or gave something else than bytes.
        """
        microphone = self._connection.session.microphone
        microphone.realign()
        self.rate_monitor.begin(time.monotonic(), microphone.received)
        self._heard_until = time.monotonic()
        self._vigil.begin(_FIRST_BYTE)
        try:
            await first_of(self._take_all(), self._vigil.keep(), self._take_rate())
        except Exception as error:
            _tell_failure(self._connection, "recorder", self._source, error)
            raise

    async def _take_all(self) -> None:
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                pcm = _samples(piece)
                if not pcm:
                    await asyncio.sleep(_PAUSE)  # who gives nothing may do so for ever
                    continue
                self._vigil.end()
                await self._take(pcm)
                self._vigil.begin(_SILENCE)
        raise CallbackError("it ended; a microphone goes on, with silence if need be")

    async def _take(self, pcm: bytes) -> None:
        """Pass a piece on, no faster than the clock."""
        for start in range(0, len(pcm), _SLICE):
            sliced = pcm[start : start + _SLICE]
            ahead = self._heard_until - time.monotonic() - _AHEAD
            if ahead > 0:
                await asyncio.sleep(ahead)
            earliest = time.monotonic() - _BEHIND
            until = max(self._heard_until, earliest) + len(sliced) / _SECOND
            self._heard_until = until
            is_first = not self.has_delivered
            self._connection.push_audio(sliced)
            if is_first:
                self._on_first()

    async def _pieces(self) -> AsyncGenerator[object, None]:
        """Yield what the function gives, whatever kind of function it is."""
        source = self._source
        if _is_iterable(source):
            async for piece in source:
                yield piece
        elif _is_async_generator(source):
            generator = cast("Callable[[], AsyncGenerator[bytes, None]]", source)
            async with aclosing(generator()) as pieces:
                async for piece in pieces:
                    yield piece
        else:
            async with _Caller(_reader(source), "microphone") as call:
                while (given := await call()) != b"":
                    yield given

    async def _take_rate(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.rate_monitor.look(
                time.monotonic(), self._connection.session.microphone.received
            )


class CallbackPlayer:
    """
    A speaker that is a function of the app.

    It is called with what is due: pieces of whole samples, at most 60 ms beyond what
    the clock has played (200 ms once it ran dry). When the user breaks in, it is not
    called any more; it need not take anything back.

    Args:
        sink: The function.
        connection: Whose playback is played.

    Raises:
        InvalidConfiguration: If *sink* is no function.
    """

    names: tuple[str, ...] = (playing.NAME,)

    def __init__(self, sink: Sink, connection: Connection) -> None:
        if not callable(sink):
            raise _nonsense("speaker", sink)
        self._sink = sink
        self._connection = connection
        self._task: SupervisedTask | None = None
        self._vigil = Vigil()

    async def start(self, manager: ProcessManager) -> None:
        """Start it under *manager*."""
        self._task = await manager.start_task(
            *(playing.NAME, self._play), restart=recording.RESTART
        )

    async def play(self) -> None:
        """Wait until it is dead for good; then there is no speaker any more."""
        assert self._task is not None, "start it first"
        await self._task.wait_until_settled()
        self._connection.speaker_lost()

    async def _play(self) -> None:
        """
        Be the speaker, for one life.

        Raises:
            Exception: Whatever the function raised; that piece is lost.
            CallbackTimeout: If it hung.
        """
        self._vigil.end()
        try:
            await first_of(self._give_all(), self._vigil.keep())
        except Exception as error:
            _tell_failure(self._connection, "player", self._sink, error)
            raise

    async def _give_all(self) -> None:
        async with _Caller(self._sink, "speaker") as call:
            while True:
                chunk = self._connection.audio_due()
                if not chunk:
                    await self._connection.wait_for_audio()
                    continue
                self._vigil.begin(_STALL)
                await call(chunk)
                self._vigil.end()

    async def finish_file(self) -> None:
        """Do nothing: there is no file."""


class _Caller:
    """Calls a function, async or not; one that is not in a thread, which it ends."""

    def __init__(self, function: Callable[..., object], what: str) -> None:
        self._call = function
        self._blocking: Blocking | None = None
        if not _is_async(function):
            self._blocking = Blocking(function, f"realtalk {what}")

    async def __aenter__(self) -> Self:
        return self

    async def __call__(self, *arguments: object) -> object:
        if self._blocking is not None:
            result = await self._blocking(*arguments)
        else:
            result = self._call(*arguments)
        return await result if inspect.isawaitable(result) else result

    async def __aexit__(self, *_: object) -> None:
        if self._blocking is not None:
            await self._blocking.aclose()


def _is_async(function: object) -> bool:
    call = getattr(function, "__call__", None)  # noqa: B004 - an object with an async one
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _is_iterable(source: object) -> TypeGuard[AsyncIterable[bytes]]:
    return isinstance(source, AsyncIterable)


def _is_async_generator(function: object) -> bool:
    call = getattr(function, "__call__", None)  # noqa: B004 - likewise
    return inspect.isasyncgenfunction(function) or inspect.isasyncgenfunction(call)


def _reader(source: object) -> Callable[[], object]:
    """Return the function that gives the next piece, or nothing at the end."""
    function = cast("Callable[[], object]", source)
    if not inspect.isgeneratorfunction(source):
        return function
    pieces = cast("Iterator[object]", function())
    return lambda: next(pieces, b"")


def _samples(piece: object) -> bytes:
    """
    Return a piece as bytes.

    Raises:
        CallbackError: If it is something else.
    """
    if not isinstance(piece, bytes | bytearray | memoryview):
        kind = type(piece).__name__
        raise CallbackError(f"it gave {kind}, not bytes of 16-bit samples")
    return bytes(cast("bytes", piece))


def _tell_failure(
    connection: Connection,
    device: Literal["recorder", "player"],
    function: object,
    error: Exception,
) -> None:
    hung = isinstance(error, CallbackTimeout)
    said = str(error) if isinstance(error, CallbackError) else repr(error)
    trouble = DeviceProblem.LOST if hung else DeviceProblem.DIED
    advice = "it hangs" if hung else "look at the app's own code"
    connection.bus.publish(
        DeviceFailed(device, trouble, f"{_name_of(function)}: {said}", advice)
    )


def _nonsense(what: str, given: object) -> InvalidConfiguration:
    return InvalidConfiguration(
        f"{given!r} cannot be a {what}: give the path of an audio file, a command as a "
        f"list, a function, 'default' or None"
    )


def _nothing() -> None:
    return
