"""
The queue's one reader: a task that wakes once, and writes all that waits.

Callers append to the file's list and look at one flag. The first of them arms the
writer, which lets more lines gather for 4 ms, but hurries for an ERROR and for whoever
awaits; then the file is flushed in a thread of its own, never on the loop's.

Without a running loop there is no task: every call writes its line before it returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

import anyio
from aiofiles.threadpool import wrap

from realtalk_async.logs.queue import CLOSING, LogFile

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from aiofiles.threadpool.binary import AsyncBufferedIOBase

LINGER = 0.004
"""Seconds that lines may gather before they are written; none after an ERROR."""

RETRY = 0.25
"""Seconds between two attempts while the file cannot be written."""

SAMPLE = 16
"""Of so many lines one is weighed, to know about how many bytes wait."""

PATIENCE_ON_LOOP = 0.002
"""Seconds that a log call on the loop's thread may wait, if the queue is full."""

PATIENCE_IN_THREAD = 1.0
"""Seconds that a log call in another thread may wait, if the queue is full."""

PATIENCE_AT_END = 0.05
"""Seconds that the loop may wait for a write under way when the task ends."""


class Receipt:
    """What a log call returns; see `Written`."""

    __slots__ = ("_writer", "broken")

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.broken = False
        """Whether lines were dropped that may have been this one."""

    def __await__(self) -> Generator[object, None, bool]:
        # No coroutine: many lines are awaited one by one.
        future = self._writer.next_flush()
        if future is None:
            done = yield from self._writer.flush_elsewhere().__await__()
        else:
            done = yield from future
        return done and not self.broken


class Queued(Receipt):
    """What a log call returns while a task writes."""

    __slots__ = ()


class Direct(Receipt):
    """What a log call returns that has written its line already."""

    __slots__ = ()


# A union, though one class would do: mypy's optional check "unused-awaitable" takes a
# plain awaitable class for a forgotten await, but here it is the caller who chooses.
Written: TypeAlias = Queued | Direct
"""
What a log call returns. It need not be awaited; one object serves many calls.

Awaiting it returns whether the line is on disk: ``False`` if the file cannot be
written now (the line waits, as long as there is room), or if lines had to be dropped
since the call and this one may have been among them.
"""


