"""
Our own stdout and stderr, written without holding the loop. An edge.

A terminal may be halted and a pager may sleep: the children must be supervised all the
same. So one thread writes, and those who have something to say wait for their turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOM = 256 * 1024
"""Bytes that wait to be written before those who have more are made to wait."""


class Out:
    """
    Writes whole pieces, one after the other, never mixed.

    Use it in one event loop; `aclose` ends it.

    Args:
        on_broken: Called in the loop when nobody reads any more; from then on all that
            comes is dropped.
    """

    def __init__(self, on_broken: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_broken = on_broken
        self._queue: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._room = asyncio.Event()
        self._room.set()
        self._ended = asyncio.Event()
        self._is_broken = False
        # A daemon: whoever cannot wait for a halted terminal must be able to go.
        self._thread = threading.Thread(target=self._write, name="out", daemon=True)
        self._thread.start()

    async def put(self, descriptor: int, data: bytes) -> None:
        """
        Have *data* written to *descriptor*, all in one piece.

        Returns when there is room for more. Cancellation: The data is written all the
        same.
        """
        self.put_nowait(descriptor, data)
        await self._room.wait()

    def put_nowait(self, descriptor: int, data: bytes) -> None:
        """Have *data* written, however much is waiting already."""
        if self._is_broken or not data:
            return
        self._waiting += len(data)
        self._queue.put((descriptor, data))
        if self._waiting > ROOM:
            self._room.clear()

    async def aclose(self) -> None:
        """Wait until everything is written. Cancellation: The rest is given up."""
        self._queue.put(None)
        await self._ended.wait()
        self._thread.join()

    # ---- in the thread

    def _write(self) -> None:
        while (first := self._queue.get()) is not None:
            pieces, is_last = self._gather(first)
            if not self._is_broken:
                self._write_all(pieces)
            self._tell(partial(self._written, sum(len(one[1]) for one in pieces)))
            if is_last:
                break
        self._tell(self._ended.set)

    def _gather(self, first: tuple[int, bytes]) -> tuple[list[tuple[int, bytes]], bool]:
        """Return all that waits for the same descriptor, and whether nothing follows."""
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
        except OSError:  # a pipe without a reader, a full disk, a closed descriptor
            self._is_broken = True
            self._tell(self._on_broken)

    def _tell(self, function: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop did not wait for us
            self._loop.call_soon_threadsafe(function)

    def _written(self, count: int) -> None:
        self._waiting -= count
        if self._waiting <= ROOM // 2:
            self._room.set()


def _joined(pieces: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return the pieces with neighbours for one descriptor made one."""
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
        rest = rest[os.write(descriptor, rest) :]
