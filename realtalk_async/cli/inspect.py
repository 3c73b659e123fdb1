"""
Print the responses of running apps: `ps`, `tail`, `logs`, `history`, `explain`, …

With ``--json`` each line is one JSON value of the response.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime
from typing import TYPE_CHECKING, cast

import orjson

from realtalk_async.cli.line_format import Continuation, wants_colour
from realtalk_async.control.client import (
    find_app,
    find_apps,
    get_statuses,
    processes_of,
)
from realtalk_async.control.sockets import (
    AppDoesNotAnswer,
    ControlUnavailable,
    command_of,
    is_suspended,
)
from realtalk_async.supervision.specs.difference import NOT_STARTED
from realtalk_async.times import format_hms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from realtalk_async.control import JsonObject, Request

STATE_STYLES = {
    "running": "green",
    "starting": "cyan",
    "backoff": "yellow",
    "stopping": "yellow",
    "fatal": "bold red",
}
"""Styles of states in the table; all other states are dim."""

COLUMNS = (
    "name",
    "state",
    "pid",
    "incarnation",
    "uptime",
    "restarts",
    "exit",
    "reason",
)


def print_response(request: Request, app: str | None, *, as_json: bool) -> None:
    """
    Send a request to the only app that fits, and print the response.

    Raises:
        ControlUnavailable: If no app fits, or the app refuses.
    """
    items = find_app(request.name, app=app).send(request)
    if request.method == "tail" and not as_json:
        _print_output(cast("Iterator[JsonObject]", items))
        return
    for item in items:
        if as_json:
            _print_json(item)
        else:
            _PRINTERS[request.method](cast("JsonObject", item))


def print_reload(app: str | None, *, as_json: bool) -> int:
    """
    Have the only app that fits read its file again; print what happens to each process.

    Returns:
        1 if a process could not be started, otherwise 0.

    Raises:
        ControlUnavailable: If no app fits, or the app has no file.
        InvalidConfiguration: If there is a mistake in the file; nothing has changed.
    """
    lines = find_app(app=app).reload()
    for name, what in lines.items():
        if as_json:
            _print_json({"name": name, "what": what})
        else:
            _print_line(f"{name}: {what}")
    return int(any(what.startswith(NOT_STARTED) for what in lines.values()))


def print_apps(app: str | None, *, as_json: bool) -> None:
    """
    Print the processes of all running apps, or of one.

    Raises:
        ControlUnavailable: If that app does not run.
    """
    clients = find_apps(app)
    if not clients and not as_json:
        _print_line("no running app was found")
    for client, answer in get_statuses(clients).items():
        status = _silent_app(answer) if isinstance(answer, Exception) else answer
        if as_json:
            _print_json({"socket": str(client.path), **status})
        else:
            _print_app(status)


def _silent_app(error: ControlUnavailable) -> JsonObject:
    """Return what is known of an app that does not answer; others have no status."""
    if not isinstance(error, AppDoesNotAnswer):
        raise error
    is_paused = is_suspended(error.pid)
    return {
        "pid": error.pid,
        "command": command_of(error.pid),
        "status": "does not answer" + (" (suspended)" if is_paused else ""),
        "degraded": {},
        "processes": [],
    }


def _print_json(value: object) -> None:
    _print_line(orjson.dumps(value).decode())


def _print_line(text: str) -> None:
    # Output of a child may hold characters that the encoding of stdout does not have.
    _write(text.encode(errors="replace") + b"\n")


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _print_app(app: JsonObject) -> None:
    """Print one app, and one line for each of its processes."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(
        highlight=False,
        no_color=not wants_colour(os.environ, is_terminal=sys.stdout.isatty()),
        width=None if sys.stdout.isatty() else 200,
    )
    head = f"{app['command']}  pid {app['pid']}  {app['status']}"
    console.print(Text(head, "bold"), soft_wrap=True)
    if not processes_of(app):
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in COLUMNS:
        table.add_column(name, header_style="dim", overflow="fold")
    for status in processes_of(app):
        table.add_row(*_cells(status))
    console.print(table)
    if any(map(_containment_of, processes_of(app))):
        how = cast("JsonObject", app["containment"])
        cannot = "; ".join(cast("list[str]", how["cannot"]))
        text = f"containment: {how['path']}; what it cannot do: {cannot}"
        console.print(Text(text, "dim"), soft_wrap=True)
    for line in describe_losses(cast("dict[str, str]", app["degraded"])):
        console.print(Text(line, "yellow"), soft_wrap=True)


