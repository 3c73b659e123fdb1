"""
A script that executes a program with an empty signal mask and default dispositions.

Run as ``python -I -S clean_exec.py PROGRAM [ARGUMENT …]``, for what `posix_spawn` cannot do.
"""

from __future__ import annotations

import os
import signal
import sys

NOT_EXECUTED = 127
"""The exit status if the program cannot be executed, as a shell's."""


def main() -> None:
    """Reset all signals, then become the program."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - its whole purpose
    except OSError as error:
        os.write(2, f"{sys.argv[1]}: {error.strerror}\n".encode())
        os._exit(NOT_EXECUTED)


if __name__ == "__main__":
    main()
