"""
`LogWriter`: the one task that writes the queue to the file.

A log call appends its line to the queue and checks one flag. The first call after a
write schedules the next one: after 4 ms, so that more lines can arrive, or at once for
an ERROR and for a caller that awaits its line. Then `LogQueue.flush` runs in a thread of
its own, never on the event loop. Without a running loop there is no task, and each call
writes its line before it returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import anyio
from aiofiles.threadpool import wrap

from realtalk_async.concurrency.daemon_thread import call_in_thread
from realtalk_async.logs.queue import CLOSE_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from aiofiles.threadpool.binary import AsyncBufferedIOBase

    from realtalk_async.logs.queue import LogQueue

WRITE_DELAY = 0.004
"""Seconds from the first line to the write, so that more lines can arrive."""

RETRY_INTERVAL = 0.25
"""Seconds between two attempts while the file cannot be written."""

SAMPLE_STEP = 16
"""One line of so many is measured to estimate how many bytes wait."""

MAX_WAIT_ON_LOOP = 0.002
"""Seconds that a log call on the loop's thread may wait if the queue is full."""

MAX_WAIT_IN_THREAD = 1.0
"""Seconds that a log call in another thread may wait if the queue is full."""

MAX_WAIT_AT_END = 0.05
"""Seconds that the loop may wait for a running write when the task ends."""


class _Write:
    """The result of a log call; see `PendingWrite`."""

    __slots__ = ("_writer", "lines_dropped")

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer
        self.lines_dropped = False
        """Whether lines were dropped, and this one may have been among them."""

    def __await__(self) -> Generator[object, None, bool]:
        # Not a coroutine, because that costs more and many lines are awaited.
        future = self._writer.next_flush()
        if future is None:
            done = yield from self._writer.flush_in_thread().__await__()
        else:
            done = yield from future
        return done and not self.lines_dropped


class QueuedWrite(_Write):
    """The result of a log call while the task runs."""

    __slots__ = ()


class DirectWrite(_Write):
    """The result of a log call that has written its line before it returned."""

    __slots__ = ()


# A union, because mypy's optional check "unused-awaitable" reports a plain awaitable
# class as a forgotten await, but here the caller may choose not to await.
PendingWrite: TypeAlias = QueuedWrite | DirectWrite
"""
The result of a log call. It need not be awaited; many calls share one object.

Awaiting it returns whether the line is on disk: ``False`` if the file cannot be written
now (the line waits, as long as there is room), or if lines were dropped since the call
and this one may have been among them.
"""


