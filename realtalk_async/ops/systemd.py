"""
Notifications to systemd, as in sd_notify(3): READY, STATUS, WATCHDOG, STOPPING.

The protocol is text in one datagram, and systemd promises to keep it. Of the libraries,
sdnotify has had no release since 2017, and systemd-python and cysystemd need a compiler and
libsystemd: the few lines below need neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async import arguments, events
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.ops import health
from realtalk_async.supervision import State

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from realtalk_async.supervision import ProcessManager
    from realtalk_async.voice import Stream

COMPONENT = "systemd"
"""The component of this module's log entries."""

PERIOD = 1.0
"""Seconds between two updates, at most."""

MAX_NAMED = 5
"""Processes that a status line names."""


@contextlib.asynccontextmanager
async def notify_systemd(
    manager: ProcessManager, *, stream: Stream | None = None
) -> AsyncGenerator[bool]:
    """
    Notify systemd of the app's state for as long as the block runs (``Type=notify``).

    Enter the block when everything has been started. ``READY=1`` is sent when all critical
    processes (and the voice session) are ready. The event loop sends ``WATCHDOG=1`` twice
    in ``WatchdogSec``, and only while no critical process is lost: if the loop hangs,
    systemd gets no notification and restarts the app. ``STATUS=`` says in one line which
    processes run and which do not. ``STOPPING=1`` is sent when the block ends, or at once
    when a critical process is lost.

    Without ``NOTIFY_SOCKET`` in the environment this does nothing.

    Args:
        manager: The manager of the processes to report on.
        stream: The voice session, if there is one.

    Yields:
        Whether there is a notify socket.

    Raises:
        InvalidConfiguration: If ``NOTIFY_SOCKET`` or ``WATCHDOG_USEC`` is malformed, or
            an argument is invalid.

    Cancellation: ``STOPPING=1`` is sent and the socket closed.
    """
    arguments.a_manager("manager", manager)
    arguments.a_stream("stream", stream, optional=True)
    environment = NotifyEnvironment.parse(os.environ, os.getpid())
    if not environment.address:
        yield False
        return
    notifier = SystemdNotifier(manager, stream, environment)
    updating = asyncio.get_running_loop().create_task(
        notifier.update_periodically(), name="realtalk-async systemd"
    )
    unsubscribe = manager.subscribe(notifier.on_event)
    try:
        yield True
    finally:
        unsubscribe()
        updating.cancel()
        await asyncio.wait([updating])
        notifier.notify_stopping("stopping")
        notifier.close()


class SystemdNotifier:
    """
    Sends an app's state to systemd when it changes, and the watchdog's keep-alive.

    Args:
        manager: The manager of the processes to report on.
        stream: The voice session, if there is one.
        environment: The notify socket and the watchdog's timeout.
    """

    def __init__(
        self,
        manager: ProcessManager,
        stream: Stream | None,
        environment: NotifyEnvironment,
    ) -> None:
        self._manager = manager
        self._stream = stream
        self._watchdog = environment.watchdog
        self._socket = NotifySocket(environment.address)
        self._ready_sent = False
        self._stopping = False
        self._last_status = ""
        self._last_error = ""

    async def update_periodically(self) -> None:
        """Send changes and keepalives until cancelled."""
        # sd_watchdog_enabled(3) recommends half the timeout.
        period = min(PERIOD, (self._watchdog or 2 * PERIOD) / 2)
        while True:
            self.update()
            await asyncio.sleep(period)

    def update(self) -> None:
        """Send the assignments that are due now."""
        if self._stopping:
            return
        app = health.read_app_status(self._manager, self._stream)
        liveness = health.check_liveness(app)
        assignments: dict[str, str | int] = {}
        if liveness.ok and self._watchdog is not None:
            assignments["WATCHDOG"] = 1
        if not self._ready_sent and health.check_readiness(app).ok:
            assignments["READY"] = 1
        status = "; ".join(liveness.reasons) or self._describe()
        if status != self._last_status:
            assignments["STATUS"] = status
        if assignments and self._send(assignments):
            self._last_status = status
            self._ready_sent = self._ready_sent or "READY" in assignments

    def on_event(self, event: events.Event) -> None:
        """Notify of a shutdown at once: a subscriber of the manager."""
        if isinstance(event, events.ShutdownStarted):
            self.notify_stopping(str(event))

    def notify_stopping(self, reason: str) -> None:
        """Send ``STOPPING=1``. Idempotent."""
        if not self._stopping:
            self._stopping = True
            self._send({"STOPPING": 1, "STATUS": reason})

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _describe(self) -> str:
        manager = self._manager
        states = {name: one.state for name, one in manager.processes.items()}
        states |= {name: one.state for name, one in manager.tasks.items()}
        return describe(manager.status, states)

    def _send(self, assignments: Mapping[str, str | int]) -> bool:
        try:
            return self._socket.send(**assignments)
        except OSError as exc:
            if str(exc) != self._last_error:
                self._last_error = str(exc)
                self._manager.logger.warning(
                    COMPONENT, "Cannot notify systemd", {"error": str(exc)}
                )
            return False


def describe(status: str, states: Mapping[str, State]) -> str:
    """Return the status line: ``degraded: 2 of 3 running; mic (backoff)``."""
    running = sum(state is State.RUNNING for state in states.values())
    others = [name for name, state in states.items() if state is not State.RUNNING]
    line = f"{status}: {running} of {len(states)} running"
    if not others:
        return line
    named = ", ".join(f"{name} ({states[name]})" for name in others[:MAX_NAMED])
    more = len(others) - MAX_NAMED
    return f"{line}; {named}" + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class NotifyEnvironment:
    """What systemd passes to a service in its environment."""

    address: str
    """The notify socket: a path, or ``@`` and an abstract name; empty if there is none."""
    watchdog: float | None
    """The watchdog's timeout in seconds; None without a watchdog for this process."""

    @classmethod
    def parse(cls, environ: Mapping[str, str], pid: int) -> NotifyEnvironment:
        """
        Parse the environment of process *pid*.

        Raises:
            InvalidConfiguration: If a variable is malformed, or names a socket family other
                than AF_UNIX.
        """
        address = environ.get("NOTIFY_SOCKET", "")
        if address and address[0] not in "/@":
            raise InvalidConfiguration(
                f"NOTIFY_SOCKET is {address!r}: it must be a path or an abstract name"
            )
        microseconds = environ.get("WATCHDOG_USEC", "0")
        if not microseconds.isdigit():
            raise InvalidConfiguration(
                f"WATCHDOG_USEC is {microseconds!r}: it must be a number"
            )
        is_for_us = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        watchdog = int(microseconds) / 1e6 if is_for_us else 0.0
        return cls(address, watchdog or None)


class NotifySocket:
    """
    The sending end of systemd's notify socket.

    Args:
        address: A path, or ``@`` and an abstract name.
    """

    def __init__(self, address: str) -> None:
        abstract = address.startswith("@")
        self._address = f"\0{address[1:]}" if abstract else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)  # noqa: FBT003 - its own signature

    def send(self, **assignments: str | int) -> bool:
        """
        Send assignments: ``send(READY=1, STATUS="running")``.

        Returns:
            Whether systemd's queue had room for them; a later message may fit again.

        Raises:
            OSError: If no process listens on the socket.
        """
        lines = [f"{name}={_one_line(value)}" for name, value in assignments.items()]
        try:
            self._socket.sendto(os.fsencode("\n".join(lines)), self._address)
        except BlockingIOError:  # systemd's queue is full
            return False
        return True

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._socket.close()


def _one_line(value: str | int) -> str:
    return " ".join(str(value).split())
