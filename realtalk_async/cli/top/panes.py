"""The content of the panes below the table, as lines with styles."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, cast

from realtalk_async.cli.top.rows import FAILING
from realtalk_async.cli.top.widgets import Line
from realtalk_async.logs.serialize import show_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from realtalk_async.control import JsonObject
    from realtalk_async.logs import LogEntry

LEVELS = {"INFO": "", "WARNING": "yellow", "ERROR": "bold red"}
"""Styles of log levels."""

TIMELINE = (
    r"^(Process (started|is ready|is no longer ready|restarted|finished|died|ended|"
    r"stopped|cannot|could)|Probe failed|Task failed|Restart (scheduled|failed)|Gave up|Going on without|Shutting down|Incident)"
)
"""The log messages about starts, exits and restarts; see `Event.log_entry`."""

_GOOD = ("Process started", "Process restarted", "Process is ready")
_OMITTED = {"last_lines", "traceback", "command"}
"""Fields that are too long for a line of the timeline; the report has them."""


def output(lines: Iterable[JsonObject]) -> list[Line]:
    """Return output of a process: times dim, stderr in yellow."""
    return [
        Line(
            (f"{_clock(str(line['at']))} ", "dim"),
            (str(line["text"]), "yellow" if line["stream"] == "stderr" else ""),
        )
        for line in lines
    ]


def _clock(moment: str) -> str:
    return f"{datetime.fromisoformat(moment):%H:%M:%S}"


def log(entries: Iterable[LogEntry]) -> list[Line]:
    """Return log entries, coloured by level, with time but no date."""
    return [_entry(entry) for entry in entries]


def _entry(entry: LogEntry) -> Line:
    style = LEVELS[entry.level.value]
    context = f" {show_json(entry.context)}" if entry.context else ""
    return Line(
        (f"{entry.timestamp:%H:%M:%S} ", "dim"),
        (f"{entry.level.value:<7} ", style),
        (f"{entry.component} ", "bold"),
        (entry.message, style),
        (context, "dim"),
    )


def timeline(entries: Iterable[LogEntry]) -> list[Line]:
    """Return starts, exits and restarts: time, name, incarnation, event."""
    return [_event(entry) for entry in entries if not _is_repeated(entry)]


def _is_repeated(entry: LogEntry) -> bool:
    """Return whether an entry is the start of a later incarnation: a restart, too."""
    incarnation = entry.context.get("incarnation")
    return (
        entry.message == "Process started"
        and isinstance(incarnation, int)
        and incarnation > 1
    )


def _event(entry: LogEntry) -> Line:
    incarnation = entry.context.get("incarnation")
    name = entry.component
    if incarnation is not None:
        name += f"#{incarnation}"
    fields = (
        f"{key} {value}"
        for key, value in entry.context.items()
        if key not in _OMITTED and key != "incarnation"
    )
    style = LEVELS[entry.level.value]
    if entry.message.startswith(_GOOD):
        style = "green"
    return Line(
        (f"{entry.timestamp:%H:%M:%S}  ", "dim"),
        (f"{name:<16} ", ""),
        (entry.message, style),
        (f"  {', '.join(fields)}", "dim"),
    )


def report(explanation: JsonObject) -> list[Line]:
    """Return the explanation of a process, as `realtalk-async explain` prints it."""
    first, *rest = str(explanation["text"]).split("\n")
    status = cast("JsonObject", explanation["status"])
    style = "bold red" if status["state"] in FAILING else "bold"
    return [Line((first, style)), *(_report_line(one) for one in rest)]


def _report_line(line: str) -> Line:
    """Return a line: headings bold, keys dim."""
    if not line.startswith("  "):
        return Line((line, "bold"))
    return Line((line[:12], "dim"), (line[12:], ""))
