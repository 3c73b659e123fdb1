"""The live view of a running app: its panes and its keys."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import App
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Static, TabbedContent, TabPane

from realtalk_async.cli.top import panes
from realtalk_async.cli.top.columns import printable
from realtalk_async.cli.top.resource_usage import read_usage
from realtalk_async.cli.top.rows import ORDERS, AppState
from realtalk_async.cli.top.widgets import Line, ProcessTable, TextPane
from realtalk_async.control import ControlUnavailable, Request
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.logs.query import make_query, search

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType

    from realtalk_async.control import ControlClient, JsonObject
    from realtalk_async.logs import LogEntry
    from realtalk_async.logs.reverse_reader import Index

PERIOD = 1.0
"""Seconds between two updates of the table."""
PANE_PERIOD = 0.3
"""Seconds between two updates of the pane below the table."""
OUTPUT = 100
"""Lines of output in the pane."""
WIDTH = 500
"""Characters of a line of output."""
ENTRIES = 200
"""Log entries in the pane."""

PANES = {"output": "Output", "log": "Log", "timeline": "Timeline", "report": "Report"}
LOGS = ("log", "timeline")
"""The panes that show entries of the log."""

LEVELS = (None, "INFO", "WARNING", "ERROR")


class Confirm(ModalScreen[bool]):
    """Asks the user to confirm an action."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "dismiss(True)", "Yes"),
        Binding("n,escape,q", "dismiss(False)", "No"),
    ]
    CSS = """
    Confirm { align: center middle; }
    Confirm Static { width: auto; padding: 1 3; background: $surface; border: round $primary; }
    """

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Show the question."""
        yield Static(f"{self._question}  \\[y/n]")


class LiveView(App[None]):
    """
    The live view of one app.

    Args:
        client: Sends requests to the app.
        read_only: Whether the keys that restart and stop are disabled.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #app { height: 1; background: $primary; color: $text; padding: 0 1; }
    #app.failing { background: $error; }
    ProcessTable { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }
    TabbedContent { height: 1fr; }
    TabPane { padding: 0; }
    TextPane { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }
    .filter { height: 1; color: $text-muted; padding: 0 1; }
    #pattern { height: 1; border: none; padding: 0 1; display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
        Binding("1", "pane('output')", "Output", show=False),
        Binding("2", "pane('log')", "Log", show=False),
        Binding("3", "pane('timeline')", "Timeline", show=False),
        Binding("4", "pane('report')", "Report", show=False),
        Binding("r", "ask('restart')", "Restart"),
        Binding("s", "ask('stop')", "Stop"),
        Binding("o", "order", "Order"),
        Binding("l", "level", "Level"),
        Binding("c", "component", "Only selected"),
        Binding("slash", "pattern", "Pattern"),
        Binding("escape", "leave", "Back", show=False),
    ]

    def __init__(self, client: ControlClient, *, read_only: bool = False) -> None:
        super().__init__()
        self.title = "realtalk-async top"
        # Attributes, not queries: at exit textual removes the widgets one by one.
        self._head = Static("connecting …", id="app", markup=False)
        self._processes = ProcessTable()
        self._panes = TabbedContent(id="panes")
        self._lines = {name: TextPane(id=f"{name}-lines") for name in PANES}
        self._captions = {
            name: Static("", classes="filter", markup=False) for name in LOGS
        }
        self._field = Input(placeholder="a regular expression", id="pattern")
        self._client = client
        self._read_only = read_only
        self._state = AppState()
        self._order = 0
        self._level = 0
        self._only_selected = False
        self._pattern = ""
        self._stale = asyncio.Event()
        self._shown: tuple[object, ...] = ()
        """Identifies the content of the visible pane, to skip equal updates."""
        self._index: Index = {}

    # ---- layout

    def compose(self) -> ComposeResult:
        """Yield the app, its processes, the panes and the keys."""
        yield self._head
        yield self._processes
        with self._panes:
            for number, (name, title) in enumerate(PANES.items(), 1):
                with TabPane(f"{number} {title}", id=name), Vertical():
                    if name in LOGS:
                        yield self._captions[name]
                    yield self._lines[name]
        yield self._field
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Start the updates."""
        self._processes.focus()
        self.run_worker(self._watch(), group="watch")
        self.run_worker(self._update_pane(), group="pane")

    # ---- the processes

    async def _watch(self) -> None:
        """Update the table until the app ends."""
        try:
            request = Request("watch", period=PERIOD)
            async for item in self._client.send_async(request):
                now = time.monotonic()
                self._state.update(cast("JsonObject", item), now)
                self._state.update_usage(read_usage(), now)
                self._show_table()
        except ControlUnavailable as exc:
            self._show_app(f"{exc}: this is its last state")

    def _show_table(self) -> None:
        self._processes.show(self._state.ordered(ORDERS[self._order]))
        app = self._state.app
        running = sum(row.runs for row in self._state.rows.values())
        counts = f"{running} of {len(self._state.rows)} running"
        if self._state.failing:
            counts += f", {self._state.failing} failing"
        degraded = cast("dict[str, str]", app["degraded"])
        status = (
            f"{app['status']}: {', '.join(degraded)}" if degraded else app["status"]
        )
        self._show_app(
            f"{status}  {counts}  sorted by {ORDERS[self._order]}  "
            f"pid {app['pid']}  {app['command']}"
        )

    def _show_app(self, text: str) -> None:
        self._head.update(printable(text))
        is_well = self._state.app.get("status") == "running"
        self._head.set_class(bool(self._state.failing) or not is_well, "failing")

    # ---- the panes

    async def _update_pane(self) -> None:
        """Update the visible pane periodically, and at once when it is stale."""
        while True:
            self._stale.clear()
            pane = self._panes.active
            try:
                await self._update(pane)
            except (ControlUnavailable, OSError) as exc:
                self._show(self._lines[pane], (), [Line((str(exc), "dim"))])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PANE_PERIOD):
                    await self._stale.wait()

    async def _update(self, pane: str) -> None:
        name = self._processes.selected
        match pane:
            case "output" if name is not None:
                await self._update_output(name)
            case "report" if name is not None:
                await self._update_report(name)
            case "log" | "timeline" if self._state.app:
                await self._update_log(pane)
            case _:
                pass

    async def _update_output(self, name: str) -> None:
        row, lines = self._state.rows.get(name), self._lines["output"]
        key = ("output", name, row and (row.bytes, row.incarnation))
        is_new = self._shown[:2] != ("output", name)
        is_complete = key == self._shown and row is not None and not row.runs
        # A pane that the user has scrolled back keeps its lines.
        if not is_new and (is_complete or not lines.follows):
            return
        request = Request("tail", name=name, n=OUTPUT, width=WIDTH)
        items = [
            cast("JsonObject", one) async for one in self._client.send_async(request)
        ]
        self._show(lines, key, panes.output(items), follow=True if is_new else None)

    async def _update_report(self, name: str) -> None:
        row = self._state.rows.get(name)
        key = ("report", name, row and (row.state, row.incarnation, row.reason))
        if key == self._shown:
            return
        request = Request("explain", name=name, n=10)
        async for item in self._client.send_async(request):
            lines = panes.report(cast("JsonObject", item))
            self._show(self._lines["report"], key, lines, follow=False)

    async def _update_log(self, pane: str) -> None:
        """Read the log from its file, without work for the app."""
        path = Path(str(self._state.app["log"]))
        level = LEVELS[self._level]
        component = self._processes.selected if self._only_selected else None
        found = os.stat(path)
        key = (pane, level, component, self._pattern, found.st_size, found.st_ino)
        if key == self._shown:
            return
        pattern = self._pattern if pane == "log" else panes.TIMELINE
        entries = await self._search(path, level, component, pattern or None)
        if pane == "timeline" and self._pattern:
            entries = [one for one in entries if re.search(self._pattern, str(one))]
        content = panes.log(entries) if pane == "log" else panes.timeline(entries)
        self._captions[pane].update(self._filter(len(content)))
        self._show(self._lines[pane], key, content)

    async def _search(
        self, path: Path, level: str | None, component: str | None, pattern: str | None
    ) -> list[LogEntry]:
        query = make_query(level, component, pattern, ENTRIES, None, None)
        stop = threading.Event()
        try:
            return await asyncio.to_thread(search, path, query, stop, self._index)
        finally:
            stop.set()

    def _filter(self, count: int) -> str:
        component = self._processes.selected if self._only_selected else "all"
        pattern = f"/{self._pattern}/" if self._pattern else "any"
        level = LEVELS[self._level] or "all"
        return f"level {level}   component {component}   pattern {pattern}   newest {count}"

    def _show(
        self,
        pane: TextPane,
        key: tuple[object, ...],
        lines: list[Line],
        *,
        follow: bool | None = None,
    ) -> None:
        self._shown = key
        pane.show(lines, follow=follow)

    # ---- keys

    def _mark_stale(self) -> None:
        self._stale.set()

    def on_process_table_selected(self, _message: ProcessTable.Selected) -> None:
        """Update the pane for the selected process."""
        self._mark_stale()

    def on_tabbed_content_tab_activated(
        self, _event: TabbedContent.TabActivated
    ) -> None:
        """Update the new pane."""
        self._mark_stale()

    def action_pane(self, name: str) -> None:
        """Show a pane."""
        self._panes.active = name

    def action_order(self) -> None:
        """Change the order of the table."""
        self._order = (self._order + 1) % len(ORDERS)
        if self._state.app:
            self._show_table()

    def action_level(self) -> None:
        """Change the level of the log."""
        self._level = (self._level + 1) % len(LEVELS)
        self._show_log()

    def action_component(self) -> None:
        """Show the log of the selected process only, or of all components."""
        self._only_selected = not self._only_selected
        self._show_log()

    def action_pattern(self) -> None:
        """Show the input of a pattern for the log."""
        self._show_log()
        field = self._field
        field.display = True
        field.focus()

    def _show_log(self) -> None:
        tabs = self._panes
        if tabs.active not in LOGS:
            tabs.active = "log"
        self._mark_stale()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Use the pattern, if it is valid."""
        try:
            make_query(None, None, event.value, None, None, None)
        except InvalidConfiguration as exc:
            self.notify(str(exc), severity="error", markup=False)
            return
        self._pattern = event.value
        self.action_leave()
        self._mark_stale()

    def action_leave(self) -> None:
        """Return to the table."""
        self._field.display = False
        self._processes.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide the keys that are disabled."""
        del parameters
        return not (action == "ask" and self._read_only)

    def action_ask(self, method: str) -> None:
        """Restart or stop the selected process after a confirmation."""
        name = self._processes.selected
        if name is None:
            return

        def decide(confirmed: bool | None) -> None:  # noqa: FBT001 - textual's
            if confirmed:
                self.run_worker(self._do(method, name), group="actions")

        _ = self.push_screen(Confirm(f"{method} {printable(name)!r}?"), decide)

    async def _do(self, method: str, name: str) -> None:
        self.notify(f"{method} {name}: requested", markup=False, timeout=2)
        try:
            async for item in self._client.send_async(Request(method, name=name)):
                status = cast("JsonObject", item)
                self.notify(
                    f"{name}: {status['state']}; {status['reason']}", markup=False
                )
        except ControlUnavailable as exc:
            self.notify(f"{method} {name}: {exc}", severity="error", markup=False)