class LogWriter:
    """Writes the lines of one queue to disk, in a task or in the calling thread."""

    def __init__(
        self, queue: LogQueue, limit: int, before_level: bytes, *, spool: bool = False
    ) -> None:
        """
        Write directly until `start` is called.

        Args:
            queue: The lines.
            limit: Bytes that may wait.
            before_level: The text between the time and the level of a line.
            spool: Whether lines wait in shared memory while the task runs.
        """
        self.queue = queue
        self._observers: list[Callable[[bytes], object]] = []
        self.append = queue.append
        queue.after_fork = self._on_fork
        self.scheduled = False
        """Whether a write is scheduled; if not, a log call calls `schedule`."""
        self.scheduled_now = True
        """Whether it is scheduled without delay; if not, `schedule_now` changes that."""
        self.pending: PendingWrite = DirectWrite(self)
        """The result of the next log call."""
        self._limit = limit
        self._before_level = before_level
        self._spool = spool
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[bool]] = []
        self._waiters_of_write: list[asyncio.Future[bool]] = []
        self._stopping = False
        self._measured_lines = 0
        self._estimated_bytes = 0

    @property
    def running(self) -> bool:
        """Whether the task runs; if not, each call writes its own line."""
        return self._loop is not None

    # For the log calls, from any thread

    def observe(self, observer: Callable[[bytes], object]) -> Callable[[], None]:
        """
        Call *observer* with each line from now on; return a function that ends this.

        It runs in the thread of the log call and must neither raise nor wait.
        """
        self._observers = [*self._observers, observer]
        self._choose_append()

        def end() -> None:
            self._observers = [one for one in self._observers if one is not observer]
            self._choose_append()

        return end

    def _choose_append(self) -> None:
        observed = bool(self._observers)
        self.append = self._append_observed if observed else self.queue.append

    def _append_observed(self, line: bytes) -> None:
        self.queue.append(line)
        for observer in self._observers:
            observer(line)

    def schedule(self) -> None:
        """Schedule a write of all waiting lines; without a task, write them now."""
        loop = self._loop
        if loop is None or not loop.is_running():
            self._write_directly()
            return
        self.scheduled = True
        self._call(loop, self._start_timer)

    def schedule_now(self) -> None:
        """Make the task write at once."""
        loop = self._loop
        if loop is not None:
            self.scheduled_now = True
            self._call(loop, self._wake.set)

    def enforce_limit(self) -> None:
        """
        Keep the queue within its limit; some of the log calls call this.

        If the loop does not run, the caller writes the lines. If the disk is too slow,
        the caller waits a little, in a thread longer than on the loop. Lines that still
        exceed the limit are dropped and counted.
        """
        if not self.queue.lines:
            return
        loop = self._loop
        if loop is not None and not loop.is_running():
            self._write_directly()
        if self._estimate() > self._limit // 2 and not self._flush_below_limit():
            self._drop_excess()

    def next_flush(self) -> asyncio.Future[bool] | None:
        """
        Make the task write all lines logged so far; return a future of the outcome.

        The outcome is whether they are on disk. The result is `None` if the running
        loop is not the loop of the task.
        """
        loop = self._loop
        if loop is None or loop is not asyncio.get_running_loop():
            return None
        future: asyncio.Future[bool] = loop.create_future()
        self._waiters.append(future)
        self._wake.set()
        return future

    async def flush_in_thread(self) -> bool:
        """Write all lines logged so far, without the task; return whether it succeeded."""
        if self._loop is None:
            return self.queue.try_flush(CLOSE_TIMEOUT)
        flush = partial(self.queue.try_flush, CLOSE_TIMEOUT)
        return await call_in_thread(flush, "realtalk-log-flush")

    # For the logger, on the loop

    def start(self) -> None:
        """Start the task on the running loop, unless a task runs already."""
        if self._loop is not None:
            if self._loop.is_running():
                return
            self._detach()
        loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._stopping = False
        self._loop_thread = threading.get_ident()
        self._loop = loop
        self.queue.keep_open = True
        self.scheduled_now = False
        self.pending = QueuedWrite(self)
        if self._spool:
            self.queue.start_spool(self._on_full_spool)
            self._choose_append()
        # The first write also recovers the lines of killed processes.
        self.queue.request_recovery()
        self._wake.set()
        self._task = loop.create_task(self._run(loop), name="realtalk log writer")

    async def stop(self) -> None:
        """
        Write the waiting lines and end the task; later calls write directly.

        Idempotent. It waits at most 5 s for a disk that stalls; the next log call, or
        the interpreter's exit, writes the lines that remain.

        Cancellation: The task ends nevertheless.
        """
        task = self._task
        if task is None:
            return
        if task.get_loop() is not asyncio.get_running_loop():
            self._detach()
            return
        self._stopping = True
        self._wake.set()
        try:
            with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_TIMEOUT):
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
        stream = wrap(self.queue, loop=loop, executor=executor)
        try:
            while not self._stopping:
                await self._wake.wait()
                await self._write(stream)
        finally:
            # Also if the loop is closed while the task runs: no line may be lost.
            executor.shutdown(wait=False)
            if self._loop is loop:
                self._detach()
        # The thread is about to end; joining it would block the loop.
        while threads and threads[0].is_alive():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.0005)

    async def _write(self, stream: AsyncBufferedIOBase) -> None:
        """Write once, and resolve the futures of the callers that wait for it."""
        self._wake.clear()
        if self._timer is not None:
            self._timer.cancel()
        # Before the lines are taken: a later call then schedules the next write.
        self.scheduled = self.scheduled_now = False
        self._waiters_of_write, self._waiters = self._waiters, []
        done = await self._flush(stream)
        waiters, self._waiters_of_write = self._waiters_of_write, []
        _resolve(waiters, done=done)
        if not done and self._loop is not None:
            self.scheduled = self.scheduled_now = True
            self._timer = self._loop.call_later(RETRY_INTERVAL, self._wake.set)

    async def _flush(self, stream: AsyncBufferedIOBase) -> bool:
        try:
            await stream.flush()
        except OSError:
            return False
        except RuntimeError:
            # The interpreter is about to exit and starts no more threads.
            return self.queue.try_flush(CLOSE_TIMEOUT)
        return True

    def _start_timer(self) -> None:
        loop = self._loop
        if loop is not None and not self._wake.is_set():
            self._timer = loop.call_later(WRITE_DELAY, self._wake.set)

    def _call(
        self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]
    ) -> None:
        """Call *callback* on the loop, from any thread or signal handler."""
        # A signal handler may have interrupted the loop's wait for events, which only
        # the thread-safe call ends; while a task runs, the loop does not wait.
        on_loop = threading.get_ident() == self._loop_thread
        in_task = on_loop and asyncio.current_task(loop) is not None
        try:
            (loop.call_soon if in_task else loop.call_soon_threadsafe)(callback)
        except RuntimeError:  # the loop is closed
            self._detach()

    # Without the task

    def _write_directly(self) -> None:
        self.scheduled = False
        self.queue.try_flush(CLOSE_TIMEOUT)

    def _on_fork(self) -> None:
        """Forget the loop, the task and the thread, which only the parent has."""
        self._waiters_of_write, self._waiters, self._timer = [], [], None
        self._observers = []
        self._choose_append()
        self._detach()

    def _detach(self) -> None:
        """Write directly from now on."""
        if self._loop is None:
            return
        self._loop = self._task = None
        self.scheduled, self.scheduled_now = False, True
        self.pending = DirectWrite(self)
        self.queue.keep_open = False
        self.queue.stop_spool()
        self._choose_append()
        if self._timer is not None:
            self._timer.cancel()
        done = self.queue.try_flush(MAX_WAIT_AT_END)
        waiters = self._waiters_of_write + self._waiters
        self._waiters_of_write, self._waiters = [], []
        _resolve(waiters, done=done)

    # The limit

    def _estimate(self) -> int:
        """Return about how many bytes wait."""
        lines, measured = self.queue.lines, self._measured_lines
        self._measured_lines = len(lines)
        if self._measured_lines < measured:
            self._estimated_bytes = 0
            measured = 0
        # A sample of many lines, because a log call pays for this.
        step = 1 if self._measured_lines - measured < SAMPLE_STEP else SAMPLE_STEP
        self._estimated_bytes += step * sum(map(len, lines[measured::step]))
        return self._estimated_bytes

    def _flush_below_limit(self) -> bool:
        """Write if the queue is half full; return whether it is within its limit."""
        size = self._estimated_bytes = self.queue.pending_bytes()
        if size <= self._limit // 2:
            return True
        if self.queue.error is None:
            on_loop = self.running and threading.get_ident() == self._loop_thread
            if on_loop and self.queue.is_flushing and size <= self._limit:
                return True
            max_wait = MAX_WAIT_ON_LOOP if on_loop else MAX_WAIT_IN_THREAD
            if self.queue.try_flush(max_wait if size > self._limit else 0):
                return True
            size = self.queue.pending_bytes()
        return size <= self._limit

    def _drop_excess(self) -> None:
        if self.queue.drop_excess(self._limit, self._before_level):
            self.pending.lines_dropped = True
            self.pending = type(self.pending)(self)

    def _on_full_spool(self) -> None:
        """Make room in a full spool, if the disk allows; a log call calls this."""
        on_loop = threading.get_ident() == self._loop_thread
        if self.queue.error is None and not (on_loop and self.queue.is_flushing):
            self.queue.try_flush(MAX_WAIT_ON_LOOP if on_loop else MAX_WAIT_IN_THREAD)


def _resolve(waiters: list[asyncio.Future[bool]], *, done: bool) -> None:
    with contextlib.suppress(RuntimeError):  # their loop is closed
        for future in waiters:
            if not future.done():
                future.set_result(done)
