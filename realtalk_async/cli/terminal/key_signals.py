"""
Notice the signals that the keyboard sends to a command in the foreground.

Ctrl-C and Ctrl-\\ reach the foreground process group alone, and nothing tells its parent. A
program of ours in that group ends by them, and so tells that the end of a command, with
whatever exit status, is what the user asked for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from realtalk_async.supervision.kernel.child_process import ChildProcess
from realtalk_async.supervision.kernel.spawn import spawn_process

if TYPE_CHECKING:
    from collections.abc import Callable

KEY_SIGNALS = (signal.SIGINT, signal.SIGQUIT)
"""Sent by Ctrl-C and by Ctrl-\\."""

WITNESS = ("/bin/sh", "-c", "read -r _")
"""It waits until its stdin is closed, or this process is gone."""

WITNESS_TIMEOUT = 0.5
"""Seconds in which the witness has to end; usually it takes a millisecond."""

ENDED_BY_KEY = 10.0
"""Seconds after such a signal in which the end of a command is taken as its effect."""


class KeySignals:
    """
    Watches one process group; use it in the event loop.

    Args:
        group: The process group.
        on_signal: Called with each signal from the keyboard.
    """

    def __init__(self, group: int, on_signal: Callable[[int], object]) -> None:
        self._group = group
        self._on_signal = on_signal
        self._witness: ChildProcess | None = None
        self._input = -1
        self._last = 0
        self._at = 0.0
        self._is_closed = False
        self._begin()

    def recent(self) -> int:
        """Return the signal of the last seconds; 0 if there was none."""
        is_recent = time.monotonic() - self._at < ENDED_BY_KEY
        return self._last if is_recent else 0

    def close(self) -> None:
        """
        Stop watching: the command has ended. Idempotent.

        It takes about a millisecond, and 0.5 s at most, until the witness has left the
        group. A signal that it got together with the command counts, however late it acts.
        """
        self._is_closed = True
        self._close_input()
        witness = self._witness
        deadline = time.monotonic() + WITNESS_TIMEOUT
        while self._witness is not None and time.monotonic() < deadline:
            self._witness.send_signal(signal.SIGCONT)
            self._witness.check_exit()
            time.sleep(0.0005)
        if witness is not None:
            witness.kill_now()

    def _begin(self) -> None:
        if self._is_closed:
            return
        reading, self._input = os.pipe()
        try:
            with contextlib.suppress(
                OSError
            ):  # the group is gone, or no shell is there
                new = spawn_process(
                    WITNESS,
                    env={},
                    cwd="/",
                    stdin=reading,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    options={"process_group": self._group},
                )
                self._witness = ChildProcess(new, self._on_exit, _ignore)
        finally:
            os.close(reading)

    def _on_exit(self, witness: ChildProcess) -> None:
        self._witness = None
        self._close_input()
        status = witness.exit_status
        if not isinstance(status, int) or status >= 0:
            return
        self._begin()  # the command may go on, as an editor does
        if -status in KEY_SIGNALS:
            self._last, self._at = -status, time.monotonic()
            self._on_signal(-status)

    def _close_input(self) -> None:
        if self._input >= 0:
            os.close(self._input)
            self._input = -1


def _ignore(_error: BaseException) -> None:
    pass
