"""A function in a copy of the app's process, for an app that no interpreter can help."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
import warnings
from typing import TYPE_CHECKING

from realtalk_async.supervision.kernel.spawn import NewProcess

if TYPE_CHECKING:
    from collections.abc import Callable


def fork(
    function: Callable[[list[str]], object], arguments: list[str], stdin: int
) -> NewProcess:
    """
    Call a function in a copy of this process that has nothing but *stdin*.

    The copy runs no code of the app: it has its memory, but neither its threads nor its
    descriptors, signal handlers and exit functions. The app waits while the kernel copies
    its page tables: up to 45 ms for 1.5 GB.

    Args:
        function: It must neither import nor allocate much: another thread may have held
            a lock in the moment of the copy.
        arguments: What it is called with.
        stdin: A descriptor.

    Raises:
        OSError: If the operating system refuses.
    """
    at = time.monotonic()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, in 3.12
            pid = os.fork()
        if pid == 0:
            _become(function, arguments, stdin)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return NewProcess(pid, owns_group=False, at=at)


def _become(
    function: Callable[[list[str]], object], arguments: list[str], stdin: int
) -> None:
    """Leave everything of the app behind, call the function, and exit."""
    status = 1
    try:
        gc.disable()  # no finalizer of the app's objects may run
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        os.dup2(stdin, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.chdir("/")
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        function(arguments)
        status = 0
    finally:
        with contextlib.suppress(BaseException):
            os._exit(status)
