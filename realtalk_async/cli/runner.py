"""
Run a spec: start, print, and end it, and say by the exit code what happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.cli import exit_codes
from realtalk_async.cli.line_format import Look, Stamp
from realtalk_async.cli.stdout import Out
from realtalk_async.exceptions import CriticalProcessFailed, RealtalkError
from realtalk_async.logs import Logger
from realtalk_async.supervision import Cause, ProcessManager, State
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.times import now_local

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
    from datetime import datetime
    from pathlib import Path

    from realtalk_async.cli.config.spec import AppSpec, ProcessSpec
    from realtalk_async.supervision import ManagedProcess

STDOUT, STDERR = 1, 2

TURNS = 5
"""Turns of the loop after which what was captured is on its way to be printed."""

NO_WINDOW = 0.05
"""Seconds that a single command runs before others may look in."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

GOOD = (events.RestartScheduled, events.ProcessRestarted)
"""What is always said."""
FULL = (events.ProcessStarted, events.ProcessReady, events.ProcessExited)
"""What is said as well when there are several processes."""
BAD = (
    events.SpawnRefused,
    events.ProbeFailed,
    events.Unkillable,
    events.Degraded,
    events.ShutdownStarted,
    events.GuardLost,
)
"""What is said in red."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a spec is to be run."""

    log: Path | None = None
    """The log's path; None makes a temporary one, removed if all goes well."""
    colour: bool = False
    stamp: Stamp = "time"
    quiet: bool = False
    """Whether to say nothing but what the children say."""
    control: bool = True
    """Whether `realtalk-async ps` and its like may look in."""
    metrics: tuple[str, int] | None = None
    """Where ``/metrics``, ``/healthz`` and ``/readyz`` are served: host and port."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the supervisor says."""

    at: datetime
    text: str
    bad: bool = False


def run(spec: AppSpec, setting: Setting) -> int:
    """
    Run *spec* until it is over, and return the exit code; see `verdict`.

    Args:
        spec: What to run.
        setting: How.
    """

    async def run() -> int:
        return await Runner(spec, setting).run()

    return asyncio.run(run())


