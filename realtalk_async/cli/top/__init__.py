"""
The live view of a running app: `realtalk-async top`, with the extra ``top``.

It uses the control socket of the app as `ps` and `tail` do, reads the log from its file,
and CPU and memory from ``/proc``: no code of it runs in the app.
"""

from __future__ import annotations

import os
import shlex
import sys

from realtalk_async.control import find_app
from realtalk_async.exceptions import InvalidConfiguration

_INSTALL = "pip install 'realtalk-async[top]'"


def show(app: str | None, *, read_only: bool = False) -> None:
    """
    Show an app in this terminal until the user quits.

    Args:
        app: The pid or the socket of the app, if several are running.
        read_only: Whether to disable the keys that restart and stop.

    Raises:
        ControlUnavailable: If no app fits, or several.
        InvalidConfiguration: If this is not a terminal, or textual is missing.
    """
    client = find_app(app=app)
    try:
        from realtalk_async.cli.top.app import LiveView
    except ModuleNotFoundError as exc:
        raise InvalidConfiguration(f"{exc}: {_INSTALL}") from exc
    # textual-serve runs this without a terminal, with a driver that needs none.
    if not (os.isatty(0) and os.isatty(1)) and "TEXTUAL_DRIVER" not in os.environ:
        raise InvalidConfiguration(
            "top needs a terminal; elsewhere use: realtalk-async ps --json"
        )
    LiveView(client, read_only=read_only).run()


def serve(app: str | None, port: int) -> None:
    """
    Serve the view of an app, read-only, at ``http://localhost:PORT`` until Ctrl-C.

    Each browser gets a process of its own, so that a slow browser delays no other.

    Raises:
        ControlUnavailable: If no app fits, or several.
        InvalidConfiguration: If textual-serve is missing.
    """
    client = find_app(app=app)
    try:
        from textual_serve.server import Server
    except ModuleNotFoundError as exc:
        raise InvalidConfiguration(f"{exc}: {_INSTALL}") from exc
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
