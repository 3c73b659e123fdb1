"""
One spawned program of ours: its pid, its signals, its exit. The edge to the kernel.

The spawn is a single synchronous step, so no cancellation can fall between the fork and
the moment somebody owns the child. We reap it ourselves: that brings its resource use,
needs no thread a child (asyncio's default on 3.11), and is felt at once even if a
grandchild holds its pipes open.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from realtalk_async.supervision.kernel.exit_status import Usage
from realtalk_async.supervision.kernel.fair_poller import watch

if TYPE_CHECKING:
    import resource
    from collections.abc import Callable

    from realtalk_async.supervision.kernel.exit_status import ExitStatus
    from realtalk_async.supervision.kernel.spawn import Launched

THREAD_NAME_PREFIX = "realtalk-async waits for pid "
"""How the thread is called that waits for a child where there is no pidfd."""


class Child:
    """
    A running program, leader of its own session and process group.

    Args:
        launched: The program, not reaped by anybody.
        on_exit: Called in the loop, once, as soon as the program has exited.

    Raises:
        OSError: If it cannot be watched; it is killed then.
    """

    def __init__(self, launched: Launched, on_exit: Callable[[Child], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self._on_exit = on_exit
        self.exit_status: ExitStatus | None = None
        """None while it runs."""
        self.usage: Usage | None = None
        self.started = launched.at
        self.noticed: float | None = None
        """When the kernel first gave a sign of its end, in monotonic seconds."""
        self.ended: float | None = None
        self._exited: asyncio.Future[None] | None = None
        # We reap it ourselves. Popen must not look for the child when it is forgotten: the
        # pid may be somebody else's by then.
        launched.popen.returncode = 0
        self.pid = launched.popen.pid
        self.owns_group = launched.owns_group
        """Whether its pid is also the number of a process group of its own."""
        self._watch = watch()
        self._pidfd = -1
        try:
            self._begin_watching()
        except BaseException:
            self.kill_now()
            raise

    @property
    def exited(self) -> asyncio.Future[None]:
        """Done as soon as the program has exited and is reaped."""
        if self._exited is None:
            self._exited = self.loop.create_future()
            self._tell_of_exit()
        return self._exited

    def _tell_of_exit(self) -> None:
        if self.exit_status is not None and self._exited and not self._exited.done():
            self._exited.set_result(None)

    @property
    def pidfd(self) -> int:
        """The descriptor that tells of its end; -1 if there is none, or it has ended."""
        return self._pidfd

    def _begin_watching(self) -> None:
        try:
            # It is our child and not reaped: the pid cannot mean anything else.
            self._pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            # No pidfd on this system (or no descriptor left): one thread waits instead.
            name = f"{THREAD_NAME_PREFIX}{self.pid}"
            threading.Thread(
                target=self._wait_in_thread, name=name, daemon=True
            ).start()
        else:
            self._watch.add(self._pidfd, self._told)

    def _wait_in_thread(self) -> None:
        flags = os.WEXITED | os.WNOWAIT
        with contextlib.suppress(ChildProcessError):  # somebody else reaped it
            os.waitid(os.P_PID, self.pid, flags)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left
            self.loop.call_soon_threadsafe(self._collect)

    def _told(self) -> None:
        """Collect the exit status, and tell."""
        self.noticed = time.monotonic()
        self._collect()

    def look(self) -> None:
        """
        Look whether it has exited: one of its pipes has ended.

        The kernel closes them just before it tells of the exit, so that is often seen a
        turn of the loop earlier.
        """
        if self.exit_status is None:
            self._collect()

    def _collect(self) -> None:
        try:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
        except ChildProcessError:
            self._conclude("unknown", None)
        else:
            if pid:
                self._conclude(os.waitstatus_to_exitcode(status), used)

    def _conclude(
        self, status: ExitStatus, used: resource.struct_rusage | None
    ) -> None:
        self.ended = time.monotonic()
        self.noticed = self.noticed or self.ended
        self.exit_status = status
        if used is not None:
            # ru_maxrss counts KiB on Linux, see getrusage(2).
            self.usage = Usage(used.ru_utime, used.ru_stime, used.ru_maxrss * 1024)
        self._tell_of_exit()
        try:
            self._on_exit(self)
        finally:
            if self._pidfd >= 0:
                self._watch.remove(self._pidfd)
                os.close(self._pidfd)
                self._pidfd = -1

    def send_signal(self, number: int) -> None:
        """
        Send a signal to the program alone; a no-op once it has exited.

        It goes through the pidfd where there is one. Without one the pid is safe too:
        it is ours until we have reaped it.
        """
        if self.exit_status is not None:
            return
        try:
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass  # exited, and about to be reaped

    def kill_now(self) -> None:
        """
        Kill the whole group and reap the program: the last resort, which may block.

        It blocks for 0.5 s at most: what hangs in the kernel is left to the system.
        """
        if self.exit_status is not None:
            return
        if self.owns_group:
            _killpg(self.pid, signal.SIGKILL)
        self.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 0.5
        while self.exit_status is None and time.monotonic() < deadline:
            self._collect()
            time.sleep(0.001)


def _killpg(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


class ChildTransport(asyncio.SubprocessTransport):
    """Lets asyncio's own `Process` speak for a `Child`."""

    def __init__(self, child: Child) -> None:
        super().__init__()
        self._child = child
        self._pipes: dict[int, asyncio.BaseTransport] = {}

    def attach(self, descriptor: int, pipe: asyncio.BaseTransport) -> None:
        """Tell which transport carries stdin (0), stdout (1) or stderr (2)."""
        self._pipes[descriptor] = pipe

    def get_pid(self) -> int:
        """Return the pid."""
        return self._child.pid

    def get_returncode(self) -> int | None:
        """Return the exit code, 255 if somebody else took it, None while it runs."""
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


def process_of(child: Child) -> asyncio.subprocess.Process:
    """Return asyncio's `Process` for *child*, with no streams of its own."""
    # The loop's own, so that it can be asked for when that has ended as well.
    protocol = asyncio.subprocess.SubprocessStreamProtocol(1 << 16, child.loop)
    return asyncio.subprocess.Process(ChildTransport(child), protocol, child.loop)


def transport_of(process: asyncio.subprocess.Process) -> ChildTransport:
    """Return the transport behind *process*, which `process_of` has made."""
    transport: object = getattr(process, "_transport")  # noqa: B009 - asyncio hides it
    assert isinstance(transport, ChildTransport)
    return transport
