"""
Our ends of a child's pipes. An edge: descriptors and the loop, nothing else.

We make the pipes ourselves and hand the child its ends: so nothing hides in a
`StreamReader`, closing is ours, and waiting for an exit never waits for a pipe.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

READ = 64 * 1024
"""Bytes of one read: what a pipe holds by default."""

CHATTY = 256 * 1024
"""Bytes that the pipe of a child grows to once it has filled it: fewer, larger reads."""


class PipeReader:
    """
    Read a pipe as it fills: one bounded read each time the loop finds it readable.

    Args:
        descriptor: The read end, owned from here on.
        on_data: Called with each chunk and its arrival in monotonic seconds.
    """

    def __init__(
        self, descriptor: int, on_data: Callable[[bytes, float], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._on_data = on_data
        self._size = READ
        self._paused = False
        self._never_waits = False
        self.ended: asyncio.Future[bool] = self._loop.create_future()
        """Done when reading has ended: True by end of file, False because we closed."""
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, self._size)
        except BlockingIOError:
            return
        except OSError:  # EIO from a terminal whose other side is gone
            data = b""
        if not data:
            self._finish(by_end=True)
            return
        if len(data) == self._size == READ:
            self._grow()
        self._on_data(data, time.monotonic())

    def _grow(self) -> None:
        """Give a child that fills its pipe a larger one, where the system allows it."""
        try:
            self._size = fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, CHATTY)
        except (AttributeError, OSError):
            self._size = READ + 1  # not allowed: never asked again

    def catch_up(self, chunks: int = 4) -> None:
        """Read what lies there now, at most so many chunks: the child has exited."""
        for _ in range(chunks):
            if self.ended.done() or self._paused:
                return
            before = self._descriptor
            self._read()
            if self._descriptor != before:
                return

    def pause(self) -> None:
        """Stop reading: the pipe fills, and the child waits."""
        if not self._paused and not self._never_waits and self._descriptor >= 0:
            self._paused = True
            self._loop.remove_reader(self._descriptor)

    def resume(self) -> None:
        """Read on."""
        if self._paused and self._descriptor >= 0:
            self._paused = False
            self._loop.add_reader(self._descriptor, self._read)

    def let_go(self) -> None:
        """Read on to the end, and never wait again: the child has exited."""
        self.resume()
        self._never_waits = True

    def close(self) -> None:
        """Close our end, whatever still lies in the pipe. Idempotent."""
        self._finish(by_end=False)

    def _finish(self, *, by_end: bool) -> None:
        if self._descriptor < 0:
            return
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        if not self.ended.done():
            self.ended.set_result(by_end)


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
