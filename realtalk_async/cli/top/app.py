"""The live view of a running app: what it shows, and what its keys do."""

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
from realtalk_async.cli.top.columns import plain
from realtalk_async.cli.top.resource_usage import loads
from realtalk_async.cli.top.rows import ORDERS, Board
from realtalk_async.cli.top.widgets import Line, Lines, Processes
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
"""Seconds between two looks at all processes."""
GLIMPSE = 0.3
"""Seconds between two looks at what is shown below the table."""
OUTPUT = 100
"""Lines of output that are fetched at a time."""
WIDTH = 500
"""Characters of such a line."""
ENTRIES = 200
"""The newest so many entries of the log are shown."""

PANES = {"output": "Output", "log": "Log", "timeline": "Timeline", "report": "Report"}
LOGS = ("log", "timeline")
"""The panes that show entries of the log."""

LEVELS = (None, "INFO", "WARNING", "ERROR")


class Confirm(ModalScreen[bool]):
    """Asks whether something is really meant."""

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


class View(App[None]):
    """
    The live view of one app.

    Args:
        client: Sends requests to the app.
        read_only: Whether processes can be looked at only.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #app { height: 1; background: $primary; color: $text; padding: 0 1; }
    #app.troubled { background: $error; }
    Processes { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }
    TabbedContent { height: 1fr; }
    TabPane { padding: 0; }
    Lines { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }
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
        # Held, not queried for: at the app's end they go one by one.
        self._head = Static("looking …", id="app", markup=False)
        self._processes = Processes()
        self._panes = TabbedContent(id="panes")
        self._lines = {name: Lines(id=f"{name}-lines") for name in PANES}
        self._captions = {
            name: Static("", classes="filter", markup=False) for name in LOGS
        }
        self._field = Input(placeholder="a regular expression", id="pattern")
        self._client = client
        self._read_only = read_only
        self._board = Board()
        self._order = 0
        self._level = 0
        self._only_selected = False
        self._pattern = ""
        self._stale = asyncio.Event()
        self._shown: tuple[object, ...] = ()
        """What the pane shows, as far as it is known from outside."""
        self._index: Index = {}

    # ---- what is there

    def compose(self) -> ComposeResult:
        """Lay it out: the app, its processes, what the selected one does, the keys."""
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
        """Begin to look."""
        self._processes.focus()
        self.run_worker(self._watch(), group="watch")
        self.run_worker(self._keep_pane_fresh(), group="pane")

    # ---- the processes

    async def _watch(self) -> None:
        """Keep the table true for as long as the app runs."""
        try:
            request = Request("watch", period=PERIOD)
            async for told in self._client.send_async(request):
                now = time.monotonic()
                self._board.take(cast("JsonObject", told), now)
                self._board.measure(loads(), now)
                self._show_all()
        except ControlUnavailable as exc:
            self._show_app(f"{exc}: this is what was seen last")

    def _show_all(self) -> None:
        self._processes.show(self._board.ordered(ORDERS[self._order]))
        app = self._board.app
        running = sum(row.runs for row in self._board.rows.values())
        counts = f"{running} of {len(self._board.rows)} run"
        if self._board.troubled:
            counts += f", {self._board.troubled} in trouble"
        degraded = cast("dict[str, str]", app["degraded"])
        status = (
            f"{app['status']}: {', '.join(degraded)}" if degraded else app["status"]
        )
        self._show_app(
            f"{status}  {counts}  by {ORDERS[self._order]}  "
            f"pid {app['pid']}  {app['command']}"
        )

    def _show_app(self, text: str) -> None:
        self._head.update(plain(text))
        well = self._board.app.get("status") == "running"
        self._head.set_class(bool(self._board.troubled) or not well, "troubled")

    # ---- what is shown of the selected one

    async def _keep_pane_fresh(self) -> None:
        """Show what belongs below the table, again and again; at once if asked to."""
        while True:
            self._stale.clear()
            pane = self._panes.active
            try:
                await self._freshen(pane)
            except (ControlUnavailable, OSError) as exc:
                self._show(self._lines[pane], (), [Line((str(exc), "dim"))])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GLIMPSE):
                    await self._stale.wait()

    async def _freshen(self, pane: str) -> None:
        name = self._processes.selected
        match pane:
            case "output" if name is not None:
                await self._freshen_output(name)
            case "report" if name is not None:
                await self._freshen_report(name)
            case "log" | "timeline" if self._board.app:
                await self._freshen_log(pane)
            case _:
                pass

    async def _freshen_output(self, name: str) -> None:
        row, lines = self._board.rows.get(name), self._lines["output"]
        key = ("output", name, row and (row.bytes, row.incarnation))
        is_another = not self._is_about(name)
        says_nothing = key == self._shown and row is not None and not row.runs
        if not is_another and (says_nothing or not lines.follows):
            return  # who has scrolled back reads on in peace
        request = Request("tail", name=name, n=OUTPUT, width=WIDTH)
        told = [
            cast("JsonObject", one) async for one in self._client.send_async(request)
        ]
        self._show(lines, key, panes.output(told), follow=True if is_another else None)

    def _is_about(self, name: str) -> bool:
        return self._shown[:2] == ("output", name)

    async def _freshen_report(self, name: str) -> None:
        row = self._board.rows.get(name)
        key = ("report", name, row and (row.state, row.incarnation, row.reason))
        if key == self._shown:
            return
        request = Request("explain", name=name, n=10)
        async for told in self._client.send_async(request):
            lines = panes.report(cast("JsonObject", told))
            self._show(self._lines["report"], key, lines, follow=False)

    async def _freshen_log(self, pane: str) -> None:
        """Read the log from its file: that costs the app nothing."""
        path = Path(str(self._board.app["log"]))
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
        told = panes.log(entries) if pane == "log" else panes.timeline(entries)
        self._captions[pane].update(self._filter(len(told)))
        self._show(self._lines[pane], key, told)

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
        who = self._processes.selected if self._only_selected else "all"
        pattern = f"/{self._pattern}/" if self._pattern else "any"
        level = LEVELS[self._level] or "all"
        return f"level {level}   component {who}   pattern {pattern}   newest {count}"

    def _show(
        self,
        lines: Lines,
        key: tuple[object, ...],
        told: list[Line],
        *,
        follow: bool | None = None,
    ) -> None:
        self._shown = key
        lines.show(told, follow=follow)

    # ---- what the user does

    def _renew(self) -> None:
        self._stale.set()

    def on_processes_selected(self, _message: Processes.Selected) -> None:
        """Show what the newly selected one does."""
        self._renew()

    def on_tabbed_content_tab_activated(
        self, _event: TabbedContent.TabActivated
    ) -> None:
        """Fill the pane."""
        self._renew()

    def action_pane(self, name: str) -> None:
        """Show another pane."""
        self._panes.active = name

    def action_order(self) -> None:
        """Sort by something else."""
        self._order = (self._order + 1) % len(ORDERS)
        if self._board.app:
            self._show_all()

    def action_level(self) -> None:
        """Show the log's entries of another level."""
        self._level = (self._level + 1) % len(LEVELS)
        self._show_log()

    def action_component(self) -> None:
        """Show the log's entries of the selected process only, or of all."""
        self._only_selected = not self._only_selected
        self._show_log()

    def action_pattern(self) -> None:
        """Ask for a pattern for the log."""
        self._show_log()
        field = self._field
        field.display = True
        field.focus()

    def _show_log(self) -> None:
        tabs = self._panes
        if tabs.active not in LOGS:
            tabs.active = "log"
        self._renew()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the pattern, if it is one."""
        try:
            make_query(None, None, event.value, None, None, None)
        except InvalidConfiguration as exc:
            self.notify(str(exc), severity="error", markup=False)
            return
        self._pattern = event.value
        self.action_leave()
        self._renew()

    def action_leave(self) -> None:
        """Go back to the table."""
        self._field.display = False
        self._processes.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer no key that does nothing."""
        del parameters
        return not (action == "ask" and self._read_only)

    def action_ask(self, what: str) -> None:
        """Restart or stop the selected process, if that is meant."""
        name = self._processes.selected
        if name is None:
            return

        def decide(meant: bool | None) -> None:  # noqa: FBT001 - textual's
            if meant:
                self.run_worker(self._do(what, name), group="deeds")

        _ = self.push_screen(Confirm(f"{what} {plain(name)!r}?"), decide)

    async def _do(self, what: str, name: str) -> None:
        self.notify(f"{what} {name}: asked for", markup=False, timeout=2)
        try:
            async for told in self._client.send_async(Request(what, name=name)):
                status = cast("JsonObject", told)
                self.notify(
                    f"{name}: {status['state']}; {status['reason']}", markup=False
                )
        except ControlUnavailable as exc:
            self.notify(f"{what} {name}: {exc}", severity="error", markup=False)
