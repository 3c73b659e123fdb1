"""
Everything a process says, over all of its lives: kept, followed, searched, handed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from realtalk_async.concurrency.condition import Condition
from realtalk_async.exceptions import ProcessDead
from realtalk_async.supervision.kernel.pipes import STREAMS
from realtalk_async.supervision.output.buffer import (
    Clock,
    OutputBuffer,
    OutputLine,
    Volume,
)
from realtalk_async.supervision.output.spill import SpillStore

if TYPE_CHECKING:
    import re
    from collections.abc import AsyncGenerator, Callable

    from realtalk_async.supervision.kernel.pipes import Chunk, StreamName

LAST_BACKLOG = 16 * 1024 * 1024
"""The same while it is being ended: a program that waits for room cannot end."""

Places = dict["StreamName", int]
"""How far each stream was read: the offset of a line's beginning."""

BACKLOG = 256 * 1024
"""Bytes of a binary stdout that wait for their consumer; beyond that the child waits."""


class Capture:
    """
    The two streams of one process.

    Args:
        name: The process, for messages.
        max_size: Bytes to keep of each stream.
        on_trouble: Called, from a thread, if old output cannot be moved to the disk.
    """

    def __init__(
        self, name: str, *, max_size: int, on_trouble: Callable[[OSError], None]
    ) -> None:
        self.name = name
        self.number = 0
        """The incarnation that speaks now, or spoke last."""
        self.is_open = False
        """Whether more may come of it."""
        self.is_over = True
        """Whether nothing will come any more, of no incarnation."""
        self._binary = False
        self._arrivals = 0
        self._began = time.monotonic()
        self._heard: dict[StreamName, float] = {}
        self._backlog: list[bytes] = []
        self._backlog_size = 0
        self._handed_on = 0
        self._backlog_limit = BACKLOG
        self._receiving = False
        self._news = Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.on_full: Callable[[StreamName], None] = _nothing
        """Called when no more of a stream can be taken for now: the child must wait."""
        self.on_room: Callable[[StreamName], None] = _nothing
        """Called when there is room again."""
        clock = Clock.now()
        self.buffers: dict[StreamName, OutputBuffer] = {
            stream: OutputBuffer(
                stream,
                clock=clock,
                store=SpillStore(
                    on_trouble=on_trouble, on_room=partial(self._disk_kept_up, stream)
                ),
                max_size=max_size,
                sequence=self._count,
            )
            for stream in STREAMS
        }

    def _disk_kept_up(self, stream: StreamName) -> None:
        """Have the child go on; called from the writing thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads
                self._loop.call_soon_threadsafe(self.on_room, stream)

    def _count(self) -> int:
        self._arrivals += 1
        return self._arrivals

    # ---- writing

    def begin(self, number: int, *, binary: bool) -> None:
        """Let what comes from here on be that of incarnation *number*."""
        self.number, self._binary, self.is_open = number, binary, True
        self._backlog_limit = BACKLOG
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        self._heard.clear()
        for buffer in self.buffers.values():
            buffer.begin(number)

    def room(self, stream: StreamName) -> memoryview | None:
        """Return memory to read into; None if bytes are wanted that are copied."""
        buffer = self.buffers[stream]
        handed_on = stream == "stdout" and self._binary
        # Of one who has said nothing yet the first read may be the last: no memory for it.
        return None if handed_on or not buffer.size else buffer.room()

    def take(self, stream: StreamName, data: Chunk, now: float) -> bool:
        """Keep a chunk; return True if it is the first that does not fit `max_size`."""
        self._heard[stream] = now
        filled = False
        if stream == "stdout" and self._binary:
            self._queue(bytes(data))
        else:
            buffer = self.buffers[stream]
            fitted = buffer.dropped == 0
            buffer.append(data, now)
            filled = fitted and buffer.dropped > 0
            if buffer.store.is_full:
                self.on_full(stream)
        self._news.notify()
        return filled

    def _queue(self, data: bytes) -> None:
        self._backlog.append(data)
        self._backlog_size += len(data)
        self._handed_on += len(data)
        if self._backlog_size >= self._backlog_limit:
            self.on_full("stdout")

    def make_room(self) -> None:
        """Take more of a binary stdout than usual: what says it is being ended."""
        self._backlog_limit = LAST_BACKLOG
        if self._backlog_size < LAST_BACKLOG:
            self.on_room("stdout")

    def end(self) -> None:
        """Note that no more will come of this incarnation."""
        self.is_open = False
        for buffer in self.buffers.values():
            buffer.end_line()
        self._news.notify()

    # ---- looking back

    def last_words(self, number: int, count: int = 10) -> list[OutputLine]:
        """Return the newest lines of each stream of an incarnation, in order."""
        lines = [
            line
            for buffer in self.buffers.values()
            for line in buffer.last_words(number, count)
        ]
        return sorted(lines, key=lambda line: line.sequence)

    def silent_for(self, stream: StreamName) -> float:
        """Return the seconds since the incarnation last wrote to *stream*, or began."""
        return time.monotonic() - self._heard.get(stream, self._began)

    def last_line(self, stream: StreamName) -> str:
        """Return the text of the newest line of *stream*, or "" if there is none."""
        newest = self.buffers[stream].last_words(self.number, 1)
        return newest[0].text if newest else ""

    def volume(self, stream: StreamName, most: int) -> Volume:
        """Return how much *stream* has brought; see `OutputBuffer.volume`."""
        volume = self.buffers[stream].volume(most)
        if stream == "stdout" and self._handed_on:
            return replace(volume, size=volume.size + self._handed_on)
        return volume

    # ---- following

    def follow(self, *streams: StreamName, history: bool) -> AsyncGenerator[OutputLine]:
        """Iterate over lines from now on; see `ManagedProcess.follow`."""
        places: Places = {
            name: 0 if history else self.buffers[name].next_line()
            for name in streams or STREAMS
        }
        return self._follow_from(places)

    async def _follow_from(self, places: Places) -> AsyncGenerator[OutputLine]:
        while True:
            over = self.is_over  # asked before looking: nothing comes after it
            lines = self._advance(places)
            for line in lines:
                yield line
            if lines:
                await asyncio.sleep(0)  # a long history must not hold the loop
            elif over:
                return
            else:
                await self._news.wait()

    def _advance(self, places: Places) -> list[OutputLine]:
        """Return some new lines in the order of arrival, and move *places* behind."""
        found = {
            name: self.buffers[name].complete_from(place)
            for name, place in places.items()
        }
        # A stream may have more than was found: what came after it has to wait its turn.
        newest = min((some[-1].sequence for some in found.values() if some), default=0)
        lines: list[OutputLine] = []
        for name in places:
            due = [line for line in found[name] if line.sequence <= newest]
            places[name] += sum(len(line.raw) for line in due)
            lines += due
        return sorted(lines, key=lambda line: line.sequence)

    async def find(self, pattern: re.Pattern[str], timeout: float) -> OutputLine | None:
        """
        Wait for a matching line in what this incarnation has said or will say.

        Returns:
            The line; None if the incarnation ended without it.

        Raises:
            TimeoutError: If it was not said in time.
        """
        number, deadline = self.number, time.monotonic() + timeout
        places: Places = {
            name: buffer.beginning(number) for name, buffer in self.buffers.items()
        }
        while True:
            over = self.number != number or not self.is_open
            late = time.monotonic() >= deadline
            lines = self._advance(places)
            for line in lines:
                if line.incarnation == number and pattern.search(line.text):
                    return line
            if lines:
                await asyncio.sleep(0)
            elif over:
                return None
            elif late:  # asked before looking: if our loop was late, it is still found
                raise TimeoutError
            else:
                await self._something_before(deadline)

    def tell(self) -> None:
        """Wake those who wait for something to happen."""
        self._news.notify()

    async def _something_before(self, deadline: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._news.wait()

    def follow_bytes(self, stream: StreamName) -> AsyncGenerator[bytes]:
        """Iterate over the bytes of *stream* of this incarnation, to its end."""
        return self._bytes_of(self.number, self.buffers[stream])

    async def _bytes_of(
        self, number: int, buffer: OutputBuffer
    ) -> AsyncGenerator[bytes]:
        place = buffer.beginning(number)
        while True:
            over = self.number != number or not self.is_open
            data = buffer.read(place)[: buffer.ending(number) - place]
            place += len(data)
            if data:
                yield data
            elif over:
                return
            else:
                await self._news.wait()

    async def receive(self) -> bytes:
        """Return the next bytes of a binary stdout; see `ManagedProcess.receive`."""
        if self._receiving:
            raise RuntimeError(f"another task already receives from {self.name!r}")
        self._receiving = True
        try:
            while not self._backlog:
                if self.is_over:
                    raise ProcessDead(self.name, "receive from it", "all was received")
                await self._news.wait()
        finally:
            self._receiving = False
        chunk = self._backlog.pop(0)
        self._backlog_size -= len(chunk)
        if self._backlog_size < self._backlog_limit // 2:
            self.on_room("stdout")
        return chunk


def _nothing(_stream: StreamName) -> None:
    """Do nothing."""
