"""The output and the input of a `ManagedProcess`: lines, bytes, stdin."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING

from realtalk_async import arguments
from realtalk_async.exceptions import (
    InvalidConfiguration,
    ProcessDead,
    WaitExpired,
    WriteStalled,
)
from realtalk_async.supervision.kernel.pipes import STREAMS
from realtalk_async.supervision.kernel.spawning.terminals import (
    MAX_SIZE,
    resize_terminals,
)
from realtalk_async.supervision.lifecycle.incarnation import Spawned
from realtalk_async.supervision.lifecycle.process_lifecycle import ProcessLifecycle
from realtalk_async.supervision.output.lines import OutputLines
from realtalk_async.supervision.output.tap import ChildOutput
from realtalk_async.supervision.reports.report import CombinedOutput
from realtalk_async.supervision.supervised import Supervised

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from realtalk_async.supervision.kernel.pipes import StreamName
    from realtalk_async.supervision.output.buffer import Volume
    from realtalk_async.supervision.output.capture import Capture
    from realtalk_async.supervision.output.line import OutputLine


COUNTED_AT_ONCE = 1 << 20
"""Bytes in which lines are counted in one turn of the loop: half a millisecond."""


class StdinEnd:
    """
    Our end of the stdin of one process after the other, by the numbers of incarnations.

    Args:
        lifecycle: The lifecycle of the process.
    """

    def __init__(self, lifecycle: ProcessLifecycle) -> None:
        self._lifecycle = lifecycle

    async def wait(self, last: int) -> int:
        """Wait for an incarnation after number *last* that takes input; return its number."""

        def takes_input() -> bool:
            record = self._lifecycle.record
            return (
                record is not None
                and record.number > last
                and record.alive
                and record.running is not None
                and record.running.takes_input
            )

        await self._lifecycle.until(takes_input)
        return self._lifecycle.number

    async def write(self, number: int, data: bytes) -> int:
        """Write to the stdin of incarnation *number*; return the bytes not taken."""
        record, progress = self._lifecycle.record, [0]
        if record is None or record.number != number or record.running is None:
            return len(data)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await record.running.write(data, progress)
        return len(data) - progress[0]

    def unread(self, number: int) -> int:
        """Return the bytes that dead incarnation *number* has left in its stdin."""
        for record in reversed(self._lifecycle.records):
            if record.number == number:
                return record.running.unread if record.running else 0
        return 0

    def close(self, number: int) -> None:
        """Let incarnation *number* read end-of-file."""
        record = self._lifecycle.record
        if record is not None and record.number == number and record.running:
            record.running.close_stdin()


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

    # ---- as the input of another process

    @property
    def stdout(self) -> ChildOutput:
        """Its stdout as the input of another process: ``Command(…, stdin=one.stdout)``."""
        return ChildOutput(self.name, "stdout")

    @property
    def stderr(self) -> ChildOutput:
        """Its stderr as the input of another process."""
        return ChildOutput(self.name, "stderr")

    @property
    def capture(self) -> Capture:
        """Where its output is kept."""
        return self._capture

    @property
    def stdin(self) -> StdinEnd:
        """Its stdin, for the output of another process."""
        return StdinEnd(self._lifecycle)

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
        """Return the seconds since the incarnation last wrote to *stream*, or began."""
        arguments.choice("stream", stream, STREAMS)
        return self._capture.silent_for(stream)

    def bytes_received(self, stream: StreamName) -> tuple[int, float]:
        """Return the number of bytes of *stream*, and the monotonic time now."""
        arguments.choice("stream", stream, STREAMS)
        return self._capture.volume(stream, 0).size, time.monotonic()

    def last_line(self, stream: StreamName) -> str:
        """Return the text of the newest line of *stream*, or "" if there is none."""
        arguments.choice("stream", stream, STREAMS)
        return self._capture.last_line(stream)

    def get_volume(self, stream: StreamName, *, most: int = 1 << 20) -> Volume:
        """
        Return the volume of *stream* so far, over every incarnation.

        Args:
            stream: ``"stdout"`` or ``"stderr"``.
            most: The maximum number of bytes to search for line ends, 0.3 ns each. Lines
                are counted on demand: the next call counts the rest.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.choice("stream", stream, STREAMS)
        arguments.integer("most", most, of="bytes", minimum=0)
        return self._capture.volume(stream, most)

    async def count_lines(self, stream: StreamName) -> int:
        """
        Count the complete lines of *stream* so far, over every incarnation.

        The first call takes 0.45 s a gigabyte, in steps of about half a millisecond between
        which the loop runs; later calls count only what is new. ``len(get_stdout())`` counts
        in one step, the unfinished line and gap lines included.

        Raises:
            InvalidConfiguration: If *stream* is neither ``"stdout"`` nor ``"stderr"``.

        Cancellation: Safe; the next call continues.
        """
        arguments.choice("stream", stream, STREAMS)
        while True:
            volume = self._capture.volume(stream, COUNTED_AT_ONCE)
            if volume.all_counted:
                return volume.lines
            await asyncio.sleep(0)

    # ---- follow

    def follow(
        self, *streams: StreamName, history: bool = False
    ) -> AsyncGenerator[OutputLine]:
        """
        Iterate over its lines as they arrive, in order, until it has settled.

        The lines are read from the capture: a slow reader loses no line and delays neither
        the child nor other readers. A line is yielded once it is complete, or once its
        stream has ended; a carriage return ends one as well. An unfinished line behind
        which the stream is silent for 0.2 s, such as a prompt, is yielded as it is, and
        its rest later as a line of its own: all bytes are yielded once.

        Args:
            *streams: ``"stdout"``, ``"stderr"``; both if none is given.
            history: Whether to begin with all earlier lines.

        Raises:
            InvalidConfiguration: If an argument is invalid.

        Cancellation: Safe; leaving the iteration leaves nothing behind.
        """
        for index, stream in enumerate(streams):
            arguments.choice(f"streams[{index}]", stream, STREAMS)
        arguments.flag("history", history)
        self._check_loop()
        return self._capture.follow(*streams, history=history)

    def follow_bytes(self, stream: StreamName) -> AsyncGenerator[bytes]:
        """
        Iterate over the bytes of *stream* of the current incarnation, to its end.

        The bytes are read from the capture: a slow reader loses none.

        Raises:
            InvalidConfiguration: If *stream* is neither ``stdout`` nor ``stderr``.
        """
        arguments.choice("stream", stream, STREAMS)
        self._check_loop()
        return self._capture.follow_bytes(stream)

    async def wait_for_line(self, pattern: str, timeout: float = 10.0) -> OutputLine:
        """
        Wait for a line that matches, among all lines of the current incarnation.

        Args:
            pattern: A regular expression, searched in each line of both streams, in each
                state of a line that is overwritten after a carriage return, and in a line
                that is unfinished, such as a prompt, after 0.2 s of silence.
            timeout: Seconds; `math.inf` waits for ever.

        Returns:
            The first matching line.

        Raises:
            WaitExpired: If no line matched in time; the message quotes the newest line.
            ProcessDead: If it died without a matching line.
            InvalidConfiguration: If an argument is invalid.
        """
        compiled = arguments.pattern("pattern", pattern)
        arguments.seconds("timeout", timeout, infinite=True)
        self._check_loop()
        try:
            found = await self._capture.wait_for_line(compiled, timeout)
        except TimeoutError:
            last = self.last_line("stdout") or self.last_line("stderr")
            newest = f"its newest line is {last!r}" if last else "it wrote nothing"
            raise WaitExpired(
                f"{self.name!r} wrote no line that matches {pattern!r} in {timeout:g} s; {newest}"
            ) from None
        if found is None:
            raise ProcessDead(self.name, f"wait for {pattern!r}", self.reason)
        return found

    # ---- write and receive bytes

    async def send(self, data: bytes, timeout: float = 5.0) -> None:
        """
        Write to the child's stdin.

        Args:
            data: Any bytes; the bytes of concurrent calls are never interleaved.
            timeout: Seconds that the child may take to read enough of its pipe; `math.inf`
                waits for ever.

        Raises:
            ProcessDead: If it is dead, dies meanwhile, or has closed its stdin.
            WriteStalled: If it does not read; the error has the number of bytes written.
            InvalidConfiguration: If it was started without a stdin, or an argument is
                invalid.

        Cancellation: Some of the bytes may have been written.
        """
        allowed = "bytes, such as text.encode()"
        arguments.instance("data", data, (bytes, bytearray, memoryview), allowed)
        arguments.seconds("timeout", timeout, infinite=True)
        self._check_loop()
        doing = f"write {len(data)} bytes"
        record = self._lifecycle.record
        if record is None or record.running is None or not record.alive:
            raise ProcessDead(self.name, doing, self.reason)
        if not record.running.takes_input:
            raise InvalidConfiguration(
                f"{self.name!r} has no stdin: start it with Command(..., stdin=True)"
            )
        progress = [0]
        try:
            async with asyncio.timeout(timeout):
                await record.running.write(data, progress)
        except TimeoutError:
            raise WriteStalled(self.name, progress[0], len(data), timeout) from None
        except (BrokenPipeError, ConnectionResetError):
            how = "it has closed its stdin" if record.alive else self.reason
            raise ProcessDead(self.name, doing, how) from None

    def close_stdin(self) -> None:
        """Close the child's stdin: it reads end-of-file. Idempotent."""
        record = self._lifecycle.record
        if record is not None and record.running is not None:
            record.running.close_stdin()

    def resize(self, columns: int, rows: int) -> bool:
        """
        Set the size of its terminal, see `Command`: the program receives SIGWINCH.

        The next incarnation has the size of the app's own terminal again.

        Args:
            columns: 1 to 65535.
            rows: 1 to 65535.

        Returns:
            False if it has no terminal now, as when it is dead.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        for name, value in (("columns", columns), ("rows", rows)):
            arguments.integer(name, value, minimum=1, maximum=MAX_SIZE)
        record = self._lifecycle.record
        running = record.running if record else None
        size = os.terminal_size((columns, rows))
        return running is not None and resize_terminals(running.descriptors(), size)

    def detach_stdin(self) -> int:
        """
        Hand our end of the current incarnation's stdin pipe over to the caller.

        Returns:
            The descriptor, which the caller closes.

        Raises:
            ProcessDead: If the incarnation has ended.
        """
        record = self._lifecycle.record
        running = record.running if record else None
        descriptor = running.detach_stdin() if isinstance(running, Spawned) else -1
        if descriptor < 0:
            raise ProcessDead(self.name, "detach its stdin", self.reason)
        return descriptor

    async def receive(self) -> bytes:
        """
        Return the next bytes of a binary stdout, from one incarnation after the other.

        If the app does not receive, 256 KiB are buffered; then the child blocks.

        Returns:
            At least one byte, at most the bytes of one read.

        Raises:
            ProcessDead: If it has settled and all bytes were received.
            RuntimeError: If another task is receiving already.
            InvalidConfiguration: If it was started without a binary stdout.

        Cancellation: Safe; nothing is lost.
        """
        self._check_loop()
        command = self._lifecycle.command
        will_be_binary = command is not None and command.stdout == "binary"
        if not (self._capture.is_binary if self.incarnation else will_be_binary):
            raise InvalidConfiguration(
                f"{self.name!r} has no binary stdout: start it with "
                f"Command(..., stdout='binary'), or read its lines with follow()"
            )
        return await self._capture.receive()
