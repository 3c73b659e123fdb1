"""How a row of the live view looks at any width. Pure."""

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
"""The least and the most cells for a name."""
ROOMY = 120
"""From this width on, headings are written out."""
LEAST_LAST = 12
"""Cells that are left for the last line, at least, as long as a name can be cut."""

STATES = {
    "running": "green",
    "starting": "cyan",
    "backoff": "yellow",
    "stopping": "yellow",
    "fatal": "bold red",
}
"""How states look; all others are dim."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)?")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Column(NamedTuple):
    """One column of figures, which stand at its right side."""

    title: str
    short: str
    """Where there is no room for the title."""
    width: int


STATE = 8
"""Cells for the state."""

COLUMNS = (
    Column("pid", "pid", 7),
    Column("life", "life", 4),
    Column("uptime", "uptime", 8),
    Column("restarts", "rst", 3),
    Column("CPU %", "CPU%", 5),
    Column("memory", "mem", 6),
    Column("bytes/s", "out/s", 6),
)


def figures(row: Row, now: float) -> tuple[str, ...]:
    """Return what stands in the columns; *now* in seconds since the epoch."""
    return (
        _or_dash(row.pid if row.runs else None),
        str(row.incarnation),
        format_hms(row.seconds(now)),
        str(row.restarts),
        _percent(row.cpu),
        "-" if row.memory is None else human(row.memory),
        human(row.rate),
    )


class Table(NamedTuple):
    """The columns at one width."""

    name: int
    """Cells for the name."""
    columns: tuple[Column, ...]

    def heading(self) -> str:
        """Return the heading."""
        titles = [_title(one).rjust(one.width) for one in self.columns]
        return _joined(
            _fit("name", self.name), _fit("state", STATE), *titles, "last line"
        )

    def cells(self, row: Row, now: float) -> tuple[str, str, str, str]:
        """Return name, state, all figures, and the last line, a gap after each."""
        gap = " " * GAP
        pairs = zip(figures(row, now), self.columns, strict=True)
        return (
            _fit(plain(row.name), self.name) + gap,
            _fit(row.state, STATE) + gap,
            _joined(*(figure.rjust(one.width) for figure, one in pairs)) + gap,
            plain(row.says),
        )


def table(names: list[str], width: int) -> Table:
    """Return the columns for a screen of *width* cells."""
    columns: tuple[Column, ...] = COLUMNS
    if width >= ROOMY:
        columns = tuple(
            one._replace(width=max(one.width, len(one.title))) for one in COLUMNS
        )
    taken = STATE + sum(one.width + GAP for one in columns) + 2 * GAP
    least, most = NAME
    longest = max(map(cell_len, names), default=least)
    return Table(max(least, min(longest, most, width - taken - LEAST_LAST)), columns)


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


def human(count: float) -> str:
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


def plain(text: str) -> str:
    """Return what a child has said as one line that moves no cursor and has no colours."""
    if text.isprintable():
        return text
    return _CONTROLS.sub("·", _ESCAPES.sub("", text).expandtabs(4))
