"""The columns of the live view at any width."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len, set_cell_size

from realtalk_async.times import format_hms

if TYPE_CHECKING:
    from realtalk_async.cli.top.rows import Row

GAP = 1
"""Blanks between two columns."""
NAME = (8, 28)
"""The minimum and maximum width of the name."""
WIDE = 120
"""From this width on, headings are not abbreviated."""
MIN_LAST_LINE = 12
"""The minimum width of the last line, as long as the name can be shortened."""

STATES = {
    "running": "green",
    "starting": "cyan",
    "backoff": "yellow",
    "stopping": "yellow",
    "fatal": "bold red",
}
"""Styles of states; all other states are dim."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)?")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Column(NamedTuple):
    """A right-aligned column of figures."""

    title: str
    short: str
    """The title where the screen is narrow."""
    width: int


STATE = 8
"""The width of the state."""

COLUMNS = (
    Column("pid", "pid", 7),
    Column("incarnation", "inc", 4),
    Column("uptime", "uptime", 8),
    Column("restarts", "rst", 3),
    Column("CPU %", "CPU%", 5),
    Column("memory", "mem", 6),
    Column("bytes/s", "out/s", 6),
)


def figures(row: Row, now: float) -> tuple[str, ...]:
    """Return the figures of a row; *now* in monotonic seconds."""
    return (
        _or_dash(row.pid if row.runs else None),
        str(row.incarnation),
        format_hms(row.seconds(now)),
        str(row.restarts),
        _percent(row.cpu),
        "-" if row.memory is None else format_bytes(row.memory),
        format_bytes(row.rate),
    )


class Layout(NamedTuple):
    """The columns at one width."""

    name: int
    """The width of the name."""
    columns: tuple[Column, ...]

    def heading(self) -> str:
        """Return the heading."""
        titles = [_title(one).rjust(one.width) for one in self.columns]
        return _joined(
            _fit("name", self.name), _fit("state", STATE), *titles, "last line"
        )

    def cells(self, row: Row, now: float) -> tuple[str, str, str, str]:
        """Return name, state, all figures, and the last line, each but the last with a gap."""
        gap = " " * GAP
        pairs = zip(figures(row, now), self.columns, strict=True)
        return (
            _fit(printable(row.name), self.name) + gap,
            _fit(row.state, STATE) + gap,
            _joined(*(figure.rjust(one.width) for figure, one in pairs)) + gap,
            printable(row.last_text),
        )


def layout(names: list[str], width: int) -> Layout:
    """Return the columns for a screen of this width."""
    columns: tuple[Column, ...] = COLUMNS
    if width >= WIDE:
        columns = tuple(
            one._replace(width=max(one.width, len(one.title))) for one in COLUMNS
        )
    taken = STATE + sum(one.width + GAP for one in columns) + 2 * GAP
    shortest, longest = NAME
    wanted = max(map(cell_len, names), default=shortest)
    return Layout(
        max(shortest, min(wanted, longest, width - taken - MIN_LAST_LINE)), columns
    )


def _title(column: Column) -> str:
    return column.title if len(column.title) <= column.width else column.short


def _joined(*cells: str) -> str:
    return (" " * GAP).join(cells)


def _fit(text: str, width: int) -> str:
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    return set_cell_size(text, width)


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def format_bytes(count: float) -> str:
    """Return a number of bytes in at most five characters: ``87``, ``1.2K``, ``34M``."""
    for unit in ("", "K", "M", "G"):
        if count < 1000:
            return (
                f"{count:.0f}{unit}"
                if not unit or count >= 10
                else f"{count:.1f}{unit}"
            )
        count /= 1024
    return f"{count:.0f}T"


def printable(text: str) -> str:
    """Return output of a process as one line without escape sequences and controls."""
    if text.isprintable():
        return text
    return _CONTROLS.sub("·", _ESCAPES.sub("", text).expandtabs(4))
