"""Run an `AppSpec`: start its processes, wait, stop them, and return the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.cli import exit_codes
from realtalk_async.cli.config.spec import changed_settings
from realtalk_async.cli.run_output import RunOutput, is_failure
from realtalk_async.cli.run_summary import RunSummary
from realtalk_async.cli.terminal.controlling import has_terminal
from realtalk_async.cli.terminal.job import TerminalJob, stop_this_process
from realtalk_async.cli.terminal.modes import TerminalModes
from realtalk_async.cli.terminal.status_key import print_status_at_key
from realtalk_async.concurrency.daemon_thread import call_in_thread
from realtalk_async.exceptions import GaveUp, InvalidConfiguration, RealtalkError
from realtalk_async.logs import Logger
from realtalk_async.supervision import ProcessManager, State
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.supervision.kernel.orphan_reaper import reap_orphans
from realtalk_async.supervision.kernel.spawning.terminals import own_size
from realtalk_async.supervision.probing.runner import note_pause
from realtalk_async.supervision.specs.difference import UNCHANGED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

    from realtalk_async.cli.config.spec import AppSpec
    from realtalk_async.cli.line_format import Stamp
    from realtalk_async.supervision import Difference

CONTROL_DELAY = 0.05
"""Seconds before a single command gets a control socket: a short one needs none."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""
They stop all processes, unless they were ignored at the start, as under nohup; SIGHUP has
the file read again, if there is one and the terminal is still there.
"""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of `realtalk-async run` that are not in the spec."""

    log: Path | None = None
    """The path of the log; None for a temporary log, removed if nothing fails."""
    colour: bool = False
    stamp: Stamp = "time"
    quiet: bool = False
    """Whether to print only the output of the processes."""
    control: bool = True
    """Whether to serve a control socket."""
    metrics: tuple[str, int] | None = None
    """Host and port of ``/metrics``, ``/healthz`` and ``/readyz``."""


def run(
    spec: AppSpec,
    options: RunOptions,
    load: Callable[[AppSpec], AppSpec] | None = None,
) -> int:
    """
    Run all processes of a spec until they have ended; return the exit code.

    Args:
        spec: The processes.
        options: How to run them.
        load: Reads the file of the spec again, given what it said last; None if there is
            no file. It is called in a thread.
    """

    # A Python program keeps what it prints to a pipe for itself until it has 8 KiB.
    os.environ.setdefault("PYTHONUNBUFFERED", "1")

    async def run(modes: TerminalModes) -> int:
        return await Runner(spec, options, load, modes).run()

    with TerminalModes() as modes:
        return asyncio.run(run(modes))


class CannotReload(InvalidConfiguration):
    """The file of a run cannot be read again."""


