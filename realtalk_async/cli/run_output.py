"""The terminal output of `realtalk-async run`: output of the processes, and notices."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.cli.line_format import Continuation, LineFormatter, Stamp
from realtalk_async.cli.stdout import OutputWriter
from realtalk_async.events.event import NOTABLE, Failure
from realtalk_async.supervision import Cause
from realtalk_async.supervision.output.states import limit_states
from realtalk_async.times import now_local

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
    from datetime import datetime

    from realtalk_async.cli.config.spec import AppSpec
    from realtalk_async.supervision import ManagedProcess, OutputLine

STDOUT, STDERR = 1, 2

TURNS = 5
"""Turns of the event loop after which captured output has reached the writer."""

ALWAYS_REPORTED = (events.RestartScheduled, events.ProcessRestarted)
REPORTED_OF_SEVERAL = (
    events.ProcessStarted,
    events.ProcessReady,
    events.ProcessExited,
)
"""Reported as well if there are several processes."""
FAILURES = (
    events.SpawnRefused,
    events.ProbeFailed,
    events.Unkillable,
    events.Degraded,
    events.ShutdownStarted,
    events.ShutdownTimedOut,
    events.GuardLost,
    events.IncidentOccurred,
)
"""Reported in red."""


def is_failure(event: events.Event) -> bool:
    """Return whether an event tells of a failure."""
    if isinstance(event, events.ProcessExited):
        return event.cause not in {Cause.FINISHED, Cause.STOPPED, Cause.ESCALATED}
    return isinstance(event, FAILURES)


@dataclass(frozen=True, slots=True)
class Notice:
    """A line of the supervisor's own."""

    at: datetime
    text: str
    bad: bool = False


class RunOutput:
    """
    Prints the output of all processes, and notices about them.

    The output of a single command is passed through, and notices go to stderr; the lines
    of several processes, and the notices, go to stdout with time and name.

    Args:
        spec: The processes.
        colour: Whether to use colours.
        stamp: The time stamp of each line.
        quiet: Whether to print no notices.
        on_broken: Called with the error when stdout or stderr cannot be written any more.
        on_printed: Called each time the output of a process is printed to its end, or a
            single command has settled.
    """

    def __init__(
        self,
        spec: AppSpec,
        *,
        colour: bool,
        stamp: Stamp,
        quiet: bool,
        on_broken: Callable[[OSError], object],
        on_printed: Callable[[], object],
    ) -> None:
        self._is_single_command = spec.is_single_command
        names = [process.name for process in spec.processes]
        self._formatter = LineFormatter(names, colour=colour, stamp=stamp)
        self._printed: dict[str, ManagedProcess] = {}
        """The process whose output each printer prints."""
        self._quiet = quiet
        self._continuation = Continuation()
        self._writer = OutputWriter(on_broken)
        self._on_printed = on_printed
        self._held: dict[str, list[Notice]] = {}
        self._printers: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def print_output(self, process: ManagedProcess) -> None:
        """Print the output of a process from here on."""
        name = process.name
        # The output may arrive before the new task runs, so its start is noted here.
        if self._is_single_command:
            stdout = process.follow_bytes("stdout")
            stderr = process.follow_bytes("stderr")
            first = name not in self._printers
            self._printers[name] = self._start(self._pass_through(stdout, stderr))
            if first:
                # The rest of its group may end later than its output.
                _ = self._start(self._wait_until_settled(process))
        elif self._printed.get(name) is not process or self._printers[name].done():
            self._printed[name] = process
            self._printers[name] = self._start(
                self._print_lines(name, limit_states(process.follow()))
            )

    def add_processes(self, names: Iterable[str]) -> None:
        """Give further processes a colour, and their names room."""
        self._formatter.add(names)

    def report(self, event: events.Event, process: ManagedProcess | None) -> None:
        """Print a notice about an event, if users want to know of it."""
        if isinstance(event, Failure) and event.incident_size >= NOTABLE:
            return  # the notice of the incident names it
        if is_failure(event):
            notice = Notice(event.at, _describe(event), bad=True)
        elif isinstance(event, ALWAYS_REPORTED) or self._is_reported_of_several(event):
            notice = Notice(event.at, _describe(event))
        else:
            return
        held = self._held.get(event.process)
        if held is not None:
            held.append(notice)
        elif isinstance(event, events.ProcessExited) and process is not None:
            self._held[event.process] = [notice]
            _ = self._start(self._report_after_output(process))
        else:
            self._print(notice)

    def _is_reported_of_several(self, event: events.Event) -> bool:
        # The start of a later incarnation is reported as a restart.
        again = isinstance(event, events.ProcessStarted) and event.incarnation > 1
        is_reported = isinstance(event, REPORTED_OF_SEVERAL) and not again
        return is_reported and not self._is_single_command

    def print_notice(self, text: str, *, bad: bool = False) -> None:
        """Print a line of the supervisor's own."""
        self._print(Notice(now_local(), text, bad=bad))

    async def wait_until_printed(self) -> None:
        """Wait until the output of all processes is passed to the writer."""
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def aclose(self) -> None:
        """Wait until everything is written. Cancellation: The rest is dropped."""
        self._writer.put_nowait(STDOUT, self._continuation.close())
        await self._writer.aclose()

    @property
    def has_escapes(self) -> bool:
        """Whether control sequences were printed, such as those of colours."""
        return self._writer.has_escapes

    def cancel(self) -> None:
        """Print no more output."""
        for task in self._tasks:
            task.cancel()

    async def _report_after_output(self, process: ManagedProcess) -> None:
        """Print the notices since an exit after the last output of the process."""
        try:
            await process.wait()
            for _ in range(TURNS):
                await asyncio.sleep(0)
        finally:
            for notice in self._held.pop(process.name):
                self._print(notice)

    def _print(self, notice: Notice) -> None:
        if self._quiet:
            return
        if self._is_single_command:
            line = f"realtalk-async: {notice.text}\n".encode(errors="replace")
            self._writer.put_nowait(STDERR, line)
        else:
            line = self._formatter.notice(notice.at, notice.text, bad=notice.bad)
            self._writer.put_nowait(STDOUT, self._continuation.close() + line)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finish)
        return task

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.result()
        self._on_printed()

    async def _print_lines(self, name: str, lines: AsyncIterator[OutputLine]) -> None:
        async for line in lines:
            self._show(name, line)
            await self._writer.wait_for_room()

    def _show(self, name: str, line: OutputLine) -> None:
        whole, rest = self._formatter.line(name, line), self._formatter.rest(line)
        raw = b"gap\n" if line.gap else line.raw
        source = name, line.stream, line.incarnation
        data = self._continuation.join(source, raw, whole, rest)
        self._writer.put_nowait(STDOUT, data)

    async def _pass_through(
        self, stdout: AsyncIterator[bytes], stderr: AsyncIterator[bytes]
    ) -> None:
        await asyncio.gather(self._copy(stdout, STDOUT), self._copy(stderr, STDERR))

    async def _wait_until_settled(self, process: ManagedProcess) -> None:
        await process.wait_until_settled()

    async def _copy(self, source: AsyncIterator[bytes], descriptor: int) -> None:
        async for data in source:
            await self._writer.put(descriptor, data)


def _describe(event: events.Event) -> str:
    match event:
        case events.ProcessExited():
            return str(replace(event, log=""))  # `run` names the log elsewhere
        case events.RestartScheduled():
            return f"{event.process} is restarted in {event.delay:.2f} s"
        case _:
            return str(event)
