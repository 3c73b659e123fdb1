"""Ctrl-T of a macOS terminal (SIGINFO): print the status of all processes of a run."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.supervision import ProcessManager

STATUS_KEY: int | None = getattr(signal, "SIGINFO", None)
"""The signal of the key; None on a system that has none, as Linux."""


def print_status_at_key(
    manager: ProcessManager, print_line: Callable[[str], object]
) -> None:
    """Print the table of `ProcessManager.process_status` at each Ctrl-T, until the loop ends."""

    def print_status() -> None:
        for line in str(manager.process_status()).splitlines():
            print_line(line)

    if STATUS_KEY is not None:
        asyncio.get_running_loop().add_signal_handler(STATUS_KEY, print_status)