class Runner:
    """
    One run of a spec; create it in the event loop of the run.

    Args:
        spec: The processes.
        options: How to run them.
        load: Reads the file of the spec again, see `run`.
        modes: Restores the modes of the terminal.
    """

    def __init__(
        self,
        spec: AppSpec,
        options: RunOptions,
        load: Callable[[AppSpec], AppSpec] | None = None,
        modes: TerminalModes | None = None,
    ) -> None:
        self._spec = spec
        self._options = options
        self._load = load
        self._had_terminal = has_terminal()
        self._manager: ProcessManager | None = None
        self._output = RunOutput(
            spec,
            colour=options.colour,
            stamp=options.stamp,
            quiet=options.quiet,
            on_broken=self._on_broken_output,
            on_printed=self._end_if_all_are_settled,
        )
        self._summary = RunSummary(spec)
        self._modes = modes or TerminalModes()
        self._job: TerminalJob | None = None
        self._ended = asyncio.Event()
        self._killed = asyncio.Event()
        self._signals = 0
        self._code: int | None = None
        self._has_failed = False
        self._log_to_report: Path | None = None
        self._lost = ""
        """The process that the exit code is about."""
        self._starting = 0
        """The lists of processes of which some may not have started yet."""
        self._reloading = asyncio.Lock()
        self._reloads: set[asyncio.Task[dict[str, str]]] = set()

    async def run(self) -> int:
        """Run all processes, and return the exit code."""
        loop = asyncio.get_running_loop()
        handled = [one for one in SIGNALS if signal.getsignal(one) != signal.SIG_IGN]
        for number in handled:
            if number == signal.SIGHUP:
                loop.add_signal_handler(number, self._on_hangup)
            else:
                loop.add_signal_handler(number, self._on_signal, number)
        if signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL:
            loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        if self._spec.is_job:
            self._job = TerminalJob(self._modes, self._suspend, self._end)
        elif os.isatty(1):
            loop.add_signal_handler(signal.SIGWINCH, self._resize_terminals)
        try:
            await self._supervise()
            await self._print_rest_unless_killed()
        finally:
            if self._job is not None:
                self._job.close()
            self._modes.may_have_changed |= self._output.has_escapes
            for number in handled:
                loop.remove_signal_handler(number)
                if self._signals:
                    # A further Ctrl-C must not change the exit code any more.
                    signal.signal(number, signal.SIG_IGN)
        return self._code or 0

    async def _supervise(self) -> None:
        """Run the processes inside a logger and a manager; remove a temporary log."""
        async with Logger(self._options.log) as logger:
            try:
                await self._manage(logger)
            except GaveUp as exc:
                self._note_loss(exc.name)
                self._summary.note_loss(exc.name, exc.reason)
                self._has_failed = True
        if self._has_failed:
            self._log_to_report = logger.path
        elif self._options.log is None:
            # The event loop may wait for it: nothing runs any more.
            os.unlink(logger.path)

    async def _manage(self, logger: Logger) -> None:
        spec = self._spec
        async with ProcessManager(
            logger,
            check_interval=spec.check_interval,
            strategy=spec.strategy,
            max_restarts=spec.max_restarts,
            window=spec.window,
            shutdown_timeout=spec.shutdown_timeout,
            # A cgroup that cannot be made is told before anything runs.
            containment="cgroup" if spec.needs_cgroup else "group",
        ) as manager:
            self._manager = manager
            manager.run_in_background(reap_orphans(owns_all=True))
            manager.subscribe(self._on_event)
            print_status_at_key(manager, self._output.print_notice)
            async with self._metrics(manager):
                if spec.is_single_command:
                    late = partial(self._wait_with_late_control, manager)
                    await self._run_processes(manager, late)
                else:
                    async with self._control(manager):
                        await self._run_processes(manager, self._ended.wait)

    async def _run_processes(
        self, manager: ProcessManager, wait: Callable[[], Awaitable[object]]
    ) -> None:
        """Start all processes, and return when *wait* does."""
        start = asyncio.create_task(self._start_all(manager))
        try:
            # A readiness message of systemd waits for all critical processes: the manager
            # knows them after a few turns of the loop, whenever they start.
            names = {one.name for one in self._spec.processes}
            while not (start.done() or names <= manager.processes.keys()):  # noqa: ASYNC110
                await asyncio.sleep(0)
            async with _systemd_notifications(manager):
                await wait()
        finally:
            tasks = [start, *self._reloads]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _start_all(self, manager: ProcessManager) -> None:
        try:
            await self._apply(manager, self._spec)
        except RealtalkError as exc:
            self._output.print_notice(str(exc), bad=True)
            self._end(exit_codes.INVALID)

    async def _apply(self, manager: ProcessManager, spec: AppSpec) -> Difference:
        """Have the manager run the processes of a spec; the run does not end meanwhile."""
        self._starting += 1
        try:
            return await manager.apply(spec.children)
        finally:
            self._starting -= 1
            self._end_if_all_are_settled()

    async def _wait_with_late_control(self, manager: ProcessManager) -> None:
        """Wait for the end; a control socket would take time of a short command."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONTROL_DELAY):
                await self._ended.wait()
                return
        async with self._control(manager):
            await self._ended.wait()

    @contextlib.asynccontextmanager
    async def _metrics(self, manager: ProcessManager) -> AsyncGenerator[None]:
        """Serve metrics and health inside the block, if the options ask for it."""
        if self._options.metrics is None:
            yield
            return
        from realtalk_async.ops import serve_metrics

        host, port = self._options.metrics
        async with serve_metrics(manager, host=host, port=port) as endpoint:
            self._output.print_notice(f"metrics and health at {endpoint.url}")
            yield

    @contextlib.asynccontextmanager
    async def _control(self, manager: ProcessManager) -> AsyncGenerator[None]:
        """Serve a control socket inside the block, unless the options forbid it."""
        async with contextlib.AsyncExitStack() as stack:
            if self._options.control:
                from realtalk_async.control import ControlUnavailable, serve_control

                try:
                    serving = serve_control(
                        manager, on_reload=self.reload if self._load else None
                    )
                    await stack.enter_async_context(serving)
                except ControlUnavailable as exc:
                    self._output.print_notice(f"no control socket: {exc}", bad=True)
            yield

    # ---- reload

    async def reload(self) -> dict[str, str]:
        """
        Read the file again, and apply the difference.

        Returns:
            What has happened to each process, and to each changed setting of the manager.

        Raises:
            InvalidConfiguration: If there is a mistake in the file; nothing has changed.

        Cancellation: The difference is applied all the same.
        """
        return await asyncio.shield(self._begin_reload())

    def _begin_reload(self) -> asyncio.Task[dict[str, str]]:
        task = asyncio.create_task(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._finish_reload)
        return task

    def _finish_reload(self, task: asyncio.Task[dict[str, str]]) -> None:
        self._reloads.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, RealtalkError):
            for line in (*str(error).splitlines(), "reload: nothing was changed"):
                self._output.print_notice(line, bad=True)
        elif error is not None:
            raise error

    async def _reload(self) -> dict[str, str]:
        manager = self._manager
        if self._load is None or manager is None or self._ended.is_set():
            raise CannotReload("this run has no file, or it ends already")
        async with self._reloading:  # until the difference is decided
            spec = await self._read(self._load)
            difference = manager.compare(spec.children)
            settings = changed_settings(self._spec, spec)
            self._show(spec, difference, settings)
            applying = asyncio.create_task(self._apply(manager, spec))
            await asyncio.sleep(0)
        return {**(await applying).lines(), **settings}

    async def _read(self, load: Callable[[AppSpec], AppSpec]) -> AppSpec:
        """Read the file in a thread: its file system may hang."""
        try:
            return await call_in_thread(
                partial(load, self._spec), "realtalk-async file"
            )
        except ImportError as exc:  # a key or a .env that needs an extra
            raise CannotReload(str(exc)) from exc
        except OSError as exc:
            place = exc.filename or self._spec.file
            what = f"{place}: {exc.strerror or exc}"
            raise CannotReload(what) from exc

    def _show(
        self, spec: AppSpec, difference: Difference, settings: dict[str, str]
    ) -> None:
        """Tell a difference before it is applied."""
        self._spec = spec
        self._output.add_processes(one.name for one in spec.processes)
        self._summary.replace_processes(spec, difference.ending)
        if self._lost in difference.ending and not self._ended.is_set():
            self._code, self._lost = None, ""
        told = difference.lines() | settings
        lines = [f"{name}: {what}" for name, what in told.items() if what != UNCHANGED]
        for line in (*map(str, spec.notices), *(lines or ["nothing has changed"])):
            self._output.print_notice(f"reload: {line}")

    def _on_hangup(self) -> None:
        """Read the file again, unless its terminal was closed."""
        if self._load is None or self._is_terminal_gone():
            self._on_signal(signal.SIGHUP)
        else:
            _ = self._begin_reload()

    # ---- the end

    def _is_terminal_gone(self) -> bool:
        return self._had_terminal and not has_terminal()

    def _on_broken_output(self, error: OSError) -> None:
        """
        End as after a SIGHUP if the terminal is gone, else by the error.

        A write may notice the end of the terminal before its signal arrives. If that signal is
        ignored, as under `nohup`, the processes run on without output.
        """
        if not self._is_terminal_gone():
            self._end(exit_codes.of_broken_output(error))
        elif signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            self._end(exit_codes.of_signal(signal.SIGHUP))

    def _on_signal(self, number: int) -> None:
        """Stop all processes by their ladders; kill them at the second signal."""
        self._end(exit_codes.of_signal(number))
        self._signals += 1
        if self._signals > 1:
            self._code = exit_codes.KILLED
            self._killed.set()
            self._kill_all()

    def _suspend(self, stopped_by: int | None = None) -> None:
        """
        Stop all processes and this one, as a shell's job; continue them with it.

        Args:
            stopped_by: The signal that has stopped the command; None if it is this process
                that the terminal stops.
        """
        if stopped_by and self._ended.is_set():
            return  # the ladder continues it
        began, job = time.monotonic(), self._job
        number = stopped_by or signal.SIGTSTP
        self._send_to_all(signal.SIGSTOP)
        if job is not None:
            job.release()
        stop_this_process(number, whole_group=stopped_by is not None)
        pause = time.monotonic() - began
        note_pause(pause)
        if job is not None and (delay := job.resume(number, pause)):
            loop = asyncio.get_running_loop()
            loop.call_later(delay, self._send_to_all, signal.SIGCONT)
        else:
            self._send_to_all(signal.SIGCONT)

    def _resize_terminals(self) -> None:
        """Give the terminals of all processes the size of this one."""
        columns, rows = own_size()
        for one in self._manager.processes.values() if self._manager else ():
            one.resize(columns, rows)

    def _kill_all(self) -> None:
        """Kill all living processes; a manager that closes restarts none."""
        self._send_to_all(signal.SIGKILL)

    def _send_to_all(self, number: int) -> None:
        """Send a signal to the groups of all living processes."""
        for one in self._manager.processes.values() if self._manager else ():
            is_alive = one.status == "running" or one.state is State.STOPPING
            if is_alive and one.pid is not None:
                process_groups.send_signal(one.pid, number)

    def _end(self, code: int) -> None:
        """End the run; the first reason gives the exit code."""
        if self._code is None:
            self._code = code
        self._ended.set()

    def _end_if_all_are_settled(self) -> None:
        if self._manager is None or self._starting:
            return
        if all(one.is_settled for one in self._manager.processes.values()):
            self._ended.set()

    def _note_loss(self, name: str) -> None:
        """Take the exit code from a process that was given up."""
        if self._code is None and self._manager is not None:
            status = self._manager.processes[name].get_status()
            self._code, self._lost = exit_codes.of_loss(status), name

    def _on_event(self, event: events.Event) -> None:
        assert self._manager is not None
        process = self._manager.processes.get(event.process)
        if self._job is not None and process and self._job.follow(event, process):
            return
        self._summary.note(event)
        match event:
            case events.ProcessStarted() if process is not None:
                self._output.print_output(process)
            case events.Degraded() | events.ShutdownStarted():
                self._note_loss(event.process)
            case events.StopStep() if self._killed.is_set():
                self._kill_all()
            case events.ProcessGivenUp():
                # The process is settled at the end of this turn of the event loop.
                asyncio.get_running_loop().call_soon(self._end_if_all_are_settled)
            case _:
                pass
        self._has_failed = self._has_failed or is_failure(event)
        self._output.report(event, process)

    async def _print_rest_unless_killed(self) -> None:
        """Print the remaining output; give it up at the second signal."""
        printing = asyncio.create_task(self._print_rest())
        killed = asyncio.create_task(self._killed.wait())
        await asyncio.wait([printing, killed], return_when=asyncio.FIRST_COMPLETED)
        printing.cancel()
        killed.cancel()
        self._output.cancel()
        if printing.done() and not printing.cancelled():
            printing.result()

    async def _print_rest(self) -> None:
        await self._output.wait_until_printed()
        if not self._spec.is_single_command:
            for line in self._summary.lines():
                self._output.print_notice(line, bad=True)
        if self._log_to_report is not None:
            self._output.print_notice(f"the log is {self._log_to_report}", bad=True)
        await self._output.aclose()


@contextlib.asynccontextmanager
async def _systemd_notifications(manager: ProcessManager) -> AsyncGenerator[None]:
    """Notify systemd inside the block, if this is a service of type notify."""
    if "NOTIFY_SOCKET" not in os.environ:
        yield
        return
    from realtalk_async.ops import notify_systemd

    async with notify_systemd(manager):
        yield