class Writer:
    """
    Brings the lines of one file to disk.

    Args:
        file: Where they go.
        limit: Bytes that may wait.
        level_at: Where in a line its level begins.
        spool: Whether they wait in shared memory.
    """

    def __init__(
        self, file: LogFile, limit: int, level_at: int, *, spool: bool = False
    ) -> None:
        self.file = file
        self.append = file.append
        file.after_fork = self._forked
        self.armed = False
        """Whether the writer knows that there are lines; if not, call `arm`."""
        self.urgent = True
        """Whether it will write them at once; if not, `hurry` makes it."""
        self.receipt: Written = Direct(self)
        """What a log call returns."""
        self._limit = limit
        self._level_at = level_at
        self._spool = spool
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[asyncio.Future[bool]] = []
        self._served: list[asyncio.Future[bool]] = []
        self._closing = False
        self._seen = 0
        self._weight = 0

    @property
    def running(self) -> bool:
        """Whether a task writes; if not, every call does it itself."""
        return self._loop is not None

    # For the log calls, from any thread

    def arm(self) -> None:
        """Have the lines written soon; write them now if there is nobody to do it."""
        loop = self._loop
        if loop is None or not loop.is_running():
            self._write_directly()
            return
        self.armed = True
        self._call(loop, self._linger)

    def hurry(self) -> None:
        """Have the lines written at once."""
        loop = self._loop
        if loop is not None:
            self.urgent = True
            self._call(loop, self._wake.set)

    def tend(self) -> None:
        """
        Keep the queue within its limit; called now and then by who fills it.

        A loop that is kept from running cannot write: then the caller does. While the
        disk is too slow the caller waits a little, in a thread longer than on the
        loop. What still exceeds the limit is dropped, and counted.
        """
        if not self.file.lines:
            return
        loop = self._loop
        if loop is not None and not loop.is_running():
            self._write_directly()
        if self._weigh() > self._limit // 2 and not self._relieve():
            self._shed()

    def next_flush(self) -> asyncio.Future[bool] | None:
        """
        Have everything logged so far written; return what tells whether it is.

        It is `None` if the running loop is not the one whose task writes.
        """
        loop = self._loop
        if loop is None or loop is not asyncio.get_running_loop():
            return None
        future: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(future)
        self._wake.set()
        return future

    async def flush_elsewhere(self) -> bool:
        """Write everything logged so far; return whether that was possible."""
        if self._loop is None:
            return self.file.try_flush(CLOSING)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self.file.try_flush, CLOSING)

    # For the logger, on the loop

    def start(self) -> None:
        """Let a task of the running loop write from now on; do nothing if one does."""
        if self._loop is not None:
            if self._loop.is_running():
                return
            self._detach()
        loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._closing = False
        self._loop_thread = threading.get_ident()
        self._loop = loop
        self.file.keep_open = True
        self.urgent = False
        self.receipt = Queued(self)
        if self._spool:
            self.file.begin_spool(self._overflowed)
            self.append = self.file.append
        # At once, for a killed process may have left something.
        self.file.look_for_spools()
        self._wake.set()
        self._task = loop.create_task(self._run(loop), name="realtalk log writer")

    async def stop(self) -> None:
        """
        Write what waits and end the task; from then on every call writes by itself.

        Idempotent. A disk that stalls is waited for 5 s; what it did not take by then
        is written by the next call, or at the interpreter's exit.

        Cancellation: The task ends all the same.
        """
        task = self._task
        if task is None:
            return
        if task.get_loop() is not asyncio.get_running_loop():
            self._detach()
            return
        self._closing = True
        self._wake.set()
        try:
            with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSING):
                await asyncio.wait([task])
        finally:
            task.cancel()
            if self._task is task:
                self._detach()

    # The task

    async def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        threads: list[threading.Thread] = []
        executor = ThreadPoolExecutor(
            1,
            thread_name_prefix="realtalk-log",
            initializer=lambda: threads.append(threading.current_thread()),
        )
        stream = wrap(self.file, loop=loop, executor=executor)
        try:
            while not self._closing:
                await self._wake.wait()
                await self._turn(stream)
        finally:
            # Also if the loop ends under us: nothing that was logged may be lost.
            executor.shutdown(wait=False)
            if self._loop is loop:
                self._detach()
        # The thread is on its last instructions; joining it would block the loop.
        while threads and threads[0].is_alive():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.0005)

    async def _turn(self, stream: AsyncBufferedIOBase) -> None:
        """Write once, and tell who waits for it."""
        self._wake.clear()
        if self._timer is not None:
            self._timer.cancel()
        # In this order: who appends after the lines were taken finds us unarmed.
        self.armed = self.urgent = False
        self._served, self._waiting = self._waiting, []
        done = await self._flushed(stream)
        served, self._served = self._served, []
        _resolve(served, done=done)
        if not done and self._loop is not None:
            self.armed = self.urgent = True
            self._timer = self._loop.call_later(RETRY, self._wake.set)

    async def _flushed(self, stream: AsyncBufferedIOBase) -> bool:
        try:
            await stream.flush()
        except OSError:
            return False
        except RuntimeError:
            # The interpreter is about to exit and starts no more threads.
            return self.file.try_flush(CLOSING)
        return True

    # Both ways

    def _overflowed(self) -> None:
        """Make room in a spool that is full, if the disk allows; called by who logs."""
        on_loop = threading.get_ident() == self._loop_thread
        if self.file.error is None and not (on_loop and self.file.busy):
            self.file.try_flush(PATIENCE_ON_LOOP if on_loop else PATIENCE_IN_THREAD)

    def _linger(self) -> None:
        loop = self._loop
        if loop is not None and not self._wake.is_set():
            self._timer = loop.call_later(LINGER, self._wake.set)

    def _call(
        self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]
    ) -> None:
        # A signal handler that logs may have interrupted the loop's wait, which only the
        # thread-safe call ends; but not if a task is running.
        here = threading.get_ident() == self._loop_thread
        busy = here and asyncio.current_task(loop) is not None
        try:
            (loop.call_soon if busy else loop.call_soon_threadsafe)(callback)
        except RuntimeError:  # it was closed
            self._detach()

    def _write_directly(self) -> None:
        self.armed = False
        self.file.try_flush(CLOSING)

    def _weigh(self) -> int:
        """Return about how many bytes wait."""
        lines, seen = self.file.lines, self._seen
        self._seen = len(lines)
        if self._seen < seen:
            self._weight = 0
            seen = 0
        # Of many, every sixteenth is weighed: the loop has better to do.
        step = 1 if self._seen - seen < SAMPLE else SAMPLE
        self._weight += step * sum(map(len, lines[seen::step]))
        return self._weight

    def _relieve(self) -> bool:
        """Try to have less than the limit wait; return whether it is so."""
        size = self._weight = self.file.waiting_bytes()
        if size <= self._limit // 2:
            return True
        if self.file.error is None:
            on_loop = self.running and threading.get_ident() == self._loop_thread
            if on_loop and self.file.busy and size <= self._limit:
                return True
            patience = PATIENCE_ON_LOOP if on_loop else PATIENCE_IN_THREAD
            if self.file.try_flush(patience if size > self._limit else 0):
                return True
            size = self.file.waiting_bytes()
        return size <= self._limit

    def _shed(self) -> None:
        if self.file.shed(self._limit, self._level_at):
            self.receipt.broken = True
            self.receipt = type(self.receipt)(self)

    def _forked(self) -> None:
        """Go on without the loop, the task and the thread, which are the parent's."""
        self._served, self._waiting, self._timer = [], [], None
        self.append = self.file.append
        self._detach()

    def _detach(self) -> None:
        """Go without a task from now on."""
        if self._loop is None:
            return
        self._loop = self._task = None
        self.armed, self.urgent = False, True
        self.receipt = Direct(self)
        self.file.keep_open = False
        self.file.end_spool()
        self.append = self.file.append
        if self._timer is not None:
            self._timer.cancel()
        done = self.file.try_flush(PATIENCE_AT_END)
        waiting, self._served, self._waiting = self._served + self._waiting, [], []
        _resolve(waiting, done=done)


def _resolve(waiting: list[asyncio.Future[bool]], *, done: bool) -> None:
    with contextlib.suppress(RuntimeError):  # their loop was closed
        for future in waiting:
            if not future.done():
                future.set_result(done)
