"""The output of one process over all incarnations: keep, follow, search, hand over."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from realtalk_async.concurrency.condition import Condition
from realtalk_async.exceptions import ProcessDead
from realtalk_async.supervision.kernel.pipes import STREAMS
from realtalk_async.supervision.output import chunk_index
from realtalk_async.supervision.output.buffer import OutputBuffer, Volume
from realtalk_async.supervision.output.chunk_index import ChunkIndex
from realtalk_async.supervision.output.line import Clock, OutputLine
from realtalk_async.supervision.output.prompts import PromptFinder
from realtalk_async.supervision.output.spill import SpillStore

if TYPE_CHECKING:
    import re
    from collections.abc import AsyncGenerator, Callable

    from realtalk_async.supervision.kernel.pipes import Chunk, StreamName

BACKLOG = 256 * 1024
"""Bytes of a binary stdout that wait for their consumer; beyond that the child waits."""

STOPPING_BACKLOG = 16 * 1024 * 1024
"""
The same while the child is being stopped, and after its exit: a program that waits to write
cannot end, and the rest may have no receiver.
"""

Positions = dict["StreamName", int]
"""The offset in each stream up to which a reader has read."""


class CaptureListener:
    """What a `Capture` tells the supervision of its process; nothing by default."""

    def pause_reading(self, stream: StreamName) -> None:
        """Make the child wait: *stream* has no space for more output."""

    def resume_reading(self, stream: StreamName) -> None:
        """Continue: *stream* has space again."""

    def note_dropped(self, stream: StreamName) -> None:
        """Note that *stream* has reached its `max_size`, so that output is lost."""

    def note_stderr(self, data: Chunk) -> None:
        """Note new output of stderr, which is kept already."""


class Capture:
    """
    The captured output of one process, and the incarnation that writes it now.

    Args:
        name: The process, for messages.
        max_size: Bytes to keep of each stream.
        on_error: Called, from a thread, if old output cannot be moved to the disk.
        clock: Tells the wall time of an arrival; by default that of this machine.
    """

    __slots__ = (
        "_backlog", "_backlog_limit", "_backlog_size", "_began", "_binary", "_changed",
        "_chunks", "_handed_over", "_last_output", "_loop", "_receiving", "buffers",
        "is_open", "is_over", "listener", "name", "number",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        *,
        max_size: int,
        on_error: Callable[[OSError], None],
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.number = 0
        """The incarnation that writes now, or that wrote last."""
        self.is_open = False
        """Whether that incarnation may still write."""
        self.is_over = True
        """Whether no incarnation will write any more."""
        self._binary = False
        self._chunks = 0
        self._began = time.monotonic()
        self._last_output: dict[StreamName, float] = {}
        self._backlog: list[bytes] = []
        self._backlog_size = 0
        self._handed_over = 0
        self._backlog_limit = BACKLOG
        self._receiving = False
        self._changed = Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.listener = CaptureListener()
        """The supervision of the process."""
        clock = Clock() if clock is None else clock
        self.buffers: dict[StreamName, OutputBuffer] = {
            stream: self._make_buffer(stream, clock, max_size, on_error)
            for stream in STREAMS
        }

    def _make_buffer(
        self,
        stream: StreamName,
        clock: Clock,
        max_size: int,
        on_error: Callable[[OSError], None],
    ) -> OutputBuffer:
        on_space = partial(self._report_space, stream)
        return OutputBuffer(
            stream,
            clock=clock,
            store=SpillStore(on_error=on_error, on_space=on_space),
            index=ChunkIndex(
                SpillStore(
                    budget=chunk_index.BUDGET, on_error=on_error, on_space=on_space
                )
            ),
            max_size=max_size,
            next_sequence=self._next_sequence,
        )

    def _report_space(self, stream: StreamName) -> None:
        """Have the reading resumed, in the loop; called from the writing thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.listener.resume_reading, stream)

    def _next_sequence(self) -> int:
        self._chunks += 1
        return self._chunks

    # ---- writing

    def begin(self, number: int, *, binary: bool) -> None:
        """Attribute all further output to incarnation *number*."""
        self.number, self._binary, self.is_open = number, binary, True
        self._backlog_limit = BACKLOG
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        self._last_output.clear()
        for buffer in self.buffers.values():
            buffer.begin(number)

    @property
    def is_binary(self) -> bool:
        """Whether stdout is passed to one receiver, or some of it still waits for it."""
        return self._binary or bool(self._backlog)

    def writable_memory(self, stream: StreamName) -> memoryview | None:
        """Return memory to read into; None if the reader must provide its own bytes."""
        buffer = self.buffers[stream]
        is_binary = stream == "stdout" and self._binary
        # The first read of a stream is often the last: a segment would cost more.
        return None if is_binary or not buffer.size else buffer.writable_memory()

    def append(self, stream: StreamName, data: Chunk, now: float) -> None:
        """Keep a chunk that arrived at *now*, in monotonic seconds."""
        self._last_output[stream] = now
        if stream == "stdout" and self._binary:
            self._queue(bytes(data))
        else:
            buffer = self.buffers[stream]
            fitted = buffer.dropped == 0
            buffer.append(data, now)
            if fitted and buffer.dropped > 0:
                self.listener.note_dropped(stream)
            if buffer.is_full:
                self.listener.pause_reading(stream)
        self._changed.notify()
        if stream == "stderr":
            self.listener.note_stderr(data)

    def _queue(self, data: bytes) -> None:
        self._backlog.append(data)
        self._backlog_size += len(data)
        self._handed_over += len(data)
        if self._backlog_size >= self._backlog_limit:
            self.listener.pause_reading("stdout")

    def accept_more(self) -> None:
        """Hold more of a binary stdout than usual: its process stops, or has exited."""
        self._backlog_limit = STOPPING_BACKLOG
        if self._binary and self._backlog_size < STOPPING_BACKLOG:
            self.listener.resume_reading("stdout")

    def end(self) -> None:
        """Record that this incarnation writes no more."""
        self.is_open = False
        for buffer in self.buffers.values():
            buffer.end_line()
        self._changed.notify()

    # ---- reading what was captured

    def last_lines(self, number: int, count: int = 10) -> list[OutputLine]:
        """Return the newest lines of each stream of an incarnation, in order."""
        lines = [
            line
            for buffer in self.buffers.values()
            for line in buffer.last_lines(number, count)
        ]
        return sorted(lines, key=lambda line: line.sequence)

    def size_of(self, number: int) -> int:
        """Return the bytes that are kept of incarnation *number*, of both streams."""
        spans = (buffer.span(number) for buffer in self.buffers.values())
        return sum(end - start for start, end in spans)

    def silent_for(self, stream: StreamName) -> float:
        """Return the seconds since the incarnation last wrote to *stream*, or began."""
        return time.monotonic() - self._last_output.get(stream, self._began)

    def last_line(self, stream: StreamName) -> str:
        """Return the text of the newest line of *stream*, or "" if there is none."""
        newest = self.buffers[stream].last_lines(self.number, 1)
        return newest[0].text if newest else ""

    def volume(self, stream: StreamName, most: int) -> Volume:
        """Return the amount of output of *stream*; see `OutputBuffer.volume`."""
        volume = self.buffers[stream].volume(most)
        if stream == "stdout" and self._handed_over:
            return replace(volume, size=volume.size + self._handed_over)
        return volume

    # ---- following

    def follow(self, *streams: StreamName, history: bool) -> AsyncGenerator[OutputLine]:
        """Iterate over lines from now on; see `ManagedProcess.follow`."""
        positions: Positions = {
            name: 0 if history else self.buffers[name].next_line()
            for name in streams or STREAMS
        }
        return self._follow_from(positions)

    async def _follow_from(self, positions: Positions) -> AsyncGenerator[OutputLine]:
        prompts = PromptFinder(self.buffers, self.silent_for)
        while True:
            over = self.is_over  # read before the lines: no line comes after it
            lines = self._advance(positions)
            for line in lines:
                yield line
            if lines:
                await asyncio.sleep(0)  # a long history must not block the loop
            elif over:
                return
            else:
                for prompt in (found := prompts.find(positions)):
                    positions[prompt.stream] += len(prompt.raw)
                    yield prompt
                if not found:
                    await self._change_before(prompts.due)

    def _advance(self, positions: Positions) -> list[OutputLine]:
        """Return some new lines in the order of arrival, and move *positions* on."""
        for name, position in positions.items():
            positions[name] = max(position, self.buffers[name].kept_from)
        found = {
            name: self.buffers[name].complete_records(position)
            for name, position in positions.items()
        }
        # A stream may have more lines than were found. Lines of the other stream that
        # arrived after the found ones wait for the next call.
        newest = min((some[-1].sequence for some in found.values() if some), default=0)
        lines: list[OutputLine] = []
        for name in positions:
            due = [line for line in found[name] if line.sequence <= newest]
            positions[name] += sum(len(line.raw) for line in due)
            lines += due
        return sorted(lines, key=lambda line: line.sequence)

    async def wait_for_line(
        self, pattern: re.Pattern[str], timeout: float
    ) -> OutputLine | None:
        """
        Wait for a matching line in the past or future output of this incarnation.

        Returns:
            The line; None if the incarnation ended without it.

        Raises:
            TimeoutError: If it did not arrive in time.
        """
        # The time of the loop, which tests may replace by virtual time.
        now = asyncio.get_running_loop().time
        number, deadline = self.number, now() + timeout
        prompts = PromptFinder(self.buffers, self.silent_for)
        positions: Positions = {
            name: buffer.span(number)[0] for name, buffer in self.buffers.items()
        }
        while True:
            over = self.number != number or not self.is_open
            late = now() >= deadline
            lines = self._advance(positions)
            for line in lines:
                if line.incarnation == number and pattern.search(line.text):
                    return line
            if lines:
                await asyncio.sleep(0)
            elif over:
                return None
            else:
                for prompt in prompts.find(positions, at_once=late):
                    if prompt.incarnation == number and pattern.search(prompt.text):
                        return prompt
                if late:  # read before the lines: a late loop still finds the line
                    raise TimeoutError
                await self._change_before(min(deadline, prompts.due))

    async def wait_for_change(self) -> None:
        """Wait for further output, or for its end."""
        await self._changed.wait()

    def notify(self) -> None:
        """Wake the tasks that wait for output or for its end."""
        self._changed.notify()

    async def _change_before(self, deadline: float) -> None:
        if deadline == math.inf:
            await self._changed.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._changed.wait()

    def follow_bytes(self, stream: StreamName) -> AsyncGenerator[bytes]:
        """Iterate over the bytes of *stream* of this incarnation, to its end."""
        return self._bytes_of(self.number, self.buffers[stream])

    async def _bytes_of(
        self, number: int, buffer: OutputBuffer
    ) -> AsyncGenerator[bytes]:
        position, _ = buffer.span(number)
        while True:
            over = self.number != number or not self.is_open
            start, end = buffer.span(number)
            position = max(position, start)  # later, if it is forgotten
            data = buffer.read(position)[: end - position]
            position += len(data)
            if data:
                yield data
            elif over:
                return
            else:
                await self._changed.wait()

    async def receive(self) -> bytes:
        """Return the next bytes of a binary stdout; see `ManagedProcess.receive`."""
        if self._receiving:
            raise RuntimeError(f"another task already receives from {self.name!r}")
        self._receiving = True
        try:
            while not self._backlog:
                if self.is_over:
                    raise ProcessDead(
                        self.name, "receive from it", "all its output was received"
                    )
                await self._changed.wait()
        finally:
            self._receiving = False
        chunk = self._backlog.pop(0)
        self._backlog_size -= len(chunk)
        if self._backlog_size < self._backlog_limit // 2:
            self.listener.resume_reading("stdout")
        return chunk
