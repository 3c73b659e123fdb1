"""The output and the input of a `ManagedProcess`: lines, bytes, stdin."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING

from realtalk_async.exceptions import (
    InvalidConfiguration,
    ProcessDead,
    WaitExpired,
    WriteStalled,
)
from realtalk_async.supervision.lifecycle.incarnation import Spawned
from realtalk_async.supervision.lifecycle.process_lifecycle import ProcessLifecycle
from realtalk_async.supervision.output.lines import OutputLines
from realtalk_async.supervision.reports.report import CombinedOutput
from realtalk_async.supervision.supervised import Supervised

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from realtalk_async.supervision.kernel.pipes import StreamName
    from realtalk_async.supervision.output.buffer import Volume
    from realtalk_async.supervision.output.capture import Capture
    from realtalk_async.supervision.output.line import OutputLine


class ProcessStreams(Supervised[ProcessLifecycle]):
    """
    The standard streams of one process over all of its incarnations.

    Args:
        lifecycle: The lifecycle of the process.
        capture: Where the output of the process is kept.
    """

    def __init__(self, lifecycle: ProcessLifecycle, capture: Capture) -> None:
        super().__init__(lifecycle)
        self._capture = capture

    # ---- captured output

    def get_stdout(self) -> OutputLines:
        """Return all lines of stdout so far, over every incarnation."""
        return OutputLines(self._capture.buffers["stdout"])

    def get_stderr(self) -> OutputLines:
        """Return all lines of stderr so far, over every incarnation."""
        return OutputLines(self._capture.buffers["stderr"])

    def get_combined_output(self) -> CombinedOutput:
        """Return status, stdout, stderr, and both interleaved in order of arrival."""
        return CombinedOutput(self.get_status(), self.get_stdout(), self.get_stderr())

    def silent_for(self, stream: StreamName) -> float:
        """Return the seconds since this life last wrote to *stream*, or began."""
        return self._capture.silent_for(stream)

    def bytes_heard(self, stream: StreamName) -> tuple[int, float]:
        """Return the bytes that *stream* has brought, and until when (monotonic)."""
        return self._capture.volume(stream, 0).size, time.monotonic()

    def last_line(self, stream: StreamName) -> str:
        """Return the text of the newest line of *stream*, or "" if there is none."""
        return self._capture.last_line(stream)

    def get_volume(self, stream: StreamName, *, most: int = 1 << 20) -> Volume:
        """
        Return how much *stream* has brought so far, over every incarnation.

        Args:
            stream: Which one.
            most: Bytes that may be looked through to count lines, 0.3 ns each: lines are
                counted when somebody asks, and what is not counted now is next time.
        """
        return self._capture.volume(stream, most)

    # ---- follow

    def follow(
        self, *streams: StreamName, history: bool = False
    ) -> AsyncGenerator[OutputLine]:
        """
        Iterate over its lines as they come, in order, until it is dead for good.

        However slow the reader, no line is lost and nobody is slowed: lines are read from
        what was captured. A line is told when it is complete, or when its end is certain.

        Args:
            *streams: ``"stdout"``, ``"stderr"``; both if none is given.
            history: Whether to begin with all that was said before.

        Cancellation: Safe; leaving the iteration leaves nothing behind.
        """
        return self._capture.follow(*streams, history=history)

    def follow_bytes(self, stream: StreamName) -> AsyncGenerator[bytes]:
        """
        Iterate over the bytes of *stream* of the current incarnation, to its end.

        Whatever the reader's pace, nothing is lost: they are read from the capture.
        """
        return self._capture.follow_bytes(stream)

    async def wait_for_line(self, pattern: str, timeout: float = 10.0) -> OutputLine:
        """
        Wait for a line that matches, in what this incarnation has said or will say.

        Args:
            pattern: A regular expression, searched in each line of both streams.
            timeout: Seconds.

        Returns:
            The first such line.

        Raises:
            WaitExpired: If none came in time; the message has its last words.
            ProcessDead: If it died without having said it.
        """
        try:
            found = await self._capture.wait_for_line(re.compile(pattern), timeout)
        except TimeoutError:
            last = self.last_line("stdout") or self.last_line("stderr")
            raise WaitExpired(
                f"{self.name!r} said nothing that matches {pattern!r} in {timeout:g} s; "
                f"its last line was {last!r}"
            ) from None
        if found is None:
            raise ProcessDead(self.name, f"wait for {pattern!r}", self.reason)
        return found

    # ---- write and receive bytes

    async def send(self, data: bytes, timeout: float = 5.0) -> None:
        """
        Write to the child's stdin.

        Args:
            data: Any bytes; those of several callers are never mixed.
            timeout: Seconds that the child may take to make room for them.

        Raises:
            ProcessDead: If it is dead, dies meanwhile, or has closed its input.
            WriteStalled: If it does not read; says how many bytes it took.
            InvalidConfiguration: If it was started without a stdin.

        Cancellation: Some of the bytes may have been written.
        """
        doing = f"write {len(data)} bytes"
        record = self._lifecycle.record
        if record is None or record.running is None or not record.alive:
            raise ProcessDead(self.name, doing, self.reason)
        if not record.running.takes_input:
            raise InvalidConfiguration(
                f"{self.name!r} has no stdin: start it by Command(..., stdin=True)"
            )
        progress = [0]
        try:
            async with asyncio.timeout(timeout):
                await record.running.write(data, progress)
        except TimeoutError:
            raise WriteStalled(self.name, progress[0], len(data), timeout) from None
        except (BrokenPipeError, ConnectionResetError):
            how = "it has closed its input" if record.alive else self.reason
            raise ProcessDead(self.name, doing, how) from None

    def close_stdin(self) -> None:
        """End the child's input: it reads end-of-file. Idempotent."""
        record = self._lifecycle.record
        if record is not None and record.running is not None:
            record.running.close_stdin()

    def detach_stdin(self) -> int:
        """
        Give away our end of the current incarnation's stdin pipe.

        Returns:
            The descriptor, the caller's to close.

        Raises:
            ProcessDead: If it has ended.
        """
        record = self._lifecycle.record
        running = record.running if record else None
        descriptor = running.detach_stdin() if isinstance(running, Spawned) else -1
        if descriptor < 0:
            raise ProcessDead(self.name, "give away its stdin", self.reason)
        return descriptor

    async def receive(self) -> bytes:
        """
        Return the next bytes of a binary stdout, from one incarnation after the other.

        If nobody receives, 256 KiB are held and then the child has to wait.

        Returns:
            At least one byte, at most what one read brought.

        Raises:
            ProcessDead: If it is dead for good and all was received.
            RuntimeError: If another task is receiving already.

        Cancellation: Safe; nothing is lost.
        """
        return await self._capture.receive()
