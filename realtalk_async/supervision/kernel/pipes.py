"""
The app's ends of a child's pipes, read and written without blocking the event loop.

The app makes the pipes itself instead of using asyncio's: no `StreamReader` buffers the
bytes, the app decides when an end is closed, and waiting for an exit never waits for a
pipe.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from fcntl import ioctl
from termios import FIONREAD
from typing import Literal

from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision.kernel.fair_poller import (
    BATCH_DELAY,
    OnError,
    get_pollers,
)

StreamName = Literal["stdout", "stderr"]
STREAMS: tuple[StreamName, ...] = "stdout", "stderr"

Chunk = bytes | memoryview
"""The result of one read: bytes, or the filled beginning of the caller's memory."""

OnData = Callable[[StreamName, Chunk, float], None]
"""Called with each chunk of a stream and its arrival in monotonic seconds."""

GetMemory = Callable[[StreamName], memoryview | None]
"""Returns memory to read a stream into; None if the read should make new bytes."""

READ_SIZE = 64 * 1024
"""Bytes of one read: the default capacity of a pipe."""

LARGE_PIPE = 1024 * 1024
"""
Capacity of the pipe of a child that has filled the default one: fewer, larger reads. The
most that an unprivileged user may ask for (/proc/sys/fs/pipe-max-size).
"""

STEADY_READS = 8
"""So many quick reads in a row are a steady flow."""

MOST_BETWEEN_STEADY_READS = 3 * BATCH_DELAY
"""Seconds from one read to the next that is quick; the loop may be late by a few."""


