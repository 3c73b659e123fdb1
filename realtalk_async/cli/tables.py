"""How things look in a terminal: one line an event, one table a question."""

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


class Account:
    """
    Tells what happens, one line each, with the seconds since it began.

    Args:
        console: Where to; colours are used only if it is a terminal.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._began = time.monotonic()

    def tell(self, who: str, what: str, style: str = "") -> None:
        """Print one line."""
        seconds = time.monotonic() - self._began
        line = Text()
        line.append(f"{seconds:6.1f} s  ", STYLES["quiet"])
        line.append(f"{who:<11}", STYLES.get(who, "bold"))
        line.append(what, STYLES.get(style, style))
        self.console.print(line, soft_wrap=True)


def conversation(entries: Iterable[Entry]) -> Table:
    """Return who said what."""
    table = _table("Transcript", "role", "medium", "content")
    for entry in entries:
        mark = " [interrupted]" if entry.interrupted else ""
        style = STYLES["you" if entry.role == "user" else "model"]
        table.add_row(entry.role, entry.medium, Text(entry.content + mark, style))
    return table


def processes(statuses: Mapping[str, ProcessStatus]) -> Table:
    """Return one line a process."""
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


def errors(history: ErrorHistory) -> Table:
    """Return one line for each incarnation that failed, and for what was done about it."""
    table = _table("Error history", "when", "process", "what", "then")
    for process in history.filter(failed=True).values():
        for life in process.failures:
            tries = [one for one in process.attempts if one.after == life.incarnation]
            then = "; ".join(
                f"restarted: {one.detail}"
                if one.succeeded
                else f"not restarted: {one.detail}"
                for one in tries
            )
            when = life.ended_at.strftime("%H:%M:%S") if life.ended_at else "-"
            what = f"incarnation {life.incarnation}: {life.summary}"
            table.add_row(when, life.process, what, then or "left as it is")
    if not table.row_count:
        table.add_row("-", "-", "nothing failed", "-")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None)
    for column in columns:
        table.add_column(column, header_style="dim", overflow="fold")
    return table
