"""
Look into a running app from another process: status, output, log, restart, stop.

The app serves the control socket of its manager::

    async with ProcessManager(logger) as manager, serve_control(manager):
        ...

A process of the same user (or of root) finds it and sends requests, as
`realtalk-async ps`, `tail`, `logs`, `history`, `explain`, `restart` and `stop` do::

    for app in find_apps():
        for process in app.get_status()["processes"]:
            print(app.path, process["name"], process["state"])

    app = find_app(process="recorder")
    print(app.explain("recorder")["text"])
    app.restart("recorder")

`sockets` finds the sockets of running apps, and `client` sends a request; in the app
`server` receives the request, and `handlers` has one method for each kind.

The client blocks; `ControlClient.send_async` is for an event loop. All results are JSON
values: the ``to_dict()`` of `ProcessStatus`, `OutputLine`, `LogEntry` and so on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.lazy_imports import lazily

if TYPE_CHECKING:
    from realtalk_async.control.client import ControlClient, find_app, find_apps
    from realtalk_async.control.protocol import JsonObject, Request
    from realtalk_async.control.server import serve_control
    from realtalk_async.control.sockets import AppDoesNotAnswer, ControlUnavailable
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "client": "ControlClient find_app find_apps",
            "protocol": "JsonObject Request",
            "server": "serve_control",
            "sockets": "AppDoesNotAnswer ControlUnavailable",
        },
    )

__all__ = [
    "AppDoesNotAnswer",
    "ControlClient",
    "ControlUnavailable",
    "JsonObject",
    "Request",
    "find_app",
    "find_apps",
    "serve_control",
]
