"""Run an `AppSpec`: start its processes, wait, stop them, and return the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.cli import exit_codes
from realtalk_async.cli.run_output import RunOutput, is_failure
from realtalk_async.cli.run_summary import RunSummary
from realtalk_async.exceptions import GaveUp, RealtalkError
from realtalk_async.logs import Logger
from realtalk_async.supervision import ProcessManager, State
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.supervision.kernel.orphan_reaper import reap_orphans
from realtalk_async.supervision.probing.runner import note_pause

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine
    from pathlib import Path

    from realtalk_async.cli.config.spec import AppSpec, ProcessSpec
    from realtalk_async.cli.line_format import Stamp

CONTROL_DELAY = 0.05
"""Seconds before a single command gets a control socket: a short one needs none."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""They stop all processes, unless they were ignored at the start, as under nohup."""


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


def run(spec: AppSpec, options: RunOptions) -> int:
    """Run all processes of a spec until they have ended; return the exit code."""

    # A Python program keeps what it prints to a pipe for itself until it has 8 KiB.
    os.environ.setdefault("PYTHONUNBUFFERED", "1")

    async def run() -> int:
        return await Runner(spec, options).run()

    return asyncio.run(run())


class Runner:
    """
    One run of a spec; create it in the event loop of the run.

    Args:
        spec: The processes.
        options: How to run them.
    """

    def __init__(self, spec: AppSpec, options: RunOptions) -> None:
        self._spec = spec
        self._options = options
        self._manager: ProcessManager | None = None
        self._output = RunOutput(
            spec,
            colour=options.colour,
            stamp=options.stamp,
            quiet=options.quiet,
            on_broken=lambda: self._end(exit_codes.OUTPUT_CLOSED),
            on_printed=self._end_if_all_are_settled,
        )
        self._summary = RunSummary(spec)
        self._ended = asyncio.Event()
        self._killed = asyncio.Event()
        self._signals = 0
        self._code: int | None = None
        self._has_failed = False
        self._log_to_report: Path | None = None
        self._unstarted = len(spec.processes)

    async def run(self) -> int:
        """Run all processes, and return the exit code."""
        loop = asyncio.get_running_loop()
        handled = [one for one in SIGNALS if signal.getsignal(one) != signal.SIG_IGN]
        for number in handled:
            loop.add_signal_handler(number, self._on_signal, number)
        if signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL:
            loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        try:
            await self._supervise()
            await self._print_rest_unless_killed()
        finally:
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
            async with self._metrics(manager):
                if spec.is_single_command:
                    until = self._wait_with_late_control(manager)
                    await self._run_processes(manager, until)
                else:
                    async with self._control(manager):
                        await self._run_processes(manager, self._ended.wait())

    async def _run_processes(
        self, manager: ProcessManager, until: Coroutine[None, None, object]
    ) -> None:
        """Start all processes, and return when *until* does."""
        starts = [
            asyncio.create_task(self._start(manager, process))
            for process in self._spec.processes
        ]
        try:
            await asyncio.sleep(0)  # then the manager knows all critical processes
            async with _systemd_notifications(manager):
                await until
        finally:
            for start in starts:
                start.cancel()
            await asyncio.wait(starts)

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
                    await stack.enter_async_context(serve_control(manager))
                except ControlUnavailable as exc:
                    self._output.print_notice(f"no control socket: {exc}", bad=True)
            yield

    async def _start(self, manager: ProcessManager, process: ProcessSpec) -> None:
        with contextlib.suppress(RealtalkError):  # events report it
            await manager.start(
                process.name,
                process.command,
                restart=process.restart,
                critical=process.critical,
                depends_on=process.depends_on,
                binds_to=process.binds_to,
                devices=process.devices,
                device_patience=process.device_patience,
                oneshot=process.oneshot,
                probes=process.probes,
                ladder=process.ladder,
                max_size=process.max_size,
                containment=process.containment or self._spec.containment,
            )
        self._unstarted -= 1
        self._end_if_all_are_settled()

    # ---- the end

    def _on_signal(self, number: int) -> None:
        """Stop all processes by their ladders; kill them at the second signal."""
        self._end(exit_codes.of_signal(number))
        self._signals += 1
        if self._signals > 1:
            self._code = exit_codes.KILLED
            self._killed.set()
            self._kill_all()

    def _suspend(self) -> None:
        """Stop all processes and this one, as a shell's job; continue them with it."""
        began = time.monotonic()
        self._send_to_all(signal.SIGSTOP)
        loop = asyncio.get_running_loop()
        loop.remove_signal_handler(signal.SIGTSTP)  # the default action stops
        # To this thread: it stops before the next statement.
        signal.pthread_kill(threading.get_ident(), signal.SIGTSTP)
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        note_pause(time.monotonic() - began)
        self._send_to_all(signal.SIGCONT)

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
        if self._manager is None or self._unstarted:
            return
        if all(one.is_settled for one in self._manager.processes.values()):
            self._ended.set()

    def _note_loss(self, name: str) -> None:
        """Take the exit code from a process that was given up."""
        if self._code is None and self._manager is not None:
            status = self._manager.processes[name].get_status()
            self._code = exit_codes.of_loss(status)

    def _on_event(self, event: events.Event) -> None:
        assert self._manager is not None
        process = self._manager.processes.get(event.process)
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
