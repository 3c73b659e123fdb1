"""
The front door of the command line: a plain command begins before all else is loaded.

What stands behind it is in `console.commands`.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run what the command line says."""
    begun = None
    if sys.argv[1:3] == ["run", "--"]:
        from realtalk_async.cli import headstart

        begun = headstart.begin(sys.argv[3:])
        if begun is not None and begun.is_over_and_well():
            sys.exit(begun.print_all())
    try:
        from realtalk_async.cli.commands import main as commands
    except ModuleNotFoundError as exc:  # pragma: no cover - only without the extra
        sys.exit(f"{exc}; install what it needs: pip install 'realtalk-async[cli]'")
    commands(obj=begun)


if __name__ == "__main__":
    main()
