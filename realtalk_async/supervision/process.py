"""
A named process over all of its lives: one task owns it, everybody else asks.

The owner spawns, watches, drains, judges, waits and spawns again. Requests of others
coalesce: stopping beats restarting, and twenty restarts at once make one new life.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import anyio.to_thread

from .. import events
from ..exceptions import (
    GaveUp,
    InvalidConfiguration,
    NotStarted,
    ProcessDead,
    SpawnFailed,
    WaitExpired,
    WriteStalled,
)
from ..logs import parse_python_warning
from .command import Command, explain_refusal
from .incarnation import Adopted, Incarnation, Spawned
from .ladder import GRACEFUL, SWIFT, Ladder
from .narrate import narrate
from .output import Clock, OutputBuffer, OutputLine, OutputLines
from .probe import Health, Probe, too_late_to_judge
from .report import (
    CaptureEnd,
    CombinedOutput,
    IncarnationReport,
    ProcessHistory,
    RecoveryAttempt,
    recognise,
)
from .restart import (
    TEMPORARY,
    GiveUp,
    Judge,
    Restart,
    RestartPolicy,
    Verdict,
    classify,
)
from .spill import SpillStore
from .states import (
    Cause,
    ExitStatus,
    ProcessStatus,
    State,
    clock_face,
    describe_exit,
    now_local,
)

if TYPE_CHECKING:
    from ..logs import Logger
    from .output import StreamName

Process = asyncio.subprocess.Process
Source = Command | Process
RestartFunction = Callable[..., object]
"""
Returns a new process, or a `Command` for one; sync or async. If it takes an argument, it
is given the `IncarnationReport` of what died.
"""

MAX_SIZE = 1 << 40
"""Bytes of output kept of one stream: a terabyte, the safety limit for extreme cases."""

DRAIN = 0.5
"""Seconds that capture goes on after the exit while something holds the pipes open."""

CALLBACK_TIMEOUT = 10.0
"""Seconds that a function of the app may take."""

BINARY_BACKLOG = 256 * 1024
"""Bytes of a binary stdout that wait for their consumer: then the child waits."""


class Host(Protocol):
    """What a process needs of those around it."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What its children carry in their environment."""
        ...

    def announce(self, event: events.Event) -> None:
        """Tell everybody, and the log, what happened."""
        ...

    def own(self, owner: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Run the owner of a process."""
        ...

    def begun(self, pid: int) -> None:
        """Note that a process group of ours exists."""
        ...

    def gone(self, pid: int) -> None:
        """Note that it does not exist any more."""
        ...

    def settled(self, process: ManagedProcess, given_up: str | None) -> None:
        """Note that no restart is due: all is well (None), or why it was given up."""
        ...


class Alone:
    """A host for a process without a manager: it logs, and knows nobody else."""

    environment: Mapping[str, str] = {}

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def announce(self, event: events.Event) -> None:
        """Log the event."""
        self._logger.log(*narrate(event))

    def own(self, owner: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Run the owner as a task of the running loop."""
        return asyncio.get_running_loop().create_task(owner, name=name)

    def begun(self, pid: int) -> None:
        """Nobody is to be told."""

    def gone(self, pid: int) -> None:
        """Nobody is to be told."""

    def settled(self, process: ManagedProcess, given_up: str | None) -> None:
        """Nobody is to be told."""


class _Life:
    """The record of one incarnation while it is being written."""

    def __init__(self, number: int, command: str) -> None:
        self.number = number
        self.command = command
        self.body: Incarnation | None = None
        self.started = time.monotonic()
        self.started_at = now_local()
        self.ended: float | None = None
        self.ended_at: datetime | None = None
        self.exit_status: ExitStatus | None = None
        self.cause: Cause | None = None
        self.summary = "starting"
        self.capture: CaptureEnd = "open"
        self.timeline: list[tuple[datetime, str]] = []
        self.stopping = False
        self.escalated = False
        self.unhealthy = ""

    @property
    def uptime(self) -> float:
        if self.body is None:
            return 0.0
        return (self.ended or time.monotonic()) - self.started

    def end(self, status: ExitStatus | None, when: float | None) -> None:
        self.exit_status = status
        self.ended = when or time.monotonic()
        self.ended_at = now_local()


class ManagedProcess:
    """
    A background process with its whole output and its whole history.

    Use it from one event loop. Constructed with an existing process, it begins to
    capture at once; with a `Command`, at `start`. What it has captured can be asked for
    at any time, also after its death.

    Args:
        process: A running or finished asyncio `Process`, adopted with its pipes (nobody
            else may read them), or a `Command` that is to be started.
        name: Unique among the processes of its manager.
        logger: Where events are logged.
        max_size: Bytes of output to keep of each stream. Reaching it is a WARNING and a
            counted gap at the end of the output; the child is not disturbed.
        restart: When to restart it by itself; never, unless said.
        recover: Called before each restart by policy, with the report of what died;
            returns what to run now, or None for the same command again.
        ladder: How to end it.
        probes: How to know that it is ready, and well.
        drain: Seconds to go on capturing after its exit while something else, such as a
            grandchild, holds its pipes open. What is left of its group is ended then.
        host: Those around it; a manager passes itself.

    Raises:
        InvalidConfiguration: If an argument makes no sense.
        NotStarted: If an existing process is given outside a running event loop.
    """

    def __init__(
        self,
        process: Source,
        name: str,
        logger: Logger,
        *,
        max_size: int = MAX_SIZE,
        restart: RestartPolicy = TEMPORARY,
        recover: RestartFunction | None = None,
        ladder: Ladder = GRACEFUL,
        probes: tuple[Probe, ...] = (),
        drain: float = DRAIN,
        host: Host | None = None,
    ) -> None:
        _refuse_nonsense(process, name, max_size, drain)
        self._name = name
        self._logger = logger
        self._max_size = max_size
        self._policy = restart
        self._judge = Judge(restart)
        self._recover = recover
        self._ladder = ladder
        self._probes = tuple(probes)
        self._drain = drain
        self._host: Host = Alone(logger) if host is None else host
        self._command = process if isinstance(process, Command) else None
        self._next: Source | None = process
        self._start_time = now_local()
        self._prepare_output()
        self._prepare_life()
        if not isinstance(process, Command):
            self._adopt_at_once(process)

    def _prepare_output(self) -> None:
        self._arrivals = 0
        self._buffers: dict[StreamName, OutputBuffer] = {
            name: OutputBuffer(
                name,
                clock=Clock.now(),
                store=SpillStore(on_trouble=self._spill_failed),
                max_size=self._max_size,
                sequence=self._count_arrival,
            )
            for name in ("stdout", "stderr")
        }
        self._heard: dict[StreamName, float] = {}
        self._warned_until = 0
        self._binary: deque[bytes] = deque()
        self._binary_size = 0
        self._receiving = False
        self._arrival: asyncio.Future[None] | None = None

    def _prepare_life(self) -> None:
        self._lives: list[_Life] = []
        self._attempts: list[RecoveryAttempt] = []
        self._errors: list[tuple[datetime, str, str]] = []
        self._state = State.STARTING
        self._reason = "not started yet"
        self._restarts = 0
        self._last_checked: datetime | None = None
        self._owner: asyncio.Task[None] | None = None
        self._stop_asked = False
        self._news = asyncio.Event()
        self._changed: asyncio.Future[None] | None = None
        self._request: tuple[RestartFunction | None, asyncio.Future[bool]] | None = None
        self._spawn_error: SpawnFailed | None = None
        self._is_binary = False

    # ---- what it is, in read-only fields

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    process_name = name

    @property
    def process(self) -> Process | None:
        """The current or last incarnation as asyncio's `Process`; None before the first."""
        body = self._life.body if self._lives else None
        return body.process if body else None

    @property
    def pid(self) -> int | None:
        """The pid of the current or last incarnation; None before the first."""
        body = self._life.body if self._lives else None
        return body.pid if body else None

    @property
    def status(self) -> str:
        """``"running"`` or ``"dead"``."""
        return "running" if self._alive else "dead"

    @property
    def state(self) -> State:
        """The finer state: starting, running, backoff, stopping, exited, fatal."""
        return self._state

    @property
    def reason(self) -> str:
        """In words: what it does now, or how it ended and what comes next."""
        return self._reason

    @property
    def incarnation(self) -> int:
        """Which life it is in, counted from 1; 0 before the first."""
        return self._life.number if self._lives else 0

    @property
    def restarts(self) -> int:
        """How many times a new incarnation took the place of a dead one."""
        return self._restarts

    @property
    def exit_status(self) -> ExitStatus | None:
        """The exit code, ``-n`` for signal n, ``"unknown"``; None while it runs."""
        return self._life.exit_status if self._lives else None

    @property
    def started_at(self) -> datetime | None:
        """When the current or last incarnation started, local time."""
        return self._life.started_at if self._lives else None

    @property
    def start_time(self) -> datetime:
        """When the output buffers were created, local time."""
        return self._start_time

    @property
    def last_checked(self) -> datetime | None:
        """When `check` last looked, local time."""
        return self._last_checked

    @property
    def max_size(self) -> int:
        """Bytes of output kept of each stream."""
        return self._max_size

    @property
    def logger(self) -> Logger:
        """Where its events are logged."""
        return self._logger

    @property
    def command(self) -> Command | None:
        """What it runs; None if an existing process was given."""
        return self._command

    @property
    def policy(self) -> RestartPolicy:
        """When it is restarted by itself."""
        return self._policy

    @property
    def ladder(self) -> Ladder:
        """How it is ended."""
        return self._ladder

    @property
    def _life(self) -> _Life:
        return self._lives[-1]

    @property
    def _alive(self) -> bool:
        body = self._life.body if self._lives else None
        return body is not None and body.alive

    def __repr__(self) -> str:
        return f"<ManagedProcess {self.get_status()}>"

    # ---- asking

    def get_status(self) -> ProcessStatus:
        """Return what is known now, without looking afresh."""
        life = self._life if self._lives else None
        return ProcessStatus(
            self._name,
            self.pid,
            "running" if self._alive else "dead",
            self._state,
            self.incarnation,
            self.started_at,
            self._last_checked,
            life.uptime if life else 0.0,
            self._restarts,
            self.exit_status,
            life.cause if life else None,
            self._reason,
        )

    async def check(self) -> ProcessStatus:
        """
        Look at the process now, note the time, and return its status.

        A death is noticed without this, within a fraction of a millisecond.
        """
        # One turn of the loop lets a death that the kernel has already told of be seen.
        await asyncio.sleep(0)
        self._last_checked = now_local()
        return self.get_status()

    def get_stdout(self) -> OutputLines:
        """Return all lines of stdout so far, over every incarnation."""
        return self._buffers["stdout"].lines()

    def get_stderr(self) -> OutputLines:
        """Return all lines of stderr so far, over every incarnation."""
        return self._buffers["stderr"].lines()

    def get_combined_output(self) -> CombinedOutput:
        """Return status, stdout, stderr, and both interleaved in order of arrival."""
        return CombinedOutput(self.get_status(), self.get_stdout(), self.get_stderr())

    def get_history(self) -> ProcessHistory:
        """Return every incarnation, every attempt to revive it, every other error."""
        return ProcessHistory(
            self.get_status(),
            tuple(self._report(life) for life in self._lives),
            tuple(self._attempts),
            tuple(self._errors),
        )

    def get_report(self) -> IncarnationReport | None:
        """Return the report of the current or last incarnation; None before the first."""
        return self._report(self._life) if self._lives else None

    def _report(self, life: _Life) -> IncarnationReport:
        last = self._last_words(life)
        return IncarnationReport(
            self._name,
            life.number,
            life.command,
            life.body.pid if life.body else None,
            life.started_at,
            life.ended_at,
            life.uptime,
            life.exit_status,
            life.cause,
            life.summary,
            recognise(last),
            tuple(last),
            self._buffers["stdout"].lines(life.number),
            self._buffers["stderr"].lines(life.number),
            life.capture,
            life.body.usage if life.body else None,
            tuple(life.timeline),
        )

    def _last_words(self, life: _Life) -> list[OutputLine]:
        lines = [
            line
            for buffer in self._buffers.values()
            for line in buffer.last_words(life.number)
        ]
        return sorted(lines, key=lambda line: line.sequence)

    def silent_for(self, stream: StreamName) -> float:
        """Return the seconds since this life last wrote to *stream*, or began."""
        began = self._life.started if self._lives else time.monotonic()
        return time.monotonic() - max(began, self._heard.get(stream, began))

    def last_line(self, stream: StreamName) -> str:
        """Return the text of the newest line of *stream*, or "" if there is none."""
        newest = self._buffers[stream].lines()[-1:]
        return newest[0].text if newest else ""

    # ---- following what it says

    async def follow(
        self, *streams: StreamName, history: bool = False
    ) -> AsyncIterator[OutputLine]:
        """
        Iterate over its lines as they come, in order, until it is dead for good.

        However slow the reader, no line is lost and nobody is slowed: lines are read from
        what was captured. A line is told when it is complete, or when its end is certain.

        Args:
            *streams: ``"stdout"``, ``"stderr"``; both if none is given.
            history: Whether to begin with all that was said before.

        Cancellation: Safe; leaving the iteration leaves nothing behind.
        """
        chosen: tuple[StreamName, ...] = streams or ("stdout", "stderr")
        places = {
            name: 0 if history else self._buffers[name].next_line() for name in chosen
        }
        while True:
            over = self._owner is None  # asked before looking: nothing comes after it
            lines = self._news_since(places)
            for line in lines:
                yield line
            if lines:
                await asyncio.sleep(0)  # a long history must not hold the loop
            elif over:
                return
            else:
                await self._next_arrival()

    def _news_since(self, places: dict[StreamName, int]) -> list[OutputLine]:
        """Return a bounded number of new lines, and move *places* behind them."""
        lines: list[OutputLine] = []
        for name, place in places.items():
            found, places[name] = self._buffers[name].complete_from(place)
            lines += found
        return sorted(lines, key=lambda line: line.sequence)

    async def follow_bytes(self, stream: StreamName) -> AsyncIterator[bytes]:
        """
        Iterate over the bytes of *stream* of the current incarnation, to its end.

        Whatever the reader's pace, nothing is lost: they are read from the capture.
        """
        life = self._life
        buffer = self._buffers[stream]
        place = buffer.beginning(life.number)
        while True:
            over = (
                life.capture != "open"
            )  # asked before looking: nothing comes after it
            data = buffer.read(place)[: buffer.ending(life.number) - place]
            place += len(data)
            if data:
                yield data
            elif over:
                return
            else:
                await self._next_arrival()

    async def wait_for_line(self, pattern: str, timeout: float = 10.0) -> OutputLine:
        """
        Wait for a line that matches, in what this incarnation has said or will say.

        Args:
            pattern: A regular expression, searched in each line of both streams.
            timeout: Seconds.

        Returns:
            The line, with ``re.search(pattern, line.text)`` true.

        Raises:
            WaitExpired: If none came in time; the message has its last words.
            ProcessDead: If it died without having said it.
        """
        wanted = re.compile(pattern)
        number = self.incarnation
        places = {
            name: buffer.beginning(number) for name, buffer in self._buffers.items()
        }
        try:
            async with asyncio.timeout(timeout):
                while True:
                    over = self.incarnation != number or self._capture_over
                    lines = self._news_since(places)
                    for line in lines:
                        if line.incarnation == number and wanted.search(line.text):
                            return line
                    if over and not lines:
                        raise ProcessDead(
                            self._name, f"wait for {pattern!r}", self._reason
                        )
                    await (asyncio.sleep(0) if lines else self._next_arrival())
        except TimeoutError:
            raise WaitExpired(
                f"{self._name!r} said nothing that matches {pattern!r} in {timeout:g} s; "
                f"its last line was {self.last_line('stdout') or self.last_line('stderr')!r}"
            ) from None

    @property
    def _capture_over(self) -> bool:
        return not self._lives or self._life.capture != "open"

    async def _next_arrival(self) -> None:
        """Wait until something was captured, or its state changed."""
        if self._arrival is None or self._arrival.done():
            self._arrival = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._arrival)

    def _tell_followers(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    # ---- giving and taking bytes

    async def send(self, data: bytes, timeout: float = 5.0) -> None:
        """
        Write to the child's stdin.

        Args:
            data: Any bytes; those of several callers are never mixed.
            timeout: Seconds that the child may take to make room for them.

        Raises:
            ProcessDead: If it is dead, dies meanwhile, or has closed its input.
            WriteStalled: If it does not read; says how many bytes it took.

        Cancellation: Some of the bytes may have been written.
        """
        doing = f"write {len(data)} bytes"
        if not self._alive:
            raise ProcessDead(self._name, doing, self._reason)
        body = self._life.body
        assert body is not None
        if body.process.stdin is None and not (self._command and self._command.stdin):
            raise InvalidConfiguration(
                f"{self._name!r} has no stdin: start it by Command(..., stdin=True)"
            )
        progress = [0]
        try:
            async with asyncio.timeout(timeout):
                await body.write(data, progress)
        except TimeoutError:
            raise WriteStalled(self._name, progress[0], len(data), timeout) from None
        except (BrokenPipeError, ConnectionResetError):
            how = "it has closed its input" if body.alive else self._reason
            raise ProcessDead(self._name, doing, how) from None

    def close_stdin(self) -> None:
        """End the child's input: it reads end-of-file. Idempotent."""
        if self._alive and self._life.body:
            self._life.body.close_stdin()

    def detach_stdin(self) -> int:
        """
        Give away our end of the current incarnation's stdin pipe.

        Returns:
            The descriptor, the caller's to close.

        Raises:
            ProcessDead: If it has ended.
        """
        body = self._life.body
        descriptor = body.detach_stdin() if isinstance(body, Spawned) else -1
        if descriptor < 0:
            raise ProcessDead(self._name, "give away its stdin", self._reason)
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
        if self._receiving:
            raise RuntimeError(f"another task already receives from {self._name!r}")
        self._receiving = True
        try:
            while not self._binary:
                if self._owner is None:
                    raise ProcessDead(self._name, "receive from it", self._reason)
                await self._next_arrival()
        finally:
            self._receiving = False
        chunk = self._binary.popleft()
        self._binary_size -= len(chunk)
        if self._binary_size < BINARY_BACKLOG // 2 and self._life.body:
            self._life.body.resume("stdout")
        return chunk

    def _take_binary(self, data: bytes) -> None:
        self._binary.append(data)
        self._binary_size += len(data)
        if self._binary_size >= BINARY_BACKLOG and self._life.body:
            self._life.body.pause("stdout")

    # ---- asking for deeds

    async def start(self) -> ProcessStatus:
        """
        Start the command, and wait until it runs (and is ready, if a probe tells).

        Returns at once if it runs already; returns in state ``backoff`` if it could not
        be started and another try is due.

        Raises:
            SpawnFailed: If it could not be started and no other try is due.
            GaveUp: If it died before it was ready and no other try is due.
            NotStarted: If it is an existing process that is dead: nothing says how to
                start it.

        Cancellation: The process stays as it is; `stop` ends it.
        """
        if self._owner is None:
            if self._command is None and self._next is None:
                raise NotStarted(
                    f"{self._name!r} was given as an existing process; restart it with "
                    f"a restart function"
                )
            self._begin_owning()
        await self._until(lambda: self._state is not State.STARTING)
        if self._state in {State.FATAL, State.EXITED}:
            self._raise_failed_start()
        return self.get_status()

    def _raise_failed_start(self) -> None:
        """Raise what a start is told whose process never ran, or never was ready."""
        if self._spawn_error is not None:
            raise self._spawn_error
        if self._must_be_ready and self._life.cause is not Cause.STOPPED:
            raise GaveUp(self._name, self._reason, self.get_report())

    @property
    def _must_be_ready(self) -> bool:
        return any(probe.purpose == "readiness" for probe in self._probes)

    @property
    def is_settled(self) -> bool:
        """Whether it is dead and will not start again by itself."""
        return self._owner is None

    async def wait_until_running(self) -> ProcessStatus:
        """
        Wait until it is running (and ready, if a probe tells).

        Raises:
            ProcessDead: If it is dead for good.
        """
        await self._until(lambda: self._state is State.RUNNING or self.is_settled)
        if self._state is not State.RUNNING:
            raise ProcessDead(self._name, "depend on it", self._reason)
        return self.get_status()

    async def wait(self) -> ProcessStatus:
        """
        Wait until the current incarnation is dead and all that it said is captured.

        Returns:
            Its last status, at once if it is dead already.

        Cancellation: Safe; the process is not touched.
        """
        number = self.incarnation
        await self._until(
            lambda: (
                self.incarnation != number
                or (not self._alive and (self._capture_over or self._owner is None))
            )
        )
        return self.get_status()

    async def stop(self) -> ProcessStatus:
        """
        End the process and its whole group by its ladder. Idempotent.

        It wins over everything else: a process that is starting, ready to be restarted
        or waiting in backoff is not spawned again.

        Returns:
            The status, when the group is empty of all but zombies, or when the ladder
            had no further step (then an ``Unkillable`` event says so).

        Cancellation: Only the waiting is given up; the stop goes on.
        """
        self._stop_asked = True
        self._news.set()
        if self._owner is None:
            if self._state is State.STARTING:
                self._enter(State.EXITED, "stopped before it was started")
            return self.get_status()
        await self._until(lambda: self._owner is None)
        return self.get_status()

    async def restart(self, restart_function: RestartFunction | None = None) -> bool:
        """
        Start a dead process again; output and history of earlier lives stay.

        Args:
            restart_function: Returns a new asyncio `Process`, or a `Command` for one;
                sync (then it runs in a thread) or async. If it takes an argument, it is
                given the report of what died. Without one the process's own command is
                run again.

        Returns:
            True if a new incarnation runs. False, with a WARNING, if it was running; and
            with an ERROR entry if the function raised, took longer than 10 s or returned
            something else, or if the spawn was refused.

        Callers that come while a restart is under way share its result.
        """
        if self._alive:
            self._note("restart refused", "it is running", level="WARNING")
            return False
        if self._request is None:
            self._stop_asked = False
            answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._request = restart_function, answer
            self._news.set()
            if self._owner is None:
                self._begin_owning()
        return await asyncio.shield(self._request[1])

    def reset(self) -> None:
        """Forget past failures, so that restarting begins with its first delay again."""
        self._judge.reset()

    # ---- the owner's work

    def _begin_owning(self) -> None:
        self._stop_asked = False
        self._spawn_error = None
        if self._state is not State.STARTING:
            self._enter(State.STARTING, "starting")
        self._owner = self._host.own(self._own(), f"own {self._name}")

    def _adopt_at_once(self, process: Process) -> None:
        """Begin to capture from the first byte, before the owner's first turn."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise NotStarted(
                f"an existing process such as {self._name!r} can only be managed inside "
                f"the event loop that it was created in"
            ) from None
        self._embody(process)
        self._begin_owning()

    async def _own(self) -> None:
        """Own the process until no restart is due."""
        try:
            verdict = await self._live_on()
        except BaseException:
            self._abandon()
            raise
        finally:
            self._owner = None
            self._answer_request(succeeded=False)
            self._tell_followers()
            self._tell_change()
        self._host.settled(
            self, verdict.reason if isinstance(verdict, GiveUp) else None
        )

    async def _live_on(self) -> Verdict | None:
        """Go from life to life; return the verdict that ended it, None if none did."""
        before = self._state, self._reason
        verdict: Verdict | None = None
        while True:
            # An existing process was embodied before its owner's first turn.
            if self._capture_over and not await self._revive():
                if verdict is None:
                    self._enter(*before)
                    return None
            else:
                await self._attend()
                verdict = self._decide()
            if not isinstance(verdict, Restart):
                self._settle(verdict)
                return verdict
            if not await self._back_off(verdict):
                return None

    async def _revive(self) -> bool:
        """
        Bring up the next incarnation.

        Returns:
            False if the app had asked for it and gave nothing to run: all is as before.
        """
        asked_by, died = ("app" if self._request else "policy"), self.incarnation
        try:
            source = await self._obtain()
        except _Refused as exc:
            return self._refused(died, asked_by, str(exc))
        if self._stop_asked and isinstance(source, Command):
            return True
        try:
            self._embody(source)
        except OSError as exc:
            self._spawn_refused(source, exc)
            if died:
                self._attempted(died, asked_by, str(self._spawn_error), ok=False)
            self._answer_request(succeeded=False)
            return True
        if died:
            self._revived(died, asked_by)
        self._answer_request(succeeded=True)
        return True

    async def _obtain(self) -> Source:
        """Return what to run now."""
        if self._request and self._request[0] is not None:
            return await self._ask(self._request[0], "restart function")
        if self._next is not None:
            source, self._next = self._next, None
            return source
        if self._recover is not None and self._lives:
            try:
                return await self._ask(self._recover, "recover", may_be_none=True)
            except _Refused as exc:
                self._announce(
                    events.CallbackFailed(
                        process=self._name, callback="recover", reason=str(exc)
                    )
                )
        if self._command is not None:
            return self._command
        raise _Refused("nothing says how: give a restart function")

    async def _ask(
        self, function: RestartFunction, what: str, *, may_be_none: bool = False
    ) -> Source:
        """Call a function of the app for a new process, within its time."""
        if isinstance(function, Command):
            return function
        arguments = (self.get_report(),) if _takes_argument(function) else ()
        try:
            async with asyncio.timeout(CALLBACK_TIMEOUT):
                made = await self._unless_stopped(_call(function, *arguments))
        except TimeoutError:
            raise _Refused(
                f"the {what} did not return within {CALLBACK_TIMEOUT:g} s"
            ) from None
        except _Refused:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever the app's own code raises
            raise _Refused(f"the {what} raised {exc!r}") from exc
        if made is None and may_be_none and self._command is not None:
            return self._command
        if isinstance(made, (Command, Process)):
            return made
        raise _Refused(f"the {what} returned {made!r}, not a new process or a Command")

    async def _unless_stopped(self, call: Coroutine[None, None, object]) -> object:
        """Await a call of the app's code, but not beyond the moment we are stopped."""
        task = asyncio.get_running_loop().create_task(call)
        try:
            while not task.done() and not self._stop_asked:
                self._news.clear()
                news = asyncio.get_running_loop().create_task(self._news.wait())
                await asyncio.wait([task, news], return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
            if not task.done():
                raise _Refused("it was stopped meanwhile")
            return task.result()
        finally:
            task.cancel()

    def _embody(self, source: Source) -> None:
        """Begin a new incarnation. Raises OSError if the system refuses."""
        number = self.incarnation + 1
        command = str(source) if isinstance(source, Command) else "(existing process)"
        life = _Life(number, command)
        self._lives.append(life)
        self._heard.clear()
        for buffer in self._buffers.values():
            buffer.begin(number)
        if isinstance(source, Command):
            self._enter(State.STARTING, "starting")
            life.body = Spawned(
                source,
                environment=self._host.environment,
                on_data=self._captured,
                on_exit=lambda: self._exited(life),
            )
            self._is_binary = source.stdout == "binary"
        else:
            life.body = Adopted(
                source, on_data=self._captured, on_exit=lambda: self._exited(life)
            )
            self._is_binary = False
        life.started = life.body.started
        self._host.begun(life.body.pid)
        self._announce(
            events.ProcessStarted(
                process=self._name,
                incarnation=number,
                pid=life.body.pid,
                command=command,
            )
        )
        if not self._must_be_ready:
            self._enter(State.RUNNING, "running")

    def _captured(self, stream: StreamName, data: bytes, now: float) -> None:
        """Keep what a pipe brought; called once a chunk."""
        self._heard[stream] = now
        if stream == "stdout" and self._is_binary:
            self._take_binary(data)
        else:
            buffer = self._buffers[stream]
            complete = buffer.dropped == 0
            buffer.append(data, now)
            if complete and buffer.dropped:
                self._announce(
                    events.OutputDropped(
                        process=self._name,
                        incarnation=self.incarnation,
                        stream=stream,
                        max_size=self._max_size,
                    )
                )
            if stream == "stderr" and b"Warning: " in data:
                self._forward_warnings()
        self._tell_followers()

    def _forward_warnings(self) -> None:
        """Log the Python warnings that a Python child has printed."""
        buffer = self._buffers["stderr"]
        lines, self._warned_until = buffer.complete_from(self._warned_until)
        for line in lines:
            warning = parse_python_warning(line.text)
            if warning is not None:
                self._logger.warning(self._name, *warning)

    def _exited(self, life: _Life) -> None:
        """Note a death at once; what it still has to say is read afterwards."""
        body = life.body
        assert body is not None
        life.end(body.exit_status, body.ended)
        life.cause = classify(
            life.exit_status,
            self._policy,
            stopped=life.stopping,
            escalated=life.escalated,
            unhealthy=bool(life.unhealthy),
        )
        life.summary = self._summarise(life)
        self._reason = life.summary
        last = self._last_words(life)
        sign = recognise(last)
        self._announce(
            events.ProcessExited(
                process=self._name,
                incarnation=life.number,
                pid=body.pid,
                exit_status=life.exit_status
                if life.exit_status is not None
                else "unknown",
                cause=str(life.cause),
                uptime=life.uptime,
                summary=life.summary,
                sign=f"{sign.kind}: {sign.advice}" if sign else "",
                last_words=tuple(line.text for line in last),
            )
        )
        life.timeline.append((now_local(), "dead"))
        self._news.set()
        self._tell_followers()
        self._tell_change()

    def _summarise(self, life: _Life) -> str:
        how = describe_exit(life.exit_status)
        if life.unhealthy:
            how = f"ended because it was not well ({life.unhealthy}); {how}"
        elif life.cause in {Cause.STOPPED, Cause.ESCALATED}:
            how = f"{life.cause}; {how}"
        return f"{how} after {clock_face(life.uptime)}"

    async def _attend(self) -> None:
        """Be with the current incarnation from its first moment to its burial."""
        life = self._life if self._lives else None
        if life is None or life.body is None or life.capture != "open":
            return  # it never ran
        body = life.body
        probes = [
            asyncio.get_running_loop().create_task(self._probe(life, probe))
            for probe in self._probes
        ]
        try:
            while body.alive:
                if self._stop_asked or life.unhealthy:
                    await self._climb(life, body, self._ladder)
                    break
                self._news.clear()
                await self._news.wait()
        finally:
            for task in probes:
                task.cancel()
            await asyncio.gather(*probes, return_exceptions=True)
        await self._bury(life, body)

    async def _climb(self, life: _Life, body: Incarnation, ladder: Ladder) -> None:
        """End the group, step by step, until nothing of it lives."""
        if body.alive:
            life.stopping = True
            self._enter(State.STOPPING, "being stopped")
        for step in ladder.steps:
            members = await body.members()
            if not members and body.is_gone():
                return
            life.escalated = life.escalated or (
                step.signal == ladder.steps[-1].signal and step is not ladder.steps[0]
            )
            self._announce(
                events.StopStep(
                    process=self._name,
                    incarnation=life.number,
                    step=str(step),
                    members=len(members),
                )
            )
            if step.signal:
                body.signal(step.signal)
            else:
                body.close_stdin()
            if await self._is_gone_within(body, step.wait):
                return
        survivors = tuple(map(str, await body.members()))
        if survivors:
            self._announce(
                events.Unkillable(
                    process=self._name, incarnation=life.number, survivors=survivors
                )
            )

    async def _is_gone_within(self, body: Incarnation, seconds: float) -> bool:
        """Wait for the group to have no member but zombies."""
        deadline = time.monotonic() + seconds
        if body.alive:
            await asyncio.wait([body.exited], timeout=seconds)
        pause = 0.002
        while not body.alive:
            if body.is_gone() or not await body.members():
                return True
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(0.05, pause * 2)
        return False

    async def _bury(self, life: _Life, body: Incarnation) -> None:
        """Read the rest of what it said, end what is left of its group, close all."""
        life.capture = await body.drain(self._drain)
        for buffer in self._buffers.values():
            buffer.end_line()
        self._forward_warnings()
        if not body.is_gone() and not life.stopping and await body.members():
            await self._climb(life, body, SWIFT)
        self._host.gone(body.pid)
        if life.stopping and not life.unhealthy:
            self._announce(
                events.ProcessStopped(
                    process=self._name,
                    incarnation=life.number,
                    exit_status=life.exit_status
                    if life.exit_status is not None
                    else "unknown",
                    escalated=life.escalated,
                )
            )
        self._tell_followers()
        self._tell_change()

    def _decide(self) -> Verdict:
        """Judge the last death; a request of the app goes before the policy."""
        life = self._life if self._lives else None
        if self._stop_asked or life is None or life.cause is None:
            cause = Cause.STOPPED
        elif self._request is not None:
            return Restart(0.0, "the app asked for it")
        else:
            cause = life.cause
        share = random.random()  # noqa: S311 - jitter needs no secrecy
        status = life.exit_status if life else None
        return self._judge.decide(cause, status, time.monotonic(), share)

    async def _back_off(self, verdict: Restart) -> bool:
        """Wait for the next start; return False if it was stopped meanwhile."""
        if not self._request:
            self._enter(State.BACKOFF, verdict.reason)
            self._announce(
                events.RestartScheduled(
                    process=self._name,
                    incarnation=self.incarnation,
                    delay=verdict.delay,
                    reason=verdict.reason,
                )
            )
        deadline = time.monotonic() + verdict.delay
        while not (self._stop_asked or self._request):
            self._news.clear()
            left = deadline - time.monotonic()
            if left <= 0:
                break
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
            except TimeoutError:
                break
        if self._stop_asked:
            self._enter(State.EXITED, "stopped while it waited for its restart")
        return not self._stop_asked

    def _settle(self, verdict: Verdict | None) -> None:
        """Stay dead."""
        if not isinstance(verdict, GiveUp) or not verdict.allowed:
            self._enter(State.EXITED, verdict.reason if verdict else self._reason)
            return
        self._enter(State.FATAL, verdict.reason)
        self._announce(
            events.ProcessGivenUp(
                process=self._name,
                incarnation=self.incarnation,
                reason=verdict.reason,
            )
        )

    def _abandon(self) -> None:
        """Leave nothing behind: the owner itself is being cancelled."""
        life = self._life if self._lives else None
        if life and life.body and not life.body.is_gone():
            life.stopping = True
            life.body.killnow_local()
        if life and life.body:
            life.body.close()
            life.capture = "drain bound" if life.capture == "open" else life.capture
            self._host.gone(life.body.pid)
        self._enter(State.EXITED, "killed: the task that owned it was cancelled")

    # ---- probes

    async def _probe(self, life: _Life, probe: Probe) -> None:
        """Ask one probe again and again; its verdict is the owner's to act on."""
        health = Health(probe)
        loop = asyncio.get_running_loop()
        readiness = probe.purpose == "readiness"
        # Probes of many processes must not fall on the same moment.
        phase = probe.period * random.random()  # noqa: S311 - nor does a phase
        due = loop.time() + (0.0 if readiness else probe.grace + phase)
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            late = loop.time() - due
            due = loop.time() + probe.period
            if not readiness and too_late_to_judge(probe, late):
                continue
            reason = await self._put_question(probe)
            if readiness and reason is None:
                self._ready(life)
                return
            health = health.hear(reason)
            if health.failed and reason is not None:
                self._unwell(life, probe, reason)
                return

    async def _put_question(self, probe: Probe) -> str | None:
        try:
            async with asyncio.timeout(probe.timeout):
                return await probe.check(self)
        except TimeoutError as exc:
            return str(exc) or f"no answer within {probe.timeout:g} s"
        except Exception as exc:  # noqa: BLE001 - whatever the app's own code raises
            return f"{type(exc).__name__}: {exc}"

    def _ready(self, life: _Life) -> None:
        if life.ended is None and self._state is State.STARTING:
            self._enter(State.RUNNING, "running and ready")
            self._announce(
                events.ProcessReady(
                    process=self._name, incarnation=life.number, after=life.uptime
                )
            )

    def _unwell(self, life: _Life, probe: Probe, reason: str) -> None:
        if life.ended is None:
            life.unhealthy = f"{probe.name}: {reason}"
            self._note("probe failed", life.unhealthy, level=None)
            self._announce(
                events.ProbeFailed(
                    process=self._name,
                    incarnation=life.number,
                    probe=probe.name,
                    reason=reason,
                )
            )
            self._news.set()

    # ---- small deeds

    def _refused(self, died: int, asked_by: str, why: str) -> bool:
        """Note that nothing to run could be had; return whether that is a failure."""
        self._attempted(died, asked_by, why, ok=False)
        self._announce(
            events.RestartFailed(process=self._name, incarnation=died, reason=why)
        )
        if asked_by == "policy" and self._lives:
            # It counts like a spawn that was refused.
            self._life.cause = Cause.SPAWN_FAILED
        self._answer_request(succeeded=False)
        return asked_by == "policy"

    def _spawn_refused(self, source: Source, error: OSError) -> None:
        assert isinstance(source, Command)
        life = self._life
        self._spawn_error = explain_refusal(self._name, source, error)
        life.end(None, None)
        life.cause = Cause.SPAWN_FAILED
        life.capture = "none"
        life.summary = str(self._spawn_error)
        life.timeline.append((now_local(), "spawn failed"))
        self._reason = life.summary
        self._announce(
            events.SpawnRefused(
                process=self._name, incarnation=life.number, error=life.summary
            )
        )

    def _revived(self, died: int, asked_by: str) -> None:
        self._restarts += 1
        before = self._lives[-2].ended or self._life.started
        downtime = max(0.0, self._life.started - before)
        assert self.pid is not None
        self._attempted(died, asked_by, f"pid {self.pid}", ok=True)
        self._announce(
            events.ProcessRestarted(
                process=self._name,
                incarnation=self.incarnation,
                pid=self.pid,
                downtime=downtime,
            )
        )

    def _attempted(self, died: int, asked_by: str, detail: str, *, ok: bool) -> None:
        who = "app" if asked_by == "app" else "policy"
        self._attempts.append(RecoveryAttempt(now_local(), died, who, ok, detail))

    def _answer_request(self, *, succeeded: bool) -> None:
        if self._request is not None:
            request, self._request = self._request, None
            if not request[1].done():
                request[1].set_result(succeeded)

    def _enter(self, state: State, reason: str) -> None:
        self._state = state
        self._reason = reason
        if self._lives:
            self._life.timeline.append((now_local(), str(state)))
        self._tell_change()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds; it is asked at every change of state."""
        while not condition():
            if self._changed is None or self._changed.done():
                self._changed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._changed)

    def _tell_change(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _announce(self, event: events.Event) -> None:
        self._host.announce(event)

    def _note(self, kind: str, what: str, *, level: str | None) -> None:
        """Keep an error in the history, and log it if a level is given."""
        self._errors.append((now_local(), kind, what))
        if level is not None:
            self._logger.log(level, self._name, f"{kind.capitalize()}: {what}")

    def _spill_failed(self, error: OSError) -> None:
        self._logger.warning(
            self._name,
            "Old output cannot be moved to the disk: it stays in memory",
            {"error": str(error)},
        )

    def _count_arrival(self) -> int:
        self._arrivals += 1
        return self._arrivals


class _Refused(Exception):
    """No new process could be had; the message says why."""


def _takes_argument(function: RestartFunction) -> bool:
    """Return whether *function* can be given one positional argument."""
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # a builtin that does not tell
        return False
    return True


async def _call(function: RestartFunction, *arguments: object) -> object:
    """Call a function of the app: a coroutine function here, any other in a thread."""
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    made = await anyio.to_thread.run_sync(
        lambda: function(*arguments), abandon_on_cancel=True
    )
    return await made if isinstance(made, Awaitable) else made


def _refuse_nonsense(
    process: object, name: object, max_size: int, drain: float
) -> None:
    if not isinstance(process, (Command, Process)):
        raise InvalidConfiguration(
            f"a process is an asyncio.subprocess.Process or a Command, not {process!r}"
        )
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InvalidConfiguration(f"a name is printable text, not {name!r}")
    if max_size < 1:
        raise InvalidConfiguration(f"max_size is at least 1 byte, not {max_size}")
    if not drain >= 0:
        raise InvalidConfiguration(f"drain is 0 s or more, not {drain}")