class Runner:
    """
    One run of a spec; made inside the loop that it runs in.

    Args:
        spec: What to run.
        setting: How.
    """

    def __init__(self, spec: AppSpec, setting: Setting) -> None:
        self._spec = spec
        self._setting = setting
        names = [part.name for part in spec.processes]
        self._look = Look(names, colour=setting.colour, stamp=setting.stamp)
        self._manager: ProcessManager | None = None
        self._over = asyncio.Event()
        self._out = Out(on_broken=lambda: self._end(exit_codes.UNREAD))
        self._hurried = asyncio.Event()
        self._asked = 0
        self._code: int | None = None
        self._has_failed = False
        self._last_word = ""
        self._held: dict[str, list[Notice]] = {}
        self._unstarted = len(spec.processes)
        self._printing: dict[str, asyncio.Task[None]] = {}
        self._printed: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Run it, and return the exit code."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._told_to_end, number)
        try:
            await self._supervise()
            await self._unless_hurried(self._print_rest())
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
                if self._asked:
                    # We are on our way out: a further Ctrl-C must not change the code.
                    signal.signal(number, signal.SIG_IGN)
        return self._code or 0

    async def _supervise(self) -> None:
        """Hold the manager's block until it is over, and clear the log away."""
        async with Logger(self._setting.log) as logger:
            try:
                await self._hold(logger)
            except CriticalProcessFailed as exc:
                self._lost(exc.name)
        if self._has_failed:
            self._last_word = f"the log is {logger.path}"
        elif self._setting.log is None:
            # A moment's work, and nothing runs any more.
            os.unlink(logger.path)

    async def _hold(self, logger: Logger) -> None:
        """Hold the manager's block, with all parts in it, until it is over."""
        spec = self._spec
        async with ProcessManager(
            logger,
            check_interval=spec.check_interval,
            strategy=spec.strategy,
            max_restarts=spec.max_restarts,
            window=spec.window,
        ) as manager:
            self._manager = manager
            manager.subscribe(self._on_event)
            async with self._metrics(manager):
                if spec.is_single_command:
                    await self._run_parts(manager, self._wait_for_end_of_one(manager))
                else:
                    async with self._window(manager):
                        await self._run_parts(manager, self._over.wait())

    async def _run_parts(
        self, manager: ProcessManager, until: Coroutine[None, None, object]
    ) -> None:
        """Start all parts, and do not go on before it is over."""
        starts = [
            asyncio.create_task(self._start(manager, part))
            for part in self._spec.processes
        ]
        try:
            await asyncio.sleep(0)  # then all are known, and who is critical
            async with _told_to_systemd(manager):
                await until
        finally:
            for start in starts:
                start.cancel()
            await asyncio.wait(starts)

    async def _wait_for_end_of_one(self, manager: ProcessManager) -> None:
        """Wait, with a window only if it takes longer: opening one takes a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NO_WINDOW):
                await self._over.wait()
                return
        async with self._window(manager):
            await self._over.wait()

    @contextlib.asynccontextmanager
    async def _metrics(self, manager: ProcessManager) -> AsyncGenerator[None]:
        """Serve metrics and health, if that is wanted."""
        if self._setting.metrics is None:
            yield
            return
        from realtalk_async.ops import serve_metrics

        host, port = self._setting.metrics
        async with serve_metrics(manager, host=host, port=port) as endpoint:
            self._say(Notice(now_local(), f"metrics and health at {endpoint.url}"))
            yield

    @contextlib.asynccontextmanager
    async def _window(self, manager: ProcessManager) -> AsyncGenerator[None]:
        """Let others look in, if they may."""
        async with contextlib.AsyncExitStack() as stack:
            if self._setting.control:
                from realtalk_async.control import ControlUnavailable, serve_control

                try:
                    await stack.enter_async_context(serve_control(manager))
                except ControlUnavailable as exc:
                    what = f"no control socket: {exc}"
                    self._say(Notice(now_local(), what, bad=True))
            yield

    async def _start(self, manager: ProcessManager, spec: ProcessSpec) -> None:
        """Start one part; what goes wrong is told by events."""
        with contextlib.suppress(RealtalkError):
            await manager.start(
                spec.name,
                spec.command,
                restart=spec.restart,
                critical=spec.critical,
                depends_on=spec.depends_on,
                devices=spec.devices,
                device_timeout=spec.device_timeout,
                probes=spec.probes,
                ladder=spec.ladder,
                max_size=spec.max_size,
            )
        self._unstarted -= 1
        self._end_if_nothing_is_left()

    # ---- how it comes to its end

    def _told_to_end(self, number: int) -> None:
        """Answer a signal: end all by their ladders; by force, if asked again."""
        self._end(exit_codes.of_signal(number))
        self._asked += 1
        if self._asked > 1:
            self._code = exit_codes.KILLED
            self._hurried.set()
            self._kill_all()

    def _kill_all(self) -> None:
        """Kill whatever is alive; with the manager closing, nothing is restarted."""
        for one in self._manager.processes.values() if self._manager else ():
            is_there = one.status == "running" or one.state is State.STOPPING
            if is_there and one.pid is not None:
                process_groups.send_signal(one.pid, signal.SIGKILL)

    def _end(self, code: int) -> None:
        """End the run; the first to know why says the exit code."""
        if self._code is None:
            self._code = code
        self._over.set()

    def _end_if_nothing_is_left(self) -> None:
        if self._manager is None or self._unstarted:
            return
        if all(one.is_settled for one in self._manager.processes.values()):
            self._over.set()

    def _lost(self, name: str) -> None:
        """Note that a process cannot be kept alive."""
        if self._code is None and self._manager is not None:
            status = self._manager.processes[name].get_status()
            self._code = exit_codes.of_loss(status)

    # ---- what is printed

    def _on_event(self, event: events.Event) -> None:
        match event:
            case events.ProcessStarted():
                self._print_on(event.process)
            case events.Degraded() | events.ShutdownStarted():
                self._lost(event.process)
            case events.StopStep() if self._hurried.is_set():
                self._kill_all()
            case events.ProcessGivenUp():
                # Its owner lets go of it in this very turn of the loop.
                asyncio.get_running_loop().call_soon(self._end_if_nothing_is_left)
            case _:
                pass
        self._tell(event)

    def _tell(self, event: events.Event) -> None:
        """Say what the user wants to know without asking."""
        if isinstance(event, BAD) or _is_a_death(event):
            self._has_failed = True
            self._say_of(event, Notice(event.at, str(event), bad=True))
        elif isinstance(event, GOOD) or self._is_told_in_full(event):
            self._say_of(event, Notice(event.at, _in_words(event)))

    def _is_told_in_full(self, event: events.Event) -> bool:
        again = isinstance(event, events.ProcessStarted) and event.incarnation > 1
        return (
            isinstance(event, FULL) and not self._spec.is_single_command and not again
        )

    def _say_of(self, event: events.Event, notice: Notice) -> None:
        """Say something of a process: of a death only after its last words."""
        held = self._held.get(event.process)
        if held is not None:
            held.append(notice)
        elif isinstance(event, events.ProcessExited):
            self._held[event.process] = [notice]
            _ = self._print_beside(self._say_in_turn(event.process))
        else:
            self._say(notice)

    async def _say_in_turn(self, name: str) -> None:
        """Say what is held back, when all that was said before is captured."""
        assert self._manager is not None
        try:
            await self._manager.processes[name].wait()
            for _ in range(TURNS):
                await asyncio.sleep(0)
        finally:
            for notice in self._held.pop(name):
                self._say(notice)

    def _say(self, notice: Notice) -> None:
        if self._setting.quiet:
            return
        if self._spec.is_single_command:
            self._out.put_nowait(STDERR, f"realtalk-async: {notice.text}\n".encode())
        else:
            line = self._look.notice(notice.at, notice.text, bad=notice.bad)
            self._out.put_nowait(STDOUT, line)

    def _print_on(self, name: str) -> None:
        """See to it that what this process says from here on is printed."""
        assert self._manager is not None
        process = self._manager.processes[name]
        if self._spec.is_single_command:
            self._print_by(name, self._pass_on(process))
        elif name not in self._printing or self._printing[name].done():
            self._print_by(name, self._print_lines(process))

    def _print_by(self, name: str, work: Coroutine[None, None, None]) -> None:
        self._printing[name] = self._print_beside(work)

    def _print_beside(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._printed.add(task)
        task.add_done_callback(self._printed_out)
        return task

    def _printed_out(self, task: asyncio.Task[None]) -> None:
        self._printed.discard(task)
        if not task.cancelled():
            task.result()
        self._end_if_nothing_is_left()

    async def _print_lines(self, process: ManagedProcess) -> None:
        """Print its lines, with its prefix, until it is dead for good."""
        async for line in process.follow():
            await self._out.put(STDOUT, self._look.line(process.name, line))

    async def _pass_on(self, process: ManagedProcess) -> None:
        """Pass on the bytes of its current incarnation, as they come, to the end."""
        await asyncio.gather(
            self._copy(process.follow_bytes("stdout"), STDOUT),
            self._copy(process.follow_bytes("stderr"), STDERR),
        )

    async def _copy(self, source: AsyncIterator[bytes], descriptor: int) -> None:
        async for data in source:
            await self._out.put(descriptor, data)

    async def _print_rest(self) -> None:
        """Wait until all that was said is printed."""
        if self._printed:
            await asyncio.wait(list(self._printed))
        if self._last_word:
            self._say(Notice(now_local(), self._last_word, bad=True))
        await self._out.aclose()

    async def _unless_hurried(self, work: Coroutine[None, None, None]) -> None:
        """Do it, or give it up when the user cannot wait."""
        task = asyncio.create_task(work)
        hurry = asyncio.create_task(self._hurried.wait())
        await asyncio.wait([task, hurry], return_when=asyncio.FIRST_COMPLETED)
        for one in (task, hurry, *self._printed):
            one.cancel()
        if task.done() and not task.cancelled():
            task.result()


def _is_a_death(event: events.Event) -> bool:
    """Return whether something died that was not to."""
    if not isinstance(event, events.ProcessExited):
        return False
    return event.cause not in {Cause.FINISHED, Cause.STOPPED, Cause.ESCALATED}


def _in_words(event: events.Event) -> str:
    """Return what a good event says, as short as it can be."""
    match event:
        case events.ProcessExited(cause=Cause.FINISHED):
            return f"{event.process} finished: {event.summary}"
        case events.ProcessExited():
            return f"{event.process} ended as asked: {event.summary}"
        case events.RestartScheduled():
            return f"{event.process} is restarted in {event.delay:.2f} s"
        case _:
            return str(event)


@contextlib.asynccontextmanager
async def _told_to_systemd(manager: ProcessManager) -> AsyncGenerator[None]:
    """Tell systemd how we are, if we are a service of its."""
    if "NOTIFY_SOCKET" not in os.environ:
        yield
        return
    from realtalk_async.ops import notify_systemd  # here, for all who are none

    async with notify_systemd(manager):
        yield
