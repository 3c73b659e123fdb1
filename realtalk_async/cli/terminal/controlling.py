"""The controlling terminal of this process."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from realtalk_async.supervision.command import START_STOPPED
from realtalk_async.supervision.kernel.spawning.prelude import SHELL

STREAMS = ("stdin", "stdout", "stderr")


def open_terminal() -> int:
    """Return a descriptor of the controlling terminal; -1 if there is none."""
    flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open("/dev/tty", flags)
    except OSError:
        return -1


@cache
def own_terminal() -> int:
    """Return a descriptor of the controlling terminal that stays open; -1 for none."""
    return open_terminal()


def get_foreground() -> int:
    """Return the process group in the foreground of the terminal; -1 if there is none."""
    try:
        return os.tcgetpgrp(own_terminal())
    except OSError:  # there is no terminal, or it was closed
        return -1


def set_foreground(group: int) -> bool:
    """Set the process group in the foreground; return whether that was possible."""
    try:
        os.tcsetpgrp(own_terminal(), group)
    except OSError:  # the group has ended, or the terminal was closed
        return False
    return True


def job_options() -> dict[str, Any]:
    """
    Return the options of a command that is a job: a process group in our own session.

    It stops before it becomes the program: the foreground is given to the group meanwhile.
    """
    return {"process_group": 0, START_STOPPED: starts_stopped()}


def starts_stopped() -> bool:
    """Return whether there is the shell that stops a command before it begins."""
    return os.access(SHELL, os.X_OK)


def has_terminal() -> bool:
    """Return whether there is a controlling terminal that was not hung up."""
    terminal = open_terminal()
    if terminal < 0:
        return False
    os.close(terminal)
    return True


def terminal_streams() -> frozenset[str] | None:
    """
    Return which of our own three streams are terminals.

    None without a controlling terminal: a command cannot be a job then.
    """
    if not has_terminal():
        return None
    return frozenset(name for fd, name in enumerate(STREAMS) if os.isatty(fd))
