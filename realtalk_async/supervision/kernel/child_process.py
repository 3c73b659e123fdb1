"""
One spawned program: its pid, signals and exit.

`ChildProcess` reaps the program itself. That yields its resource use, needs no thread per
child (asyncio's default on Python 3.11), and reports the exit at once even if a grandchild
holds the pipes open.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import time
from typing import TYPE_CHECKING

from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision.kernel import orphan_reaper
from realtalk_async.supervision.kernel.exit_status import Usage
from realtalk_async.supervision.kernel.exit_waiter import exit_waiter
from realtalk_async.supervision.kernel.fair_poller import OnError, get_pollers

if TYPE_CHECKING:
    import resource
    from collections.abc import Callable

    from realtalk_async.supervision.kernel.exit_status import ExitStatus
    from realtalk_async.supervision.kernel.spawn import NewProcess


class ChildProcess:
    """
    A running program, leader of its own session and process group.

    Args:
        new: The program; no other code may reap it.
        on_exit: Called in the loop, once, as soon as the program has exited.
        on_error: Called with an error of this package that came out of *on_exit*.

    Raises:
        OSError: If the program cannot be watched; it is killed then.
    """

    __slots__ = (
        "_exited", "_handle", "_is_told_by_thread", "_on_error", "_on_exit", "_poller",
        "ended", "exit_status", "loop", "noticed", "owns_group", "pid", "started", "usage",
    )  # fmt: skip

    def __init__(
        self,
        new: NewProcess,
        on_exit: Callable[[ChildProcess], None],
        on_error: OnError,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._on_exit = on_exit
        self._on_error = on_error
        self.exit_status: ExitStatus | None = None
        """None while the program runs."""
        self.usage: Usage | None = None
        self.started = new.at
        self.noticed: float | None = None
        """When the kernel first reported the exit, in monotonic seconds."""
        self.ended: float | None = None
        """When the exit status was read, in monotonic seconds."""
        self._exited: asyncio.Future[None] | None = None
        self.pid = new.pid
        orphan_reaper.children.add(new.pid)
        self.owns_group = new.owns_group
        """Whether the pid is also the number of a process group."""
        self._handle = -1
        self._is_told_by_thread = False
        """Whether only the notice of the thread lets the status be read."""
        try:
            self._poller = get_pollers().exits
            self._watch()
        except BaseException:
            self.kill_now()
            raise

    @property
    def exited(self) -> asyncio.Future[None]:
        """Done as soon as the program has exited and is reaped."""
        if self._exited is None:
            self._exited = self.loop.create_future()
            self._set_exited()
        return self._exited

    def _set_exited(self) -> None:
        if self.exit_status is not None and self._exited and not self._exited.done():
            self._exited.set_result(None)

    @property
    def handle(self) -> int:
        """The descriptor that reports the exit; -1 if there is none, or it is closed."""
        return self._handle

    def _watch(self) -> None:
        try:
            # The child is not reaped yet, so its pid cannot belong to another process.
            self._handle = SYSTEM.open_process(self.pid)
        except ProcessLookupError:  # macOS gives none for a zombie
            self.loop.call_soon(self._reap_soon)
        except OSError:
            # No such descriptor on this system, or none left: a thread waits instead.
            self._is_told_by_thread = True
            try:
                exit_waiter.add(self.pid, self._call_in_loop)
            except RuntimeError as exc:
                raise OSError(errno.EAGAIN, str(exc)) from exc
        else:
            self._poller.add(self._handle, self._on_exit_notice, self._on_error)

    def _reap_soon(self) -> None:
        if self._on_exit_notice():
            self.loop.call_later(0.001, self._reap_soon)

    def _call_in_loop(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self._on_exit_notice)
        except RuntimeError:  # the loop is closed
            exit_waiter.discard(self.pid)

    def _on_exit_notice(self) -> bool:
        """Reap the program; return whether it has to be tried again, as on macOS."""
        self.noticed = self.noticed or time.monotonic()
        self._is_told_by_thread = False
        self.check_exit()
        return self.exit_status is None

    def check_exit(self) -> None:
        """
        Check whether the program has exited; never raises.

        The kernel closes the pipes just before it reports the exit, so a check at the end
        of a pipe often finds the exit one turn of the loop earlier.
        """
        try:
            if self.exit_status is None and not self._is_told_by_thread:
                self._reap()
        except Exception as error:  # noqa: BLE001 - it must not end the caller's work
            self._on_error(error)

    def _reap(self) -> None:
        try:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
        except ChildProcessError:
            self._finish("unknown", None)
        else:
            if pid:
                self._finish(os.waitstatus_to_exitcode(status), used)

    def _finish(self, status: ExitStatus, used: resource.struct_rusage | None) -> None:
        orphan_reaper.children.discard(self.pid)
        self.ended = time.monotonic()
        self.noticed = self.noticed or self.ended
        self.exit_status = status
        if used is not None:
            memory = used.ru_maxrss * SYSTEM.bytes_of_maxrss
            self.usage = Usage(used.ru_utime, used.ru_stime, memory)
        try:
            self._set_exited()
            self._on_exit(self)
        finally:
            handle, self._handle = self._handle, -1
            if handle >= 0:
                try:
                    self._poller.remove(handle)
                finally:
                    SYSTEM.close_process(handle)
            else:
                exit_waiter.discard(self.pid)

    def send_signal(self, number: int) -> None:
        """
        Send a signal to the program alone; do nothing once it has exited.

        The signal goes through the handle if there is one. Without it the pid is safe
        too: no other process gets it before the program is reaped.
        """
        if self.exit_status is not None:
            return
        try:
            if self._handle >= 0:
                SYSTEM.signal_process(self._handle, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass  # exited, and about to be reaped

    def kill_now(self) -> None:
        """
        Kill the whole group and reap the program without the loop.

        Blocks for 0.5 s at most: a program that hangs in the kernel is left to the system.
        """
        if self.exit_status is not None:
            return
        if self.owns_group:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self.send_signal(signal.SIGKILL)
        self._is_told_by_thread = False
        deadline = time.monotonic() + 0.5
        while self.exit_status is None and time.monotonic() < deadline:
            self.check_exit()
            time.sleep(0.001)


class ChildTransport(asyncio.SubprocessTransport):
    """The transport through which asyncio's `Process` controls a `ChildProcess`."""

    def __init__(self, child: ChildProcess) -> None:
        super().__init__()
        self._child = child
        self._pipes: dict[int, asyncio.BaseTransport] = {}

    def attach(self, descriptor: int, pipe: asyncio.BaseTransport) -> None:
        """Set the transport of stdin (0), stdout (1) or stderr (2)."""
        self._pipes[descriptor] = pipe

    def get_pid(self) -> int:
        """Return the pid."""
        return self._child.pid

    def get_returncode(self) -> int | None:
        """Return the exit code, 255 if other code reaped it, None while it runs."""
        status = self._child.exit_status
        return 255 if status == "unknown" else status

    def get_pipe_transport(self, fd: int) -> asyncio.BaseTransport | None:
        """Return the transport of stdin (0), stdout (1) or stderr (2), if any."""
        return self._pipes.get(fd)

    def send_signal(self, signal: int) -> None:
        """Send a signal to the program alone."""
        if self._child.exit_status is not None:
            raise ProcessLookupError  # as asyncio's own transport does
        self._child.send_signal(signal)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def is_closing(self) -> bool:
        """Return whether the program has exited."""
        return self._child.exit_status is not None

    def close(self) -> None:
        """Kill the program if it still runs."""
        if self._child.exit_status is None:
            self._child.send_signal(signal.SIGKILL)

    async def _wait(self) -> int:
        # asyncio's Process.wait() calls this.
        await asyncio.shield(self._child.exited)
        code = self.get_returncode()
        assert code is not None
        return code


def make_asyncio_process(child: ChildProcess) -> asyncio.subprocess.Process:
    """Return asyncio's `Process` for *child*, without streams."""
    # The child's own loop: the caller may have none, after the loop has ended.
    protocol = asyncio.subprocess.SubprocessStreamProtocol(1 << 16, child.loop)
    return asyncio.subprocess.Process(ChildTransport(child), protocol, child.loop)


def transport_of(process: asyncio.subprocess.Process) -> ChildTransport:
    """Return the transport of a process that `make_asyncio_process` has made."""
    transport: object = getattr(process, "_transport")  # noqa: B009 - asyncio hides it
    assert isinstance(transport, ChildTransport)
    return transport
