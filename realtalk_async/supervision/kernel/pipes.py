"""
Our ends of a child's pipes. An edge: descriptors and the loop, nothing else.

We make the pipes ourselves and hand the child its ends: so nothing hides in a
`StreamReader`, closing is ours, and waiting for an exit never waits for a pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from typing import Literal

from realtalk_async.supervision.kernel.fair_poller import watch

StreamName = Literal["stdout", "stderr"]
STREAMS: tuple[StreamName, ...] = "stdout", "stderr"

Chunk = bytes | memoryview
"""What one read brought: bytes, or the filled beginning of a `GetMemory`."""

OnData = Callable[[StreamName, Chunk, float], None]
"""Called with each chunk of a stream and its arrival in monotonic seconds."""

GetMemory = Callable[[StreamName], memoryview | None]
"""Returns memory to read a stream into; None if bytes of their own are wanted."""

READ = 64 * 1024
"""Bytes of one read: what a pipe holds by default."""

CHATTY = 1024 * 1024
"""
Bytes that the pipe of a child grows to once it has filled it: fewer, larger reads. What
an unprivileged user may ask for (/proc/sys/fs/pipe-max-size).
"""

PATIENCE = 8
"""So many reads in a row, each within `BREATH` of the last, are a steady flow."""

BREATH = 0.001
"""
Seconds to wait before the next read of a steady flow that does not fill its pipe. A child
that flushes every line would have us read every line; a millisecond later there are many,
for the price of one.
"""


class PipeReader:
    """
    Read a pipe as it fills: one bounded read each time the loop finds it readable.

    Args:
        descriptor: The read end, owned from here on, also if it cannot be watched.
        stream: What it is called.
        on_data: Called with each chunk.
        get_memory: Returns memory for the next read, or None.
        on_end: Called when the pipe has ended, before it is closed.
    """

    __slots__ = (
        "_breath",
        "_descriptor",
        "_ended",
        "_flow",
        "_get_memory",
        "_has_ended",
        "_holds",
        "_is_paused",
        "_is_watched",
        "_latest",
        "_loop",
        "_never_waits",
        "_on_data",
        "_on_end",
        "_stream",
        "_watch",
    )  # fmt: skip

    def __init__(
        self,
        descriptor: int,
        stream: StreamName,
        on_data: OnData,
        *,
        get_memory: GetMemory,
        on_end: Callable[[], object],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._stream: StreamName = stream
        self._on_data = on_data
        self._on_end = on_end
        self._get_memory = get_memory
        self._holds = READ  # bytes that the pipe holds
        self._watch = watch()
        self._is_watched = False
        self._is_paused = False
        self._has_ended = False
        self._never_waits = False
        self._flow = 0  # reads in a row, each at once after the last
        self._latest = 0.0
        self._breath: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[bool] | None = None
        os.set_blocking(descriptor, False)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    @property
    def ended(self) -> asyncio.Future[bool]:
        """Done when reading has ended: True by end of file, False because we closed."""
        if self._ended is None:
            self._ended = self._loop.create_future()
            self._tell_of_end()
        return self._ended

    def _tell_of_end(self) -> None:
        if self._descriptor < 0 and self._ended and not self._ended.done():
            self._ended.set_result(self._has_ended)

    @property
    def descriptor(self) -> int:
        """Our end; -1 once it is closed."""
        return self._descriptor

    def _read(self) -> None:
        """Read once, and decide when to read again."""
        data = self._take()
        if data:
            now = time.monotonic()
            self._on_data(self._stream, data, now)
            if self._descriptor >= 0 and not self._is_paused:
                self._go_on(len(data), now)
        elif data is None:
            self._flow = 0
            self._begin()
        else:
            self._has_ended = True
            self._on_end()
            self.close()

    def _take(self) -> Chunk | None:
        """Return what lies there now; nothing at the end, None if there may be more."""
        memory = self._get_memory(self._stream)
        try:
            if memory is None:
                return os.read(self._descriptor, READ)
            return memory[: os.readv(self._descriptor, (memory,))]
        except BlockingIOError:
            return None
        except OSError:  # EIO from a terminal whose other side is gone
            return b""

    def _grow(self) -> None:
        """Give a child that fills its pipe a larger one, where the system allows it."""
        with contextlib.suppress(AttributeError, OSError):
            self._holds = fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, CHATTY)

    def _go_on(self, size: int, now: float) -> None:
        """Read again at once, or a breath later if that brings more."""
        self._flow = self._flow + 1 if now - self._latest < BREATH else 0
        self._latest = now
        is_steady = self._flow >= PATIENCE
        fills_the_pipe = size >= self._holds // 2
        if is_steady and fills_the_pipe and self._holds == READ:
            self._grow()
        if not is_steady or fills_the_pipe or self._never_waits:
            self._begin()
        elif self._breath is None:
            self._end()
            self._breath = self._loop.call_later(BREATH, self._breathe_in)

    def _breathe_in(self) -> None:
        self._breath = None
        self._latest = time.monotonic()
        self._read()

    def _begin(self) -> None:
        """Have the loop tell when there is something to read."""
        if not self._is_watched:
            self._end()
            self._is_watched = True
            self._watch.add(self._descriptor, self._read)

    def _end(self) -> None:
        """Read no more by itself, neither when there is something nor a breath later."""
        if self._breath is not None:
            self._breath.cancel()
            self._breath = None
        if self._is_watched:
            self._is_watched = False
            self._watch.remove(self._descriptor)

    def catch_up(self, chunks: int = 4) -> None:
        """Read what lies there now, at most so many chunks: the child has exited."""
        while chunks > 0 and self._descriptor >= 0:
            if self._is_paused or self._has_ended or not (data := self._take()):
                return  # its end is dealt with in a later turn of the loop
            self._on_data(self._stream, data, time.monotonic())
            chunks -= 1

    def pause(self) -> None:
        """Stop reading: the pipe fills, and the child waits."""
        if self._descriptor >= 0 and not self._never_waits:
            self._is_paused = True
            self._end()

    def resume(self) -> None:
        """Read on."""
        if self._descriptor >= 0:
            self._is_paused = False
            self._begin()

    def let_go(self) -> None:
        """Read on to the end, and never wait again: the child has exited."""
        self._never_waits = True
        self.resume()

    def close(self) -> None:
        """Close our end, whatever still lies in the pipe. Idempotent."""
        if self._descriptor < 0:
            return
        self._end()
        os.close(self._descriptor)
        self._descriptor = -1
        self._tell_of_end()


class PipeWriter:
    """
    Write to a child's stdin without ever blocking the loop.

    Args:
        descriptor: The write end, owned from here on.
    """

    def __init__(self, descriptor: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._turn = asyncio.Lock()
        self._room: asyncio.Future[None] | None = None
        os.set_blocking(descriptor, False)

    @property
    def descriptor(self) -> int:
        """Our end; -1 once it is closed, or given away."""
        return self._descriptor

    @property
    def closed(self) -> bool:
        """Whether our end is closed."""
        return self._descriptor < 0

    async def write(self, data: bytes, progress: list[int]) -> None:
        """
        Write all of *data*; writers take turns, so nobody's bytes are mixed.

        Args:
            data: The bytes.
            progress: Its one entry counts the bytes written, also if we are cancelled.

        Raises:
            BrokenPipeError: If the child does not read any more, or our end is closed.

        Cancellation: What *progress* says was written stays written.
        """
        async with self._turn:
            view = memoryview(data)
            while progress[0] < len(view):
                if self._descriptor < 0:
                    raise BrokenPipeError
                try:
                    progress[0] += os.write(self._descriptor, view[progress[0] :])
                except BlockingIOError:
                    await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        self._room = self._loop.create_future()
        descriptor = self._descriptor
        self._loop.add_writer(descriptor, self._tell, self._room)
        try:
            await self._room
        finally:
            if descriptor == self._descriptor:  # close() has removed it otherwise
                self._loop.remove_writer(descriptor)
            self._room = None

    @staticmethod
    def _tell(waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_result(None)

    def detach(self) -> int:
        """Give the descriptor away; it is not ours to close any more."""
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor

    def close(self) -> None:
        """Close our end: the child reads end-of-file. Idempotent."""
        if self._descriptor < 0:
            return
        self._loop.remove_writer(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        if self._room is not None:
            self._tell(self._room)
