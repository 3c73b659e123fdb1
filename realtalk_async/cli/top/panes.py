"""What the panes below the table show, as lines with styles. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, cast

from realtalk_async.cli.top.rows import TROUBLE
from realtalk_async.cli.top.widgets import Line
from realtalk_async.logs.serialize import show_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from realtalk_async.control import JsonObject
    from realtalk_async.logs import LogEntry

LEVELS = {"INFO": "", "WARNING": "yellow", "ERROR": "bold red"}
"""How the levels of the log look."""

TIMELINE = (
    r"^(Process (started|is ready|is no longer ready|restarted|finished|died|ended|"
    r"stopped|cannot|could)|Probe failed|Task failed|Restart (scheduled|failed)|Gave up|Going on without|Shutting down)"
)
"""The log messages about starts, exits and restarts; see `Event.log_entry`."""

_BIRTHS = ("Process started", "Process restarted", "Process is ready")
_LEFT_OUT = {"last_lines", "traceback", "command"}
"""What is too long for a line of the time line; the report has it."""


def output(lines: Iterable[JsonObject]) -> list[Line]:
    """Return what a process has said: dim stamps, stderr in yellow."""
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
    """Return log entries, coloured by level, without the date."""
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
    """Return lives and deaths: when, who, which life, what."""
    return [_moment(entry) for entry in entries if not _is_told_twice(entry)]


def _is_told_twice(entry: LogEntry) -> bool:
    """Return whether it is the start of a later life: that is told as a restart."""
    life = entry.context.get("incarnation")
    return entry.message == "Process started" and isinstance(life, int) and life > 1


def _moment(entry: LogEntry) -> Line:
    life = entry.context.get("incarnation")
    who = entry.component if life is None else f"{entry.component}#{life}"
    shown = (
        f"{key} {value}"
        for key, value in entry.context.items()
        if key not in _LEFT_OUT and key != "incarnation"
    )
    style = LEVELS[entry.level.value]
    if entry.message.startswith(_BIRTHS):
        style = "green"
    return Line(
        (f"{entry.timestamp:%H:%M:%S}  ", "dim"),
        (f"{who:<16} ", ""),
        (entry.message, style),
        (f"  {', '.join(shown)}", "dim"),
    )


def report(told: JsonObject) -> list[Line]:
    """Return why a process is as it is, as `explain` tells it."""
    first, *rest = str(told["text"]).split("\n")
    status = cast("JsonObject", told["status"])
    style = "bold red" if status["state"] in TROUBLE else "bold"
    return [Line((first, style)), *(_explained(one) for one in rest)]


def _explained(line: str) -> Line:
    """Return a line: what heads a crash report stands out, and so does a key."""
    if not line.startswith("  "):
        return Line((line, "bold"))
    return Line((line[:12], "dim"), (line[12:], ""))
