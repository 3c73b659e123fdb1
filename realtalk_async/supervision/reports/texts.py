"""Texts for people on a terminal: a table of columns, a line for an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.times import format_hms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from realtalk_async.events.base import EventLogEntry

_SHOWN = ("command", "pid", "exit_status", "delay", "downtime", "reason", "error")
"""The fields of a log entry that a line for people has."""


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as aligned columns; the last column is not padded."""
    lines = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def describe_entry(entry: EventLogEntry, at: datetime) -> str:
    """Return one line: time, process, what happened and the facts about it."""
    facts = [
        f"{name.replace('_', ' ')} {entry.context[name]}"
        for name in _SHOWN
        if entry.context.get(name) not in {None, ""}
    ]
    last_lines = entry.context.get("last_lines")
    if isinstance(last_lines, list | tuple) and last_lines:
        facts.append(f"last words: {last_lines[-1]}")
    level = "" if entry.level == "INFO" else f"{entry.level}: "
    text = f"{at:%H:%M:%S} {entry.component}: {level}{entry.message}"
    return " ".join((f"{text} ({'; '.join(facts)})" if facts else text).split())


def describe_uptime(seconds: float, *, running: bool) -> str:
    """Return the time that a process has run, or a dash for one that does not."""
    return format_hms(seconds) if running else "-"
