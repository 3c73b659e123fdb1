"""
What systemd is told, as sd_notify(3) does it. An edge: one datagram socket.

The protocol is a line of text in a datagram, and stays so (systemd promises it). Of the
libraries, sdnotify has had no release since 2017, systemd-python and cysystemd are bindings
that need a compiler and libsystemd: thirty lines of our own ask for less.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async.exceptions import InvalidConfiguration

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Manners:
    """What systemd asks of a service by its environment."""

    address: str
    """Where it listens: a path, or ``@`` and a name; empty if it does not."""
    watchdog: float | None
    """Seconds within which it wants a sign of life; None if it does not watch us."""

    @classmethod
    def of(cls, environ: Mapping[str, str], pid: int) -> Manners:
        """
        Read an environment, as process *pid*.

        Raises:
            InvalidConfiguration: If it asks for what this package cannot do.
        """
        address = environ.get("NOTIFY_SOCKET", "")
        if address and address[0] not in "/@":
            raise InvalidConfiguration(
                f"NOTIFY_SOCKET is {address!r}: only a path or an abstract name will do"
            )
        microseconds = environ.get("WATCHDOG_USEC", "0")
        if not microseconds.isdigit():
            raise InvalidConfiguration(f"WATCHDOG_USEC is {microseconds!r}: no number")
        is_for_us = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        watchdog = int(microseconds) / 1e6 if is_for_us else 0.0
        return cls(address, watchdog or None)


class NotifySocket:
    """
    Our end of systemd's socket.

    Args:
        address: A path, or ``@`` and an abstract name.
    """

    def __init__(self, address: str) -> None:
        abstract = address.startswith("@")
        self._address = f"\0{address[1:]}" if abstract else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)  # noqa: FBT003 - the socket's own

    def send(self, **assignments: str | int) -> bool:
        """
        Send assignments: ``send(READY=1, STATUS="running")``.

        Returns:
            Whether they were taken; if not now, there may be room for the next ones.

        Raises:
            OSError: If nobody listens there.
        """
        lines = [f"{name}={_one_line(value)}" for name, value in assignments.items()]
        try:
            self._socket.sendto(os.fsencode("\n".join(lines)), self._address)
        except BlockingIOError:  # its queue is full
            return False
        return True

    def close(self) -> None:
        """Let go of it. Idempotent."""
        self._socket.close()


def _one_line(value: str | int) -> str:
    return " ".join(str(value).split())
