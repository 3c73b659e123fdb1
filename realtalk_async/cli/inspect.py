"""
What `realtalk-async ps`, `tail`, `logs`, `history`, `explain`, `restart`, `stop` print.

With ``--json`` it is what the app has told: one JSON value a line.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime
from typing import TYPE_CHECKING, cast

import orjson

from realtalk_async.cli.line_format import wants_colour
from realtalk_async.control import client
from realtalk_async.times import format_hms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from realtalk_async.control.protocol import JsonObject, Question

STATES = {
    "running": "green",
    "starting": "cyan",
    "backoff": "yellow",
    "stopping": "yellow",
    "fatal": "bold red",
}
"""How states look in the table."""


def ask(question: Question, app: str | None, *, as_json: bool) -> None:
    """
    Ask the one app that can be meant, and print its answer.

    Raises:
        ControlUnavailable: If there is none, or it says no.
    """
    show = _SHOWN[question.ask]
    for value in client.ask(client.app_of(question.name, app), question):
        if as_json:
            _print_json(value)
        else:
            show(cast("JsonObject", value))


def overview(app: str | None, *, as_json: bool) -> None:
    """
    Print all processes of all apps.

    Raises:
        ControlUnavailable: If the app that was asked for is not there.
    """
    found = client.overviews(app)
    if as_json:
        for path, one in found.items():
            _print_json({"socket": str(path), **one})
        return
    if not found:
        _print_line("nothing of yours runs that can be looked into")
    for one in found.values():
        _show_app(one)


def _print_json(value: object) -> None:
    _print_line(orjson.dumps(value).decode())


def _print_line(text: str) -> None:
    # What a child has said may hold what our own encoding has not.
    sys.stdout.buffer.write(text.encode(errors="replace") + b"\n")
    sys.stdout.buffer.flush()


def _show_app(one: JsonObject) -> None:
    """Print one app: what it is, and a line for each of its processes."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(
        highlight=False,
        no_color=not wants_colour(os.environ, is_terminal=sys.stdout.isatty()),
        width=None if sys.stdout.isatty() else 200,
    )
    head = f"{one['command']}  pid {one['pid']}  {one['status']}"
    console.print(Text(head, "bold"), soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in (
        "name",
        "state",
        "pid",
        "life",
        "uptime",
        "restarts",
        "exit",
        "reason",
    ):
        table.add_column(name, header_style="dim", overflow="fold")
    for status in client.processes(one):
        table.add_row(*_cells(status), style=None)
    console.print(table)
    for name, reason in cast("dict[str, str]", one["degraded"]).items():
        console.print(Text(f"degraded: {name}: {reason}", "yellow"), soft_wrap=True)


def _cells(status: JsonObject) -> Iterable[str]:
    state = str(status["state"])
    style = STATES.get(state, "dim")
    return (
        _plain(status["name"]),
        f"[{style}]{state}[/]",
        _or_dash(status["pid"]),
        _or_dash(status["incarnation"]),
        format_hms(cast("float", status["uptime"])),
        _or_dash(status["restarts"]),
        _or_dash(status["exit_status"]),
        _plain(status["reason"]),
    )


def _plain(value: object) -> str:
    """Return text that rich shows as it is."""
    return str(value).replace("[", r"\[")


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _show_line(line: JsonObject) -> None:
    at = datetime.fromisoformat(str(line["at"]))
    _print_line(f"{at:%H:%M:%S} {line['stream']} | {line['text']}")


def _show_entry(entry: JsonObject) -> None:
    _print_line(str(entry["line"]))


def _show_status(status: JsonObject) -> None:
    pid = f", pid {status['pid']}" if status["status"] == "running" else ""
    _print_line(f"{status['name']}: {status['state']}{pid}; {status['reason']}")


def _show_history(history: JsonObject) -> None:
    """Print one line for each life of a process, and for what was done about its end."""
    status = cast("JsonObject", history["status"])
    _print_line(f"{status['name']}: {status['state']}; {status['reason']}")
    tries = cast("list[JsonObject]", history["attempts"])
    for life in cast("list[JsonObject]", history["incarnations"]):
        began = datetime.fromisoformat(str(life["started_at"]))
        _print_line(
            f"  {began:%H:%M:%S}  life {life['incarnation']}: {life['summary']}"
        )
        for one in tries:
            if one["after"] == life["incarnation"]:
                _print_line(f"            {_attempt(one)}")


def _attempt(one: JsonObject) -> str:
    how = "restarted" if one["succeeded"] else "not restarted"
    return f"{how} by {one['asked_by']}: {one['detail']}"


def _show_explanation(told: JsonObject) -> None:
    _print_line(str(told["text"]))


_SHOWN: dict[str, Callable[[JsonObject], None]] = {
    "tail": _show_line,
    "logs": _show_entry,
    "history": _show_history,
    "explain": _show_explanation,
    "restart": _show_status,
    "stop": _show_status,
}
