"""The command line `realtalk-async`; `commands` has the commands."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command that the arguments of this process name."""
    open_missing_streams()
    try:
        from realtalk_async.cli.commands import main as commands
    except ModuleNotFoundError as exc:  # pragma: no cover - only without the extra
        sys.exit(f"{exc}; install the command line: pip install 'realtalk-async[cli]'")
    except KeyboardInterrupt:  # pragma: no cover - within the first milliseconds
        sys.exit(130)
    commands()


def open_missing_streams() -> None:
    """
    Open the standard streams that are closed, on ``/dev/null``.

    Otherwise a file that is opened later gets the number of one, and the output with it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(null, True)  # noqa: FBT003 - positional only
            stream = open(null, mode, encoding="utf-8")  # noqa: SIM115 - for good
            setattr(sys, name, stream)
