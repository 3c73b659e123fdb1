"""The processes of one manager whose stdin is the output of another process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision.output.tap import BinaryTap, ChildOutput, Tap

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from realtalk_async.logs import Logger
    from realtalk_async.supervision.command import Command
    from realtalk_async.supervision.process import ManagedProcess
    from realtalk_async.supervision.registry import Registry

    RunInBackground = Callable[[Coroutine[None, None, None], str], None]


class Inputs:
    """
    Carries the output of processes into the stdin of others, whichever of them restarts.

    Args:
        registry: The processes of the manager.
        run: Runs a coroutine until the manager ends.
        logger: Where skipped bytes are told.
    """

    def __init__(
        self, registry: Registry, run: RunInBackground, logger: Logger
    ) -> None:
        self._registry = registry
        self._run = run
        self._logger = logger
        self._sources: dict[str, ChildOutput] = {}
        """What each process reads, by the name of the reader."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._read: dict[str, ManagedProcess] = {}
        """The process that each reader reads now, by the name of the reader."""

    def check(self, name: str, command: Command) -> None:
        """
        Check what a process is to read, before it is registered.

        Raises:
            UnknownProcess: If the process that writes is not registered.
            InvalidConfiguration: If it is a task, or would read its own output, directly
                or not, or if its binary stdout has another reader.
        """
        output = command.stdin
        if not isinstance(output, ChildOutput):
            return
        chain = [name, output.name]
        while chain[-1] != name and (further := self._sources.get(chain[-1])):
            chain.append(further.name)
        if chain[-1] == name:
            circle = " -> ".join(map(repr, reversed(chain)))
            raise InvalidConfiguration(
                f"stdin={str(output)!r} of {name!r}: the output of each would be the input "
                f"of the next for ever: {circle}"
            )
        source = self._registry.find_process(output.name)
        if is_binary(source, output):
            others = [
                n for n, one in self._sources.items() if one == output and n != name
            ]
            if others:
                raise InvalidConfiguration(
                    f"stdin={str(output)!r} of {name!r}: {others[0]!r} reads it already, "
                    f"and a binary stdout has one reader"
                )

    def connect(self, reader: ManagedProcess) -> None:
        """Feed a process that was just registered; let its readers go on with it."""
        for source in self._read.values():
            if source.name == reader.name:
                source.capture.notify()
        earlier = self._tasks.pop(reader.name, None)
        if earlier is not None:  # of a process that had the same name
            earlier.cancel()
        self._sources.pop(reader.name, None)
        output = reader.command.stdin if reader.command else None
        if isinstance(output, ChildOutput):
            self._sources[reader.name] = output
            self._run(self._feed(reader, output), f"{output} to {reader.name}")

    async def _feed(self, reader: ManagedProcess, output: ChildOutput) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks[reader.name] = task
        source = self._registry.find_process(output.name)
        tap, number = self._make_tap(source, output), 0
        self._read[reader.name] = source
        while True:
            number, last = await _next_incarnation(reader, number, tap), number
            # What the dead incarnation has left in its pipe is for the next one.
            tap.put_back(reader.stdin.unread(last))
            self._tell_skipped(reader, number, output, tap.skip())
            while True:
                data = await tap.read()
                if self._is_replaced(source) and not data:
                    source = self._registry.find_process(output.name)
                    tap = self._make_tap(source, output)
                    self._read[reader.name] = source
                elif not data:
                    reader.stdin.close(number)
                    break
                elif left := await reader.stdin.write(number, data):
                    tap.put_back(left)
                    break

    def _is_replaced(self, source: ManagedProcess) -> bool:
        """Return whether another process has the name of *source* now."""
        return self._registry.get(source.name, source) is not source

    def _make_tap(self, source: ManagedProcess, output: ChildOutput) -> Tap:
        def has_ended() -> bool:
            # One that was stopped may be started again: its reader waits for that.
            has_run = source.incarnation and source.capture.is_over
            return (has_run and not source.stop_requested) or self._is_replaced(source)

        kind = BinaryTap if is_binary(source, output) else Tap
        return kind(source.capture, output.stream, has_ended)

    def _tell_skipped(
        self, reader: ManagedProcess, number: int, output: ChildOutput, skipped: int
    ) -> None:
        if skipped:
            self._logger.warning(
                reader.name,
                f"{skipped} bytes of {output} were skipped: nothing read them",
                {"bytes": skipped, "source": output.name, "incarnation": number},
            )


def is_binary(source: ManagedProcess, output: ChildOutput) -> bool:
    """Return whether an output is handed over and not kept."""
    command = source.command
    is_handed_over = command is not None and command.stdout == "binary"
    return output.stream == "stdout" and is_handed_over


async def _next_incarnation(reader: ManagedProcess, last: int, tap: Tap) -> int:
    """Wait for an incarnation after *last*; meanwhile only the newest bytes are kept."""
    keeping = asyncio.get_running_loop().create_task(tap.keep_newest())
    try:
        return await reader.stdin.wait(last)
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
