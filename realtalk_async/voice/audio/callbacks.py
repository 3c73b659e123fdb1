"""
Callbacks of the app as microphone and speaker: supervised tasks instead of programs.

A callback that raises, ends, hangs or returns something other than bytes has failed: an event
is published, and the restart policy of the programs decides when it is called again. A
function that is not async runs in a thread, where it may block; it is not called again before
its last call has returned.
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

from realtalk_async import g711
from realtalk_async.concurrency.blocking_call import Blocking
from realtalk_async.concurrency.waiting import first_of
from realtalk_async.exceptions import (
    AudioUnavailable,
    CriticalProcessFailed,
)
from realtalk_async.voice.audio import player as playing
from realtalk_async.voice.audio import recorder as recording
from realtalk_async.voice.audio.devices import not_a_device
from realtalk_async.voice.audio.diagnostics import RateMonitor
from realtalk_async.voice.events import DeviceFailed, DeviceProblem, SoundProblem
from realtalk_async.voice.protocol.pcm import BYTES_PER_MS

if TYPE_CHECKING:
    from typing import Literal

    from realtalk_async.supervision import ProcessManager, SupervisedTask
    from realtalk_async.voice.audio.hearing import Hearing
    from realtalk_async.voice.connection import Connection

Source: TypeAlias = (
    AsyncIterable[bytes]
    | Callable[[], AsyncIterable[bytes] | Iterator[bytes] | Awaitable[bytes] | bytes]
)
"""
A microphone: a generator function, async or not, that is called again after a failure; an
async iterable; or a function, async or not, that returns the next piece of audio.
"""

Sink: TypeAlias = Callable[[bytes], object]
"""A speaker: a function, async or not, that gets each piece of audio when it is due."""

_SECOND = 1000 * BYTES_PER_MS
_SLICE = 100 * BYTES_PER_MS  # a larger piece is split into slices
_MAX_LEAD = 0.1  # seconds that a source may be faster than real time
_MAX_LAG = 2.0  # seconds of delay that a source may catch up: as much as is buffered

_STARTUP_TIME = 3.0  # seconds that a source may take for the first piece
_MAX_SILENCE = 2.0  # seconds that a source may take for a further piece
_CALL_TIMEOUT = 2.0  # seconds that a sink may take for one piece
_CHECK_PERIOD = 0.25  # seconds
_EMPTY_PAUSE = 0.01  # seconds after an empty piece


class CallbackError(Exception):
    """A callback ended, or returned something other than bytes."""


class CallbackTimeout(CallbackError):
    """A callback took too long."""


def _name_of(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


class Watchdog:
    """
    Limits the time that a callback takes.

    Time in which the event loop itself was late does not count.
    """

    def __init__(self) -> None:
        self._limit: float | None = None
        self._left = 0.0

    def begin(self, limit: float) -> None:
        """Begin to wait for the callback, for at most *limit* seconds."""
        self._limit = self._left = limit

    def end(self) -> None:
        """End the wait: the callback has returned."""
        self._limit = None

    async def run(self) -> None:
        """
        Check the time until cancelled.

        Raises:
            CallbackTimeout: If the callback took too long.
        """
        while True:
            await asyncio.sleep(_CHECK_PERIOD)
            # Count one period, however late this is: the loop may have been blocked.
            self._left -= _CHECK_PERIOD
            if self._limit is not None and self._left <= 0:
                raise CallbackTimeout(f"no result for {self._limit:g} s")


class CallbackRecorder:
    """
    A microphone that is a callback of the app.

    It is called no faster than real time, so it may return the pieces of a file at once.

    Args:
        source: The callback.
        connection: Gets the audio.
        hearing: Is told if the callback is too slow.

    Raises:
        InvalidConfiguration: If *source* is neither callable nor an async iterable.
    """

    def __init__(
        self, source: Source, connection: Connection, hearing: Hearing
    ) -> None:
        if not (callable(source) or _is_iterable(source)):
            raise not_a_device("microphone", source)
        self._source = source
        self._connection = connection
        self._hearing = hearing
        self._decoder = g711.Decoder(connection.session.config.audio_format)
        self._task: SupervisedTask | None = None
        self._watchdog = Watchdog()
        self._call: _Caller | None = None
        self._audio_until = 0.0  # when the audio so far ends, in monotonic seconds
        self._on_first_audio: Callable[[], None] = _nothing
        self.rate_monitor = RateMonitor()
        """The rate at which audio arrives."""

    @property
    def has_delivered(self) -> bool:
        """Whether the callback has ever delivered audio."""
        return self._connection.session.microphone.received > 0

    async def start(self, manager: ProcessManager, *, critical: bool) -> None:
        """Start the recorder under *manager*."""
        self._task = await manager.start_task(
            *(recording.NAME, self._record),
            restart=recording.RESTART,
            critical=critical,
        )

    async def deliver(self, on_first_audio: Callable[[], None]) -> None:
        """
        Wait until the recorder is given up.

        Args:
            on_first_audio: Called when audio arrives for the first time.
        """
        assert self._task is not None, "not started"
        self._on_first_audio = on_first_audio
        if self.has_delivered:
            on_first_audio()
        await self._task.wait_until_settled()

    def failure(self) -> AudioUnavailable | CriticalProcessFailed:
        """Return the error that says why the recorder was given up."""
        assert self._task is not None, "not started"
        reason = self._task.get_status().reason
        if self.has_delivered:
            report = self._task.get_report()
            return CriticalProcessFailed(recording.NAME, reason, report)
        return AudioUnavailable(
            f"the microphone callback {_name_of(self._source)} does not work: "
            f"{reason}; error_history('recorder') has its traceback"
        )

    async def _record(self) -> None:
        """
        Record for one incarnation.

        Raises:
            Exception: The error that the callback raised.
            CallbackError: If it ended, hung, or returned something other than bytes.
        """
        microphone = self._connection.session.microphone
        microphone.realign()
        self.rate_monitor.reset(time.monotonic(), microphone.received)
        self._audio_until = time.monotonic()
        self._watchdog.begin(_STARTUP_TIME)
        try:
            await first_of(
                self._receive_all(), self._watchdog.run(), self._measure_rate()
            )
        except Exception as error:
            _report_failure(self._connection, "recorder", self._source, error)
            raise

    async def _receive_all(self) -> None:
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                pcm = self._decoder.decode(_samples(piece))
                if not pcm:
                    await asyncio.sleep(
                        _EMPTY_PAUSE
                    )  # else this loop might never yield
                    continue
                self._watchdog.end()
                await self._forward(pcm)
                self._watchdog.begin(_MAX_SILENCE)
        raise CallbackError(
            "it ended; a microphone must continue, with silence if necessary"
        )

    async def _forward(self, pcm: bytes) -> None:
        """Pass a piece on, no faster than the clock."""
        for start in range(0, len(pcm), _SLICE):
            part = pcm[start : start + _SLICE]
            lead = self._audio_until - time.monotonic() - _MAX_LEAD
            if lead > 0:
                await asyncio.sleep(lead)
            earliest = time.monotonic() - _MAX_LAG
            until = max(self._audio_until, earliest) + len(part) / _SECOND
            self._audio_until = until
            is_first = not self.has_delivered
            self._connection.push_audio(part)
            if is_first:
                self._on_first_audio()

    async def _pieces(self) -> AsyncGenerator[object, None]:
        """Yield the pieces of the callback, of whichever kind it is."""
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
            self._call = _Caller(_reader(source), "microphone", after=self._call)
            async with self._call as call:
                while (result := await call()) != b"":
                    yield result

    async def _measure_rate(self) -> None:
        """Tell if the function is too slow; one that is too fast is slowed down."""
        wrong_seconds = 0
        while True:
            await asyncio.sleep(1)
            wrong = self.rate_monitor.check(
                time.monotonic(), self._connection.session.microphone.received
            )
            wrong_seconds = wrong_seconds + 1 if wrong else 0
            if wrong and wrong_seconds == recording.MAX_WRONG_SECONDS:
                self._hearing.tell(SoundProblem.WRONG_RATE, f"it {wrong}")


class CallbackPlayer:
    """
    A speaker that is a callback of the app.

    It gets the audio that is due, in whole samples, at most 60 ms ahead of real time (200 ms
    after an underrun). An interruption ends the calls; the callback need not drop audio.

    Args:
        sink: The callback.
        connection: Gives the audio that is due.

    Raises:
        InvalidConfiguration: If *sink* is not callable.
    """

    names: tuple[str, ...] = (playing.NAME,)

    def __init__(self, sink: Sink, connection: Connection) -> None:
        if not callable(sink):
            raise not_a_device("speaker", sink)
        self._sink = sink
        self._connection = connection
        self._encoder = g711.Encoder(connection.session.config.audio_format)
        self._task: SupervisedTask | None = None
        self._watchdog = Watchdog()
        self._call: _Caller | None = None

    async def start(self, manager: ProcessManager) -> None:
        """Start the player under *manager*."""
        self._task = await manager.start_task(
            *(playing.NAME, self._play), restart=recording.RESTART
        )

    async def play(self) -> None:
        """Wait until the player is given up, then report that there is no speaker."""
        assert self._task is not None, "not started"
        await self._task.wait_until_settled()
        self._connection.speaker_lost()

    async def _play(self) -> None:
        """
        Play for one incarnation.

        Raises:
            Exception: The error that the callback raised; its piece is lost.
            CallbackTimeout: If it hung.
        """
        self._watchdog.begin(_CALL_TIMEOUT)
        try:
            await first_of(self._play_all(), self._watchdog.run())
        except Exception as error:
            _report_failure(self._connection, "player", self._sink, error)
            raise

    async def _play_all(self) -> None:
        self._call = _Caller(self._sink, "speaker", after=self._call)
        async with self._call as call:
            self._watchdog.end()
            while True:
                chunk = self._connection.audio_due()
                if not chunk:
                    await self._connection.wait_for_audio()
                    continue
                self._watchdog.begin(_CALL_TIMEOUT)
                await call(self._encoder.encode(chunk))
                self._watchdog.end()

    async def finish_file(self) -> None:
        """Do nothing: a callback writes no file."""


class _Caller:
    """
    Calls a function: an async one in the loop, any other one in its own thread.

    Args:
        function: The function.
        what: What it is, for the name of the thread.
        after: The caller of the last incarnation: its function may still run in its
            thread, and must never run twice at a time.
    """

    def __init__(
        self, function: Callable[..., object], what: str, *, after: Self | None
    ) -> None:
        self._call = function
        self._name = f"realtalk {what}"
        self._blocking: Blocking | None = None
        self.thread: Blocking | None = after.thread if after else None
        """The thread in which the function may still run."""

    async def __aenter__(self) -> Self:
        if self.thread is not None:
            await self.thread.wait_ended()
        if not _is_async(self._call):
            self.thread = self._blocking = Blocking(self._call, self._name)
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
    call = getattr(function, "__call__", None)  # noqa: B004 - the object may be callable
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _is_iterable(source: object) -> TypeGuard[AsyncIterable[bytes]]:
    return isinstance(source, AsyncIterable)


def _is_async_generator(function: object) -> bool:
    call = getattr(function, "__call__", None)  # noqa: B004 - the object may be callable
    return inspect.isasyncgenfunction(function) or inspect.isasyncgenfunction(call)


def _reader(source: object) -> Callable[[], object]:
    """Return a function that returns the next piece, or ``b""`` at the end."""
    function = cast("Callable[[], object]", source)
    if not inspect.isgeneratorfunction(source):
        return function
    pieces = cast("Iterator[object]", function())
    return lambda: next(pieces, b"")


def _samples(piece: object) -> bytes:
    """
    Return a piece of audio as bytes.

    Raises:
        CallbackError: If *piece* is no bytes-like object.
    """
    if not isinstance(piece, bytes | bytearray | memoryview):
        kind = type(piece).__name__
        raise CallbackError(f"it returned {kind}, not bytes of 16-bit samples")
    return bytes(cast("bytes", piece))


def _report_failure(
    connection: Connection,
    device: Literal["recorder", "player"],
    function: object,
    error: Exception,
) -> None:
    hung = isinstance(error, CallbackTimeout)
    reason = str(error) if isinstance(error, CallbackError) else repr(error)
    problem = DeviceProblem.LOST if hung else DeviceProblem.DIED
    advice = "the callback hangs" if hung else "check the code of the callback"
    connection.bus.publish(
        DeviceFailed(device, problem, f"{_name_of(function)}: {reason}", advice)
    )


def _nothing() -> None:
    return