class PipeReader:
    """
    Reads a pipe: one bounded read each time the loop finds it readable.

    Args:
        descriptor: The read end; the reader owns it, unless the constructor raises.
        stream: The name of the stream.
        on_data: Called with each chunk.
        get_memory: Called before each read.
        on_end: Called when the pipe has ended, before it is closed.
        on_error: Called with an error of this package, after the pipe is closed.
    """

    __slots__ = (
        "_capacity", "_descriptor", "_ended", "_get_memory", "_has_ended", "_is_ending",
        "_is_paused", "_is_watched", "_last_read", "_loop", "_on_data", "_on_end",
        "_on_error", "_poller", "_steady_reads", "_stream",
    )  # fmt: skip

    def __init__(
        self,
        descriptor: int,
        stream: StreamName,
        on_data: OnData,
        *,
        get_memory: GetMemory,
        on_end: Callable[[], object],
        on_error: OnError,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._stream: StreamName = stream
        self._on_data = on_data
        self._on_end = on_end
        self._on_error = on_error
        self._get_memory = get_memory
        self._capacity = READ_SIZE  # of the pipe
        self._poller = get_pollers().output
        self._is_watched = False
        self._is_paused = False
        self._has_ended = False
        self._is_ending = False
        self._steady_reads = 0
        self._last_read = 0.0
        self._ended: asyncio.Future[bool] | None = None
        try:
            os.set_blocking(descriptor, False)
            self._start_reading()
        except BaseException:
            self.detach()
            raise

    @property
    def ended(self) -> asyncio.Future[bool]:
        """Done when reading has ended: True at end of file, False after `close`."""
        if self._ended is None:
            self._ended = self._loop.create_future()
            self._set_ended()
        return self._ended

    def _set_ended(self) -> None:
        if self._descriptor < 0 and self._ended and not self._ended.done():
            self._ended.set_result(self._has_ended)

    @property
    def descriptor(self) -> int:
        """The read end; -1 once it is closed."""
        return self._descriptor

    @property
    def has_ended(self) -> bool:
        """Whether it was read to the end of file."""
        return self._has_ended

    def _read(self) -> bool:
        """Read once; return whether the next read should wait for more output."""
        data = self._read_chunk()
        if data:
            now = time.monotonic()
            self._on_data(self._stream, data, now)
            return self._is_steady_trickle(len(data), now)
        if data is None:
            self._steady_reads = 0
        else:
            self._end()
        return False

    def _fail(self, error: BaseException) -> None:
        """Stop reading for good: an error of this package came out of a read."""
        self.close()
        self._on_error(error)

    def _read_chunk(self) -> Chunk | None:
        """Return the next chunk; empty at end of file, None if the pipe is empty now."""
        memory = self._get_memory(self._stream)
        try:
            if memory is None:
                return os.read(self._descriptor, READ_SIZE)
            return memory[: os.readv(self._descriptor, (memory,))]
        except BlockingIOError:
            return None
        except OSError:  # EIO from a terminal whose other side is gone
            return b""

    def _enlarge_pipe(self) -> None:
        capacity = SYSTEM.enlarge_pipe(self._descriptor, LARGE_PIPE)
        self._capacity = capacity or self._capacity

    def _is_steady_trickle(self, size: int, now: float) -> bool:
        """Return whether many small reads follow each other: a later one brings more."""
        is_quick = now - self._last_read < MOST_BETWEEN_STEADY_READS
        self._steady_reads = self._steady_reads + 1 if is_quick else 0
        self._last_read = now
        is_steady = self._steady_reads >= STEADY_READS
        fills_the_pipe = size >= self._capacity // 2
        if is_steady and fills_the_pipe and self._capacity == READ_SIZE:
            self._enlarge_pipe()
        return is_steady and not fills_the_pipe and not self._is_ending

    def _start_reading(self) -> None:
        if not self._is_watched:
            self._is_watched = True
            self._poller.add(self._descriptor, self._read, self._fail)

    def _stop_reading(self) -> None:
        if self._is_watched:
            self._is_watched = False
            self._poller.remove(self._descriptor)

    def read_available(self, chunks: int = 4) -> None:
        """
        Read at most so many chunks that are in the pipe now: the child has exited.

        At the end of the pipe `has_ended` is set; closing it can wait for a later turn.
        """
        while chunks > 0 and self._descriptor >= 0:
            if self._is_paused or self._has_ended:
                return
            data = self._read_chunk()
            if not data:
                self._has_ended = data is not None
                return
            self._on_data(self._stream, data, time.monotonic())
            chunks -= 1

    def pause(self) -> None:
        """Stop reading: the pipe fills, and the child waits."""
        if self._descriptor >= 0:
            self._is_paused = True
            self._stop_reading()

    def resume(self) -> None:
        """Continue reading."""
        if self._descriptor >= 0:
            self._is_paused = False
            if not self._is_watched:
                self._is_watched = True
                self._poller.add_again(self._descriptor, self._read, self._fail)

    def read_to_end(self) -> None:
        """Read to the end without delays from now on: the child has exited."""
        self._is_ending = True

    def read_rest(self) -> None:
        """Read what is in the pipe now, also while paused; at most what a pipe holds."""
        left = LARGE_PIPE
        while left > 0 and self._descriptor >= 0:
            data = self._read_chunk()
            if data is None:
                return
            if not data:
                self._end()
                return
            left -= len(data)
            self._on_data(self._stream, data, time.monotonic())

    def _end(self) -> None:
        self._has_ended = True
        self._on_end()
        self.close()

    def detach(self) -> int:
        """Stop reading and return the read end; from now on the caller owns it."""
        self._stop_reading()
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor

    def close(self) -> None:
        """Close the read end, even if the pipe still holds bytes. Idempotent."""
        if self._descriptor < 0:
            return
        self._stop_reading()
        os.close(self._descriptor)
        self._descriptor = -1
        self._set_ended()


class PipeWriter:
    """
    Writes to a child's stdin without ever blocking the loop.

    Args:
        descriptor: The write end; the writer owns it.
    """

    def __init__(self, descriptor: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._lock = asyncio.Lock()
        self._writable: asyncio.Future[None] | None = None
        self.unread = 0
        """Bytes that nobody had read when the write end was closed."""
        os.set_blocking(descriptor, False)

    @property
    def descriptor(self) -> int:
        """The write end; -1 once it is closed or detached."""
        return self._descriptor

    @property
    def closed(self) -> bool:
        """Whether the write end is closed or detached."""
        return self._descriptor < 0

    async def write(self, data: bytes, progress: list[int]) -> None:
        """
        Write all of *data*; callers take turns, so their bytes are never mixed.

        Args:
            data: The bytes.
            progress: Its one entry counts the bytes written, also after a cancellation.

        Raises:
            BrokenPipeError: If the child does not read any more, or the end is closed.

        Cancellation: The bytes counted in *progress* stay written.
        """
        async with self._lock:
            view = memoryview(data)
            while progress[0] < len(view):
                if self._descriptor < 0:
                    raise BrokenPipeError
                try:
                    progress[0] += os.write(self._descriptor, view[progress[0] :])
                except BlockingIOError:
                    await self._wait_until_writable()

    async def _wait_until_writable(self) -> None:
        waiter = self._loop.create_future()
        descriptor = self._descriptor
        try:
            self._loop.add_writer(descriptor, self._wake, waiter)
        except OSError:  # the system can watch no further descriptor
            await asyncio.sleep(BATCH_DELAY)
            return
        self._writable = waiter
        try:
            await waiter
        finally:
            if descriptor == self._descriptor:  # close() has removed it otherwise
                self._loop.remove_writer(descriptor)
            self._writable = None

    @staticmethod
    def _wake(waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_result(None)

    def detach(self) -> int:
        """Return the descriptor; from now on the caller owns it."""
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor

    def close(self) -> None:
        """Close the write end: the child reads end-of-file. Idempotent."""
        if self._descriptor < 0:
            return
        self._loop.remove_writer(self._descriptor)
        self.unread = _count_unread(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        if self._writable is not None:
            self._wake(self._writable)


def _count_unread(descriptor: int) -> int:
    """Return how many bytes are in a pipe; 0 if the system does not tell."""
    try:
        return int.from_bytes(ioctl(descriptor, FIONREAD, bytes(4)), sys.byteorder)
    except OSError:
        return 0


async def write_stream(
    stdin: asyncio.StreamWriter, data: bytes, progress: list[int]
) -> None:
    """Write to asyncio's own writer, which buffers all data before it waits."""
    if stdin.is_closing():
        raise BrokenPipeError
    stdin.write(data)
    progress[0] = len(data)
    await stdin.drain()