def describe_losses(degraded: Mapping[str, str]) -> list[str]:
    """Return a line for each reason, with all processes that were given up for it."""
    names: dict[str, list[str]] = {}
    for name, reason in degraded.items():
        names.setdefault(reason, []).append(name)
    return [f"degraded: {', '.join(some)}: {reason}" for reason, some in names.items()]


def _cells(status: JsonObject) -> Iterable[str]:
    state, reason = str(status["state"]), str(status["reason"])
    style = STATE_STYLES.get(state, "dim")
    return (
        _escape(status["name"]),
        f"[{style}]{state}[/]",
        _or_dash(status["pid"]),
        _or_dash(status["incarnation"]),
        format_hms(cast("float", status["uptime"])),
        _or_dash(status["restarts"]),
        _or_dash(status["exit_status"]),
        _escape("; ".join(filter(None, (_containment_of(status), reason)))),
    )


def _containment_of(status: JsonObject) -> str:
    """Return the containment of a process; "" for the default, and of older versions."""
    return str(status.get("containment", "group")).removeprefix("group")


def _escape(value: object) -> str:
    """Return text without markup for rich."""
    return str(value).replace("[", r"\[")


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _print_output(lines: Iterator[JsonObject]) -> None:
    """Print lines of output; the rest of a prompt follows it in the same line."""
    continuation = Continuation()
    try:
        for line in lines:
            _print_output_line(continuation, line)
    finally:
        _write(continuation.close())


def _print_output_line(continuation: Continuation, line: JsonObject) -> None:
    at, text = datetime.fromisoformat(str(line["at"])), str(line["text"])
    rest = text.encode(errors="replace")
    whole = f"{at:%H:%M:%S} {line['stream']} | ".encode() + rest
    source = line["stream"], line["incarnation"]
    raw = rest if line["partial"] else rest + b"\n"
    _write(continuation.join(source, raw, whole, rest))


def _print_entry(entry: JsonObject) -> None:
    _print_line(str(entry["line"]))


def _print_status(status: JsonObject) -> None:
    pid = f", pid {status['pid']}" if status["status"] == "running" else ""
    _print_line(f"{status['name']}: {status['state']}{pid}; {status['reason']}")


def _print_history(history: JsonObject) -> None:
    """Print one line for each incarnation of a process, and for each restart after it."""
    status = cast("JsonObject", history["status"])
    _print_line(f"{status['name']}: {status['state']}; {status['reason']}")
    attempts = cast("list[JsonObject]", history["attempts"])
    for incarnation in cast("list[JsonObject]", history["incarnations"]):
        number = incarnation["incarnation"]
        started = datetime.fromisoformat(str(incarnation["started_at"]))
        _print_line(
            f"  {started:%H:%M:%S}  incarnation {number}: {incarnation['summary']}"
        )
        for attempt in attempts:
            if attempt["after"] == number:
                _print_line(f"            {_describe_attempt(attempt)}")


def _describe_attempt(attempt: JsonObject) -> str:
    how = "restarted" if attempt["succeeded"] else "not restarted"
    return f"{how} by {attempt['asked_by']}: {attempt['detail']}"


def _print_explanation(explanation: JsonObject) -> None:
    _print_line(str(explanation["text"]))


_PRINTERS: dict[str, Callable[[JsonObject], None]] = {
    "logs": _print_entry,
    "history": _print_history,
    "explain": _print_explanation,
    "restart": _print_status,
    "stop": _print_status,
}
