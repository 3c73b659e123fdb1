"""How a process ended, what it used, and both in words."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

ExitStatus = int | Literal["unknown"]
"""The exit code, ``-n`` for signal n, ``"unknown"`` if other code reaped the child."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources that an incarnation used, as the kernel counted them at its end."""

    user: float
    """CPU seconds in the program."""
    system: float
    """CPU seconds in the kernel on the program's behalf."""
    peak_memory: int
    """
    The largest number of resident bytes. Linux counts from the fork on: the number is
    never less than the app's own memory at the time of the spawn.
    """

    def to_dict(self) -> dict[str, object]:
        """Return the figures ready for JSON."""
        return {
            "user": round(self.user, 6),
            "system": round(self.system, 6),
            "peak_memory": self.peak_memory,
        }


def signal_name(number: int) -> str:
    """Return ``SIGTERM`` for 15, and ``signal 99`` for a number without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def signal_number(name: str) -> int | None:
    """Return 15 for ``TERM``, ``term`` and ``SIGTERM``; None if no signal has the name."""
    wanted = f"SIG{name.upper().removeprefix('SIG')}"
    return next((int(one) for one in signal.Signals if one.name == wanted), None)


def describe_exit(status: ExitStatus | None) -> str:
    """Return an exit status in words: ``exit status 1``, ``killed by SIGKILL``."""
    if status is None:
        return "never ran"
    if status == "unknown":
        return "exit status unknown: other code reaped the process"
    if status < 0:
        return f"killed by {signal_name(-status)}"
    return f"exit status {status}"
