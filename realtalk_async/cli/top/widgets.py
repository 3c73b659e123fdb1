"""The widgets of the live view; they draw only the visible lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from realtalk_async.cli.top.columns import STATES, layout, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual import events
    from textual.binding import BindingType

    from realtalk_async.cli.top.columns import Layout
    from realtalk_async.cli.top.rows import Row

MIN_ROWS = 5
"""The minimum height of the table."""

HEADING = Style.parse("bold")
DIM = Style.parse("dim")
CURSOR = Style.parse("bold on #27415f")
_STATES = {state: Style.parse(style) for state, style in STATES.items()}


class ProcessTable(ScrollView, can_focus=True):
    """The table of processes; one process is selected."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "move(-1000000)", "First", show=False),
        Binding("end,G", "move(1000000)", "Last", show=False),
    ]

    class Selected(Message):
        """The selected process has changed."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: Sequence[Row] = ()
        self._layout: Layout = layout([], 80)
        self._now = 0.0
        self.selected: str | None = None
        """The name of the selected process, if there is one."""

    def show(self, rows: Sequence[Row]) -> None:
        """Show these rows in this order; the selected process stays selected."""
        self._rows, self._now = rows, time.monotonic()
        self._update_layout()
        names = [row.name for row in rows]
        if self.selected not in names:
            self._select(0)
        self.refresh()

    def _update_layout(self) -> None:
        self._layout = layout([row.name for row in self._rows], self.size.width)
        self.virtual_size = Size(self.size.width, len(self._rows) + 1)
        self.styles.max_height = max(MIN_ROWS, len(self._rows)) + 1

    def on_resize(self, _event: events.Resize) -> None:
        """Adapt the columns to the width."""
        self._update_layout()
        self._scroll_to_selected()

    @property
    def _place(self) -> int:
        places = (n for n, row in enumerate(self._rows) if row.name == self.selected)
        return next(places, 0)

    def _select(self, place: int) -> None:
        place = max(0, min(place, len(self._rows) - 1))
        before = self.selected
        self.selected = self._rows[place].name if self._rows else None
        self._scroll_to_selected()
        self.refresh()
        if self.selected != before:
            self.post_message(self.Selected())

    def _scroll_to_selected(self) -> None:
        height, place, top = (
            max(1, self.size.height - 1),
            self._place,
            self.scroll_offset.y,
        )
        if not top <= place < top + height:
            target = place if place < top else place - height + 1
            self.scroll_to(y=target, animate=False)

    def action_move(self, by: int) -> None:
        """Select the process that many rows below."""
        self._select(self._place + by)

    def action_page(self, by: int) -> None:
        """Select the process that many pages below."""
        self._select(self._place + by * max(1, self.size.height - 2))

    def on_click(self, event: events.Click) -> None:
        """Select the process of the clicked row."""
        if event.y > 0:
            self._select(self.scroll_offset.y + event.y - 1)

    def render_line(self, y: int) -> Strip:
        """Draw one line; the heading stays where it is."""
        width, base = self.size.width, self.rich_style
        if y == 0:
            return _strip(
                [Segment(self._layout.heading(), base + HEADING)], width, base
            )
        place = self.scroll_offset.y + y - 1
        if place >= len(self._rows):
            return Strip.blank(width, base)
        return self._draw(self._rows[place], base)

    def _draw(self, row: Row, base: Style) -> Strip:
        if row.name == self.selected:
            base += CURSOR
        name, state, figures, last = self._layout.cells(row, self._now)
        segments = [
            Segment(name, base),
            Segment(state, base + _STATES.get(row.state, DIM)),
            Segment(figures, base if row.runs else base + DIM),
            Segment(last, base + DIM),
        ]
        return _strip(segments, self.size.width, base)


class Line:
    """A line of text: parts, each with a style."""

    __slots__ = ("parts",)

    def __init__(self, *parts: tuple[str, str]) -> None:
        self.parts: tuple[tuple[str, str], ...] = parts


class TextPane(ScrollView, can_focus=True):
    """Wrapped lines of text; it follows new lines while its end is visible."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - textual's
        super().__init__(id=id)
        self._lines: Sequence[Line] = ()
        self._strips: list[Strip] = []
        self.follows: bool = True
        """Whether the pane scrolls to the end when there are new lines."""

    def show(self, lines: Sequence[Line], *, follow: bool | None = None) -> None:
        """
        Replace all lines.

        Args:
            lines: The new lines.
            follow: Whether to follow the end; unchanged if omitted.
        """
        self._lines = lines
        if follow is not None:
            self.follows = follow
        self._update_layout()
        if follow is False:
            self.scroll_home(animate=False, immediate=True)

    def _update_layout(self) -> None:
        width = self.size.width - self.styles.scrollbar_size_vertical
        if width <= 0:
            return  # not visible; it is resized before it becomes visible
        self._strips = [
            one for line in self._lines for one in self._wrapped(line, width)
        ]
        follows = self.follows
        self.virtual_size = Size(width, len(self._strips))
        if follows:
            self.scroll_to(y=len(self._strips), animate=False, immediate=True)
        self.follows = (
            follows  # `scroll_to` has changed it, but the user did not scroll
        )
        self.refresh()

    def _wrapped(self, line: Line, width: int) -> list[Strip]:
        base = self.rich_style
        segments = [
            Segment(printable(text), base + Style.parse(style) if style else base)
            for text, style in line.parts
        ]
        whole = Strip(segments)
        cuts = range(0, max(1, whole.cell_length), width)
        return [whole.crop(cut, cut + width) for cut in cuts]

    def on_resize(self, _event: events.Resize) -> None:
        """Wrap the lines for the new width."""
        self._update_layout()

    def scroll_to(
        self,
        x: float | None = None,
        y: float | None = None,
        **how: Any,  # noqa: ANN401 - textual's
    ) -> None:
        """Scroll; stop following at the beginning of an animated scroll."""
        if y is not None and y < self.max_scroll_y:
            self.follows = False
        super().scroll_to(x, y, **how)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow if the end is visible."""
        super().watch_scroll_y(old_value, new_value)
        self.follows = new_value >= self.max_scroll_y

    def render_line(self, y: int) -> Strip:
        """Draw one line."""
        width, base = self.size.width, self.rich_style
        place = self.scroll_offset.y + y
        if place >= len(self._strips):
            return Strip.blank(width, base)
        return self._strips[place].adjust_cell_length(width, base)

    def text(self) -> str:
        """Return the text of all lines, not wrapped."""
        lines = ("".join(text for text, _ in line.parts) for line in self._lines)
        return "\n".join(lines)


def _strip(segments: list[Segment], width: int, base: Style) -> Strip:
    return Strip(segments).adjust_cell_length(width, base)
