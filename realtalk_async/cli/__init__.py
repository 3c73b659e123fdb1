"""The command line `realtalk-async`; `commands` has the commands."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that the arguments of this process name."""
    try:
        from realtalk_async.cli.commands import main as commands
    except ModuleNotFoundError as exc:  # pragma: no cover - only without the extra
        sys.exit(f"{exc}; install the command line: pip install 'realtalk-async[cli]'")
    except KeyboardInterrupt:  # pragma: no cover - within the first milliseconds
        sys.exit(130)
    commands()
