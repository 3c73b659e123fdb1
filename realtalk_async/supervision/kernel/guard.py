"""
The guard: a process that ends the app's children if the app is killed with SIGKILL.

`Guard` is the app's side; `guard_process.py` is the program. Each child carries a tag in
its environment, and the guard knows the tag before the first child exists: at no moment
can a killed app leave a child behind. The guard is no child of the app: who kills all
children of the app, and then the app, does not reach it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision.kernel import (
    guard_process,
    orphan_reaper,
    process_groups,
)
from realtalk_async.supervision.kernel.child_process import ChildProcess
from realtalk_async.supervision.kernel.fair_poller import FairPoller, get_pollers
from realtalk_async.supervision.kernel.guard_process import TAG_VARIABLE
from realtalk_async.supervision.kernel.spawn import NewProcess, spawn_process
from realtalk_async.supervision.kernel.spawning.forked import fork
from realtalk_async.supervision.kernel.spawning.interpreter import script_words

if TYPE_CHECKING:
    from collections.abc import Callable

LAUNCH = """exec 3<&0; "$@" <&3 3<&- & echo "pid $!" >&3"""
"""
A shell that ends in a millisecond and leaves the guard to PID 1: an interpreter would take
ten. Its pid comes first.
"""

LAUNCH_TIMEOUT = 0.1
"""Seconds for which the start waits for the end of this shell."""

START_TIMEOUT = 10.0
"""Seconds in which a guard must be ready; usually it takes 0.02 s."""

END_TIMEOUT = 2.0
"""Seconds for which the end of the manager waits for the end of its guard."""

RETRY_DELAYS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0)
"""Seconds before each further replacement of a guard; the last one again and again."""

STABLE = 10.0
"""Seconds after which a guard that dies is replaced without delay again."""

MAX_UNSENT = 1 << 16
"""Bytes of reports that wait for a guard that does not read, such as a stopped one."""


class Guard:
    """
    A process that ends the children of this app when the app cannot.

    A guard that dies is replaced, for as long as that takes. Nothing that happens to it
    raises an exception into the supervision of a child.

    Args:
        on_lost: Called in the loop when the guard has died, with the reason and whether
            another one has taken its place: first False if none could at once.
    """

    def __init__(self, on_lost: Callable[[str, bool], None]) -> None:
        self.tag = f"{TAG_VARIABLE}={os.urandom(16).hex()}"
        """``NAME=value`` as in a child's environment; no other app has the same."""
        self._on_lost = on_lost
        self._reported: set[int] = set()
        self._cgroups: set[str] = set()
        self._started_in: tuple[asyncio.AbstractEventLoop, FairPoller] | None = None
        self._launcher: ChildProcess | None = None
        self._connection: socket.socket | None = None
        self._pid: int | None = None
        self._handle = -1
        self._received = b""
        self._unsent = bytearray()
        self._waits_to_write = False
        self._is_behind = False
        self._gone: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0
        self._losses = 0
        self._loss: str | None = None
        self._is_said = False
        self._is_closing = False

    @property
    def pid(self) -> int | None:
        """The pid of the guard; None while there is none."""
        return self._pid

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        assert self._started_in is not None
        return self._started_in[0]

    @property
    def _poller(self) -> FairPoller:
        assert self._started_in is not None
        return self._started_in[1]

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which the guard recognises a child."""
        name, _, value = self.tag.partition("=")
        return {name: value}

    def start(self) -> None:
        """
        Start the guard in some milliseconds; it is no child of this app then.

        Children may be started before it is ready: it reads all reports then.

        Raises:
            OSError: If it cannot be started.
        """
        self._started_in = asyncio.get_running_loop(), get_pollers().exits
        self._launch()
        assert self._launcher is not None
        deadline = time.monotonic() + LAUNCH_TIMEOUT
        while self._launcher.exit_status is None and time.monotonic() < deadline:
            time.sleep(0.0005)
            self._launcher.check_exit()
        self._on_readable()  # its pid

    def add(self, pid: int) -> None:
        """
        Report a session leader, or a process that does not carry the tag.

        The guard itself reads the start time of the process, so that it never mistakes
        another process with the same pid for it. The app does not read it: ``/proc``
        would make the app wait until the fork has become a program.
        """
        self._reported.add(pid)
        self._send(f"+{pid}\n")

    def add_cgroup(self, path: str) -> None:
        """
        Report a cgroup that is about to be made; the guard ends and removes it.

        It is sent at once: no moment is left at which a killed app leaves it behind.
        """
        self._cgroups.add(path)
        self._send(f"cgroup {path}\n")
        self.flush()

    def discard(self, pid: int) -> None:
        """Report that a process and its whole group are gone."""
        if pid in self._reported:
            self._reported.remove(pid)
            self._send(f"-{pid}\n")

    # ---- reports

    def _send(self, line: str) -> None:
        if self._connection is None:
            return  # the next guard gets all reports
        if len(self._unsent) > MAX_UNSENT:
            self._is_behind = True
            return
        if not self._unsent:
            # One write for all reports of this turn of the loop: each write wakes the
            # guard. Until then the tag of the children is enough.
            self._loop.call_soon(self.flush)
        self._unsent += os.fsencode(line)

    def flush(self) -> None:
        """Send what the guard can take now, and the rest as soon as it reads."""
        connection = self._connection
        if connection is None:
            return
        try:
            while self._unsent:
                # As SIGPIPE, a guard that has died would end an app that does not ignore
                # that signal.
                sent = connection.send(self._unsent, socket.MSG_NOSIGNAL)
                del self._unsent[:sent]
                if not self._unsent and self._is_behind:
                    self._is_behind = False
                    self._unsent += b"reset\n" + self._all_reports()
            if self._waits_to_write:
                self._waits_to_write = False
                self._loop.remove_writer(connection)
        except BlockingIOError:
            try:
                self._loop.add_writer(connection, self.flush)
                self._waits_to_write = True
            except OSError as exc:
                self._loop.call_soon(self._lose, connection, str(exc))
        except (BrokenPipeError, ConnectionResetError):  # it has died
            self._loop.call_soon(self._lose, connection, "")
        except OSError as exc:
            self._loop.call_soon(self._lose, connection, str(exc))

    def _all_reports(self) -> bytes:
        cgroups = "".join(f"cgroup {path}\n" for path in self._cgroups)
        leaders = "".join(f"+{pid}\n" for pid in self._reported)
        return os.fsencode(cgroups + leaders)

    # ---- one guard

    def _launch(self) -> None:
        """
        Start a guard process; its launcher ends as soon as the guard is detached.

        Raises:
            OSError: If it cannot be started.
        """
        ours, theirs = socket.socketpair()
        try:
            ours.settimeout(0)
            new = self._spawn(theirs)
            on_error = partial(self._on_error, ours)
            self._launcher = ChildProcess(new, _do_nothing, on_error)
            self._poller.add(ours.fileno(), self._on_readable, on_error)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._connection, self._received = ours, b""
        self._unsent = bytearray(self._all_reports())
        self._is_behind = False
        began = self._since = time.monotonic()
        self._set_timer(START_TIMEOUT, self._check_ready, ours, began)
        self.flush()

    def _spawn(self, connection: socket.socket) -> NewProcess:
        value = self.tag.partition("=")[2]
        arguments = [value, str(os.getpid()), _start_of(os.getpid())]
        words = script_words(guard_process.__name__)
        if words is None:  # a frozen app
            arguments.append("detach")
            return fork(guard_process.main, arguments, connection.fileno())
        guard = (*words, *arguments)
        has_shell = os.access("/bin/sh", os.X_OK)  # not in every container
        return spawn_process(
            ["/bin/sh", "-c", LAUNCH, "sh", *guard]
            if has_shell
            else [*guard, "detach"],
            env=_bare_environment(),
            cwd="/",
            stdin=connection.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _on_readable(self) -> None:
        """Read ``pid N`` and ``ready``, or the end of the guard."""
        connection = self._connection
        if connection is None:
            return
        try:
            data = connection.recv(64)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            if line.startswith(b"pid "):
                self._note_pid(int(line[4:]))
            elif line == b"ready":
                self._note_ready()
        if not data:
            self._lose(connection, "")

    def _on_error(self, connection: socket.socket, error: BaseException) -> None:
        """Replace a guard that this package can no longer handle."""
        self._lose(connection, f"internal error: {error!r}")

    def _note_pid(self, pid: int) -> None:
        self._pid = pid
        if SYSTEM.adopts_orphans():
            orphan_reaper.guards.add(pid)
        with contextlib.suppress(OSError):
            self._handle = SYSTEM.open_process(pid)

    def _note_ready(self) -> None:
        self._cancel_timer()
        self._since = time.monotonic()
        if self._loss is not None:
            reason, self._loss, self._is_said = self._loss, None, False
            self._on_lost(f"{reason}; replaced by pid {self._pid}", True)  # noqa: FBT003

    def _check_ready(self, connection: socket.socket, began: float) -> None:
        # A loop of virtual time calls this at once.
        if time.monotonic() - began >= START_TIMEOUT:
            self._lose(connection, "it was not ready in time")

    # ---- its end and its replacement

    def _lose(self, connection: socket.socket, why: str) -> None:
        """Handle the end of the guard at the other side of *connection*."""
        if connection is not self._connection:
            return  # it was replaced already
        pid = self._pid
        self._dismiss()
        self._disconnect()
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        if self._is_closing:
            return
        how = f"pid {pid} ended" if pid else "it ended before it was ready"
        how = f"{how}: {why}" if why else how
        if time.monotonic() - self._since >= STABLE:
            self._losses = 0
        self._loss = self._loss or how
        delay = RETRY_DELAYS[min(self._losses, len(RETRY_DELAYS) - 1)]
        self._losses += 1
        if delay:
            self._say_unguarded(how)
            self._set_timer(delay, self._replace)
        else:
            self._replace()

    def _replace(self) -> None:
        try:
            self._launch()
        except Exception as exc:  # noqa: BLE001 - there must be a next attempt
            self._say_unguarded(f"{self._loss}; it cannot be replaced now: {exc}")
            delay = RETRY_DELAYS[min(self._losses, len(RETRY_DELAYS) - 1)]
            self._losses += 1
            self._set_timer(delay or RETRY_DELAYS[1], self._replace)

    def _say_unguarded(self, reason: str) -> None:
        """Report once that there is no guard; the replacement is reported again."""
        if not self._is_said:
            self._is_said = True
            self._on_lost(reason, False)  # noqa: FBT003

    def _disconnect(self) -> None:
        """Close the connection to a guard that has ended or was dismissed."""
        self._cancel_timer()
        if self._connection is not None:
            self._poller.remove(self._connection.fileno())
            if self._waits_to_write:
                self._waits_to_write = False
                self._loop.remove_writer(self._connection)
            self._connection.close()
            self._connection = None
        if self._handle >= 0:
            SYSTEM.close_process(self._handle)
            self._handle = -1
        self._pid = None

    def _dismiss(self) -> None:
        """Have a guard that may still run end without ending the children."""
        if self._connection is None:
            return
        try:
            if not self._unsent:
                self._connection.send(b"dismiss\n", socket.MSG_NOSIGNAL)
                return
        except OSError:
            pass  # it has died, or does not read
        self._kill()

    def _kill(self) -> None:
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                SYSTEM.signal_process(self._handle, signal.SIGKILL)
        elif self._pid is not None and self._connection is not None:
            # Its end of the connection is open, so it lives, and the pid is its own.
            with contextlib.suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
        if self._launcher is not None:
            self._launcher.send_signal(signal.SIGKILL)

    def _set_timer(
        self, delay: float, callback: Callable[..., object], *arguments: object
    ) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(delay, callback, *arguments)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---- the end of the manager

    async def aclose(self) -> None:
        """End the guard and wait for its end. Idempotent."""
        self._is_closing = True
        self._cancel_timer()
        self._dismiss()
        self._kill()  # it may be stopped, or not yet ready to read
        if self._connection is not None:
            self._gone = self._loop.create_future()
            await asyncio.wait([self._gone], timeout=END_TIMEOUT)
            self._disconnect()
        if self._launcher is not None:
            await self._launcher.exited

    def kill_now(self) -> None:
        """Kill all children and dismiss the guard, without waiting for the loop."""
        self._is_closing = True
        process_groups.kill_tagged(self.tag, 0.5)
        self._dismiss()
        self._kill()
        self._disconnect()
        if self._launcher is not None:
            self._launcher.kill_now()


@lru_cache(1)
def _start_of(pid: int) -> str:
    """Return the start time of this process, and its source; "" if there is none."""
    found = SYSTEM.processes.read(pid)
    return f"{SYSTEM.processes.name}:{found.start}" if found else ""


def _do_nothing(_launcher: ChildProcess) -> None:
    pass


def _bare_environment() -> dict[str, str]:
    """
    Return the variables that an interpreter needs to start, and no others.

    If this app is itself a child of a supervised app, it carries that app's tag. Its
    guard must not: the guard has to outlive both.
    """
    wanted = {"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"}
    return {name: value for name, value in os.environ.items() if name in wanted}
