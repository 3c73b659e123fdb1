"""The output of one process on its way into the stdin of another one."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async import arguments
from realtalk_async.exceptions import ProcessDead
from realtalk_async.supervision.kernel.pipes import STREAMS, StreamName

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.supervision.output.capture import Capture

BUDGET = 1 << 20
"""Bytes that wait while no reader runs, as in the largest pipe of Linux; the newest stay."""


@dataclass(frozen=True, slots=True)
class ChildOutput:
    """
    The output of a process as the stdin of another one; ``str()`` is ``recorder.stdout``.

    Raises:
        InvalidConfiguration: If a field is invalid.
    """

    name: str
    """The process that writes."""
    stream: StreamName = "stdout"

    def __post_init__(self) -> None:
        arguments.one_line("name", self.name)
        arguments.choice("stream", self.stream, STREAMS)

    def __str__(self) -> str:
        return f"{self.name}.{self.stream}"

    @classmethod
    def of(cls, argument: str, text: str) -> ChildOutput:
        """
        Return what a text such as ``recorder.stdout`` stands for.

        Raises:
            InvalidConfiguration: If it stands for nothing.
        """
        name, _, stream = text.rpartition(".")
        for known in STREAMS:
            if stream == known and name:
                return cls(name, known)
        allowed = "True, False or the output of a process, such as 'recorder.stdout'"
        raise arguments.refused(argument, allowed, text)


class Tap:
    """
    Reads captured bytes over all incarnations of a process, each of them once.

    Args:
        capture: The output of the process.
        stream: Which of its streams.
        has_ended: Returns whether nothing will follow what was captured; asked at the end
            of an incarnation, and whenever the capture is notified.
    """

    def __init__(
        self, capture: Capture, stream: StreamName, has_ended: Callable[[], bool]
    ) -> None:
        self.capture = capture
        self._has_ended = has_ended
        self._buffer = capture.buffers[stream]
        self._position = self._buffer.span(capture.number)[0]

    def skip(self) -> int:
        """Skip all but the newest `BUDGET` bytes; return how many were skipped."""
        oldest = max(self._buffer.kept_from, self._buffer.size - BUDGET)
        skipped = max(0, oldest - self._position)
        self._position += skipped
        return skipped

    async def read(self) -> bytes:
        """
        Return the next bytes; b"" at the end.

        Cancellation: Safe; nothing is lost.
        """
        while True:
            has_ended = self._has_ended()  # asked before the bytes are read
            self._position = max(self._position, self._buffer.kept_from)
            data = self._buffer.read(self._position)
            self._position += len(data)
            if data or has_ended:
                return data
            await self.capture.wait_for_change()

    def put_back(self, count: int) -> None:
        """Have the last *count* bytes read again: nobody took them."""
        self._position -= count

    async def keep_newest(self) -> None:
        """Do nothing: the capture keeps all."""


class BinaryTap(Tap):
    """As `Tap`, for a binary stdout, of which the capture keeps nothing."""

    def __init__(
        self, capture: Capture, stream: StreamName, has_ended: Callable[[], bool]
    ) -> None:
        super().__init__(capture, stream, has_ended)
        self._held: deque[bytes] = deque()
        self._size = 0
        self._skipped = 0
        self._recent = bytearray()
        """The newest bytes that were read: more than a pipe holds."""

    def skip(self) -> int:
        """Return how many bytes `keep_newest` has skipped."""
        skipped, self._skipped = self._skipped, 0
        return skipped

    async def read(self) -> bytes:
        """Return the next bytes, as `Tap.read`."""
        if self._held:
            data = self._held.popleft()
            self._size -= len(data)
        else:
            data = await self._receive()
        self._recent += data
        if len(self._recent) > 2 * BUDGET:
            del self._recent[:-BUDGET]
        return data

    def put_back(self, count: int) -> None:
        """Have the last *count* bytes read again, as `Tap.put_back`."""
        start = max(0, len(self._recent) - count)
        data = bytes(self._recent[start:])
        del self._recent[start:]
        if data:
            self._held.appendleft(data)
            self._size += len(data)

    async def keep_newest(self) -> None:
        """Receive while nobody reads, so that the process never blocks."""
        while data := await self._receive():
            self._held.append(data)
            self._size += len(data)
            while self._size > BUDGET:
                oldest = len(self._held.popleft())
                self._size -= oldest
                self._skipped += oldest

    async def _receive(self) -> bytes:
        while True:
            try:
                return await self.capture.receive()
            except ProcessDead:
                if self._has_ended():
                    return b""
                await self.capture.wait_for_change()
