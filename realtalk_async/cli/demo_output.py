"""The terminal output of the demo: one line per event, and tables at its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from realtalk_async.times import format_hms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import Console

    from realtalk_async.supervision import ErrorHistory, ProcessStatus
    from realtalk_async.voice import Entry

STYLES = {
    "you": "cyan",
    "model": "green",
    "demo": "magenta",
    "good": "green",
    "bad": "bold red",
    "warn": "yellow",
    "quiet": "dim",
}


class DemoPrinter:
    """
    Prints one line per event, with the seconds since the start of the demo.

    Args:
        console: The output; it has colours only if it is a terminal.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._start = time.monotonic()

    def print_line(self, source: str, text: str, style: str = "") -> None:
        """Print one line: time, source, text."""
        seconds = time.monotonic() - self._start
        line = Text()
        line.append(f"{seconds:6.1f} s  ", STYLES["quiet"])
        line.append(f"{source:<11}", STYLES.get(source, "bold"))
        line.append(text, STYLES.get(style, style))
        self.console.print(line, soft_wrap=True)


def transcript_table(entries: Iterable[Entry]) -> Table:
    """Return the transcript of a conversation."""
    table = _table("Transcript", "role", "medium", "content")
    for entry in entries:
        mark = " [interrupted]" if entry.interrupted else ""
        style = STYLES["you" if entry.role == "user" else "model"]
        table.add_row(entry.role, entry.medium, Text(entry.content + mark, style))
    return table


def process_table(statuses: Mapping[str, ProcessStatus]) -> Table:
    """Return one row for each process."""
    table = _table(
        "Processes", "name", "state", "pid", "uptime", "restarts", "exit", "reason"
    )
    for one in statuses.values():
        table.add_row(
            one.name,
            str(one.state),
            "-" if one.pid is None else str(one.pid),
            format_hms(one.uptime),
            str(one.restarts),
            "-" if one.exit_status is None else str(one.exit_status),
            one.reason,
        )
    return table


def error_table(history: ErrorHistory) -> Table:
    """Return one row for each failed incarnation, with the restarts after it."""
    table = _table("Error history", "time", "process", "failure", "restart")
    for process in history.filter(failed=True).values():
        for failed in process.failures:
            attempts = [
                one for one in process.attempts if one.after == failed.incarnation
            ]
            restart = "; ".join(
                f"restarted: {one.detail}"
                if one.succeeded
                else f"not restarted: {one.detail}"
                for one in attempts
            )
            time_of_end = (
                failed.ended_at.strftime("%H:%M:%S") if failed.ended_at else "-"
            )
            failure = f"incarnation {failed.incarnation}: {failed.summary}"
            table.add_row(
                time_of_end, failed.process, failure, restart or "not restarted"
            )
    if not table.row_count:
        table.add_row("-", "-", "nothing failed", "-")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None)
    for column in columns:
        table.add_column(column, header_style="dim", overflow="fold")
    return table
