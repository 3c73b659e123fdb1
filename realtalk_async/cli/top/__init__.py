"""
The live view of a running app: `realtalk-async top`.

It asks the app through its control socket, as `ps` and `tail` do, reads the log from its
file, and CPU and memory from ``/proc``: nothing of it runs in the app. It needs the extra
``top``.
"""

from __future__ import annotations

import os
import shlex
import sys

from realtalk_async.control import find_app
from realtalk_async.exceptions import InvalidConfiguration

_HOW = "pip install 'realtalk-async[top]'"


def show(app: str | None, *, read_only: bool = False) -> None:
    """
    Show an app in this terminal until the user has seen enough.

    Args:
        app: Its pid or socket, if several run.
        read_only: Whether to offer no keys that act.

    Raises:
        ControlUnavailable: If there is no such app.
        InvalidConfiguration: If this is no terminal, or textual is missing.
    """
    client = find_app(app=app)
    try:
        from realtalk_async.cli.top.app import View
    except ModuleNotFoundError as exc:
        raise InvalidConfiguration(f"{exc}: {_HOW}") from exc
    # Within textual-serve there is none; the driver that it sets needs none.
    if not (os.isatty(0) and os.isatty(1)) and "TEXTUAL_DRIVER" not in os.environ:
        raise InvalidConfiguration(
            "top needs a terminal; elsewhere use: realtalk-async ps --json"
        )
    View(client, read_only=read_only).run()


def serve(app: str | None, port: int) -> None:
    """
    Serve the view of an app, read-only, at ``http://localhost:PORT`` until Ctrl-C.

    Each browser gets a process of its own, so none of them can hold up another.

    Raises:
        ControlUnavailable: If there is no such app.
        InvalidConfiguration: If textual-serve is missing.
    """
    client = find_app(app=app)
    try:
        from textual_serve.server import Server
    except ModuleNotFoundError as exc:
        raise InvalidConfiguration(f"{exc}: {_HOW}") from exc
    command = [
        sys.executable,
        "-m",
        "realtalk_async.cli",
        "top",
        "--read-only",
        "--app",
    ]
    Server(
        shlex.join([*command, str(client.path)]),
        host="localhost",
        port=port,
        title="realtalk-async top",
    ).serve()
