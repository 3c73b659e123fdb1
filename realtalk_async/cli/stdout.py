"""
Write stdout and stderr from a thread, so that they never block the event loop.

A terminal may be halted and a pager may not read, but supervision has to go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import queue
import select
import threading
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PENDING = 256 * 1024
"""Bytes in the queue above which `OutputWriter.put` waits."""

READER_GONE = (errno.EPIPE, errno.ECONNRESET, errno.EIO)
"""Errors of a write to a pipe, a socket and a terminal that nothing reads any more."""


class OutputWriter:
    """
    Writes pieces of output in order, each without interruption by another.

    Use it in one event loop; `aclose` ends it.

    Args:
        on_broken: Called in the event loop with the error when a write fails, such as to a pipe
            without a reader; from then on all output is dropped. An error other than the loss of
            the reader, such as a full disk, is printed to stderr before.
    """

    def __init__(self, on_broken: Callable[[OSError], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_broken = on_broken
        self._queue: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._pending = 0
        self._room = asyncio.Event()
        self._room.set()
        self._ended = asyncio.Event()
        self._is_broken = False
        self.has_escapes = False
        """Whether a control sequence was among the data."""
        # A daemon: a halted terminal must not keep the process from its exit.
        self._thread = threading.Thread(target=self._write, name="out", daemon=True)
        self._thread.start()

    async def put(self, descriptor: int, data: bytes) -> None:
        """
        Queue data, and wait until there is room for more.

        Cancellation: The data stays in the queue.
        """
        self.put_nowait(descriptor, data)
        await self._room.wait()

    async def wait_for_room(self) -> None:
        """Wait until there is room for more."""
        await self._room.wait()

    def put_nowait(self, descriptor: int, data: bytes) -> None:
        """Queue data, however full the queue is."""
        if self._is_broken or not data:
            return
        self._pending += len(data)
        self.has_escapes = self.has_escapes or b"\x1b" in data
        self._queue.put((descriptor, data))
        if self._pending > MAX_PENDING:
            self._room.clear()

    async def aclose(self) -> None:
        """Wait until everything is written. Cancellation: The rest is dropped."""
        self._queue.put(None)
        await self._ended.wait()
        self._thread.join()

    # ---- in the thread

    def _write(self) -> None:
        while (first := self._queue.get()) is not None:
            pieces, is_last = self._gather(first)
            if not self._is_broken:
                self._write_all(pieces)
            self._call_in_loop(
                partial(self._written, sum(len(one[1]) for one in pieces))
            )
            if is_last:
                break
        self._call_in_loop(self._ended.set)

    def _gather(self, first: tuple[int, bytes]) -> tuple[list[tuple[int, bytes]], bool]:
        """Return all pieces in the queue, and whether the writer was closed after them."""
        pieces = [first]
        while not self._queue.empty():
            following = self._queue.get()
            if following is None:
                return pieces, True
            pieces.append(following)
        return pieces, False

    def _write_all(self, pieces: list[tuple[int, bytes]]) -> None:
        try:
            for descriptor, data in _joined(pieces):
                _write_whole(descriptor, data)
        except OSError as error:
            self._is_broken = True
            _report(error)
            self._call_in_loop(partial(self._on_broken, error))

    def _call_in_loop(self, function: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop may be closed already
            self._loop.call_soon_threadsafe(function)

    def _written(self, count: int) -> None:
        self._pending -= count
        if self._pending <= MAX_PENDING // 2:
            self._room.set()


def _report(error: OSError) -> None:
    if error.errno in READER_GONE:
        return
    line = f"realtalk-async: cannot write the output: {error.strerror}\n"
    with contextlib.suppress(OSError):  # stderr may be on the same full disk
        _write_whole(2, line.encode())


def _joined(pieces: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Join neighbouring pieces for the same descriptor."""
    joined: list[tuple[int, list[bytes]]] = []
    for descriptor, data in pieces:
        if joined and joined[-1][0] == descriptor:
            joined[-1][1].append(data)
        else:
            joined.append((descriptor, [data]))
    return [(descriptor, b"".join(parts)) for descriptor, parts in joined]


def _write_whole(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            # Another program that shares the open file has made it non-blocking: a full pipe or
            # terminal is no error, only later than expected.
            _wait_until_writable(descriptor)


def _wait_until_writable(descriptor: int) -> None:
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    poller.poll()
