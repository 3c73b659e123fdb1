"""The live view: what it shows at any size, what its keys do, what it costs nobody."""

import asyncio
import os
import re
import subprocess
import sys

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.widgets import Input, TabbedContent

from realtalk_async import Command, RestartPolicy
from realtalk_async.cli.top import panes
from realtalk_async.cli.top.app import View
from realtalk_async.cli.top.columns import human, plain, table
from realtalk_async.cli.top.resource_usage import loads
from realtalk_async.cli.top.rows import ORDERS, Board, Load, Row
from realtalk_async.cli.top.widgets import Lines, Processes
from realtalk_async.control import ControlClient, Request, serve_control
from realtalk_async.control.handlers import Differ

PATIENCE = 8
SIZES = [(80, 24), (200, 60)]
CHATTY = Command("sh", "-c", "echo out; echo err >&2; exec sleep 60")
FAILS = Command("sh", "-c", "echo 'cannot open device' >&2; exit 3")


@pytest.fixture(autouse=True)
def private(tmp_path, monkeypatch):
    """The runtime folder of this test."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
async def window(manager):
    """The path of a socket that looks at the manager."""
    async with serve_control(manager) as path:
        yield path


def screen(app):
    """Return the screen as lines of text."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip) for strip in strips]


async def until(pilot, condition):
    """Let the app work until it is as expected."""
    try:
        with anyio.fail_after(PATIENCE):
            while not condition():
                await pilot.pause(0.02)
    except TimeoutError:
        raise AssertionError("\n".join(screen(pilot.app))) from None


async def until_seen(pilot, pattern):
    """Wait until a line of the screen matches, and return it."""
    found = []

    def seen():
        found[:] = [one for one in screen(pilot.app) if re.search(pattern, one)]
        return bool(found)

    await until(pilot, seen)
    return found[0]


# ---- the watch


def test_only_what_has_changed_is_told():
    """All of it at first."""
    differ = Differ()
    one, two = {"state": "running", "bytes": 0}, {"state": "running", "bytes": 5}
    assert differ.compare({"a": one, "b": one}) == {
        "changed": {"a": one, "b": one},
        "gone": [],
    }
    assert differ.compare({"a": two, "b": one}) == {
        "changed": {"a": {"bytes": 5}},
        "gone": [],
    }
    assert differ.compare({"b": one}) == {"changed": {}, "gone": ["a"]}


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("abc"),
            st.fixed_dictionaries(
                {"state": st.sampled_from("xy"), "bytes": st.integers()}
            ),
        )
    )
)
def test_who_takes_in_all_changes_knows_all(looks):
    """However the rows come and go."""
    differ, board = Differ(), Board()
    for now, rows in enumerate(looks, 1):
        board.take(differ.compare(rows), float(now))
        known = {n: {"state": r.state, "bytes": r.bytes} for n, r in board.rows.items()}
        assert known == rows


async def test_a_watch_tells_the_app_and_then_its_changes(manager, window):
    """A look of a hundred idle children is small."""
    for number in range(5):
        await manager.start(f"idle-{number}", Command("sleep", "60"))
    looks = ControlClient(window).send_async(Request("watch", period=0.1))
    with anyio.fail_after(PATIENCE):
        first = await anext(looks)
        assert set(first["changed"]) == {f"idle-{number}" for number in range(5)}
        assert first["pid"] == os.getpid()
        assert (await anext(looks))["changed"] == {}
        await manager.stop("idle-3")
        while not (told := (await anext(looks))["changed"]):
            pass
    assert set(told) == {"idle-3"}
    await looks.aclose()


async def test_a_line_is_told_as_wide_as_was_asked(manager, window):
    """A megabyte without an end must not be shipped twice a second."""
    wide = Command("sh", "-c", "printf '%0100000d\\n' 7; exec sleep 60")
    process = await manager.start("wide", wide)
    await process.wait_for_line("7$")
    request = Request("tail", name="wide", width=30)
    told = [one async for one in ControlClient(window).send_async(request)]
    assert [len(one["text"]) for one in told] == [30]


# ---- the board


def told(**rows):
    return {"status": "running", "degraded": {}, "gone": [], "changed": rows}


def test_rates_are_differences():
    """Over the time between two looks; nobody has a rate at the first."""
    board = Board()
    board.take(told(a={"bytes": 1000}), 10.0)
    assert board.rows["a"].rate == 0
    board.take(told(a={"bytes": 3000}), 12.0)
    assert board.rows["a"].rate == 1000
    board.take(told(), 13.0)
    assert board.rows["a"].rate == 0


def test_processors_are_shared_by_life():
    """A new pid begins anew; who is dead uses nothing."""
    board = Board()
    board.take(told(a={"pid": 7, "uptime": None}), 1.0)
    board.measure({7: Load(5.0, 100)}, 1.0)
    board.measure({7: Load(5.5, 100)}, 2.0)
    assert (board.rows["a"].cpu, board.rows["a"].memory) == (50.0, 100)
    board.take(told(a={"pid": 8}), 3.0)
    board.measure({8: Load(9.0, 50)}, 3.0)
    assert board.rows["a"].cpu == 0
    board.take(told(a={"uptime": 3.0}), 4.0)
    board.measure({8: Load(9.5, 50)}, 4.0)
    assert board.rows["a"].cpu is None


def test_every_order_has_all_rows():
    """By start as they came, by output the loudest first."""
    board = Board()
    board.take(told(b={"bytes": 0}, a={"bytes": 0}), 1.0)
    board.take(told(a={"bytes": 9}), 2.0)
    orders = {order: [row.name for row in board.ordered(order)] for order in ORDERS}
    assert orders["start"] == ["b", "a"]
    assert orders["name"] == orders["output"] == ["a", "b"]
    assert all(sorted(names) == ["a", "b"] for names in orders.values())


async def test_a_session_counts_with_all_its_members():
    """What a shell's children use is the shell's."""
    two = ["sh", "-c", "sleep 60 & sleep 60 & wait"]
    child = await asyncio.create_subprocess_exec(*two, start_new_session=True)
    try:
        with anyio.fail_after(PATIENCE):
            while (found := loads().get(child.pid)) is None or found.memory < 1000:
                await asyncio.sleep(0.01)
        assert found.cpu >= 0
    finally:
        os.killpg(child.pid, 9)
        await child.wait()


# ---- how it looks

TEXT = st.text(max_size=40)


@given(
    st.lists(TEXT, min_size=1, max_size=3),
    st.integers(40, 250),
    st.integers(0, 10**15),
    st.text(max_size=300),
)
def test_columns_stand_below_their_headings(names, width, count, last):
    """At any width, whatever the names; wide characters too."""
    shape = table(names, width)
    row = Row(names[0], "running", 4194304, 99, 0.0, None, 7, bytes=1, last=last)
    row.rate, row.cpu, row.memory = float(count), 99.9, count
    cells = shape.cells(row, 100.0)
    assert sum(map(cell_len, cells[:3])) == len(shape.heading()) - len("last line")
    if width >= 80:
        assert sum(map(cell_len, cells[:3])) <= width - 10


@given(st.floats(0, 1e15))
def test_bytes_are_told_in_five_characters(count):
    """So that columns hold."""
    assert len(human(count)) <= 5


@given(st.text())
def test_nothing_that_a_child_says_moves_the_cursor(text):
    """No escape, no control character, no change of direction."""
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]", plain(text))


def test_colours_of_a_child_are_left_out():
    """The text stays."""
    assert plain("\x1b[1;31mred\x1b[0m\tand \x1b]0;title\x07plain") == "red and plain"


# ---- the view


@pytest.mark.parametrize("size", SIZES)
async def test_all_columns_are_seen_at_both_sizes(manager, window, size):
    """Name, state, pid, life, uptime, restarts, CPU, memory, rate, last line."""
    process = await manager.start("talker", CHATTY)
    await process.wait_for_line("err")
    async with View(ControlClient(window)).run_test(size=size) as pilot:
        line = await until_seen(pilot, r"^talker +running")
        assert str(process.pid) in line
        assert re.search(r"00:00:\d\d +0 +\d+\.\d +\d\S+M? +\d+ out", line), line
        heading = await until_seen(pilot, "^name +state")
        assert heading.index("last line") == line.index("out")
        assert all(len(one) == size[0] for one in screen(pilot.app))
        assert "Restart" in await until_seen(pilot, "q Quit")


async def test_output_of_the_selected_one_is_live(manager, window):
    """Also after another one was selected."""
    await manager.start("one", Command("cat", stdin=True))
    two = await manager.start("two", Command("cat", stdin=True))
    async with View(ControlClient(window)).run_test(size=(80, 24)) as pilot:
        await until_seen(pilot, "^two")
        await pilot.press("down")
        await two.send(b"first\n")
        await until_seen(pilot, r"^\d\d:\d\d:\d\d first")
        await two.send(b"\x1b[31msecond\n")
        await until_seen(pilot, r"^\d\d:\d\d:\d\d second")


async def test_a_coroutine_is_shown_and_explained_but_says_nothing(manager, window):
    """It stands in the table like a process; its pane says why it is empty."""
    await manager.start_task("loop", asyncio.Event().wait)
    async with View(ControlClient(window)).run_test(size=(80, 24)) as pilot:
        await until_seen(pilot, "^loop +running +- ")
        await until_seen(pilot, "'loop' is a coroutine: tail is for processes")
        await pilot.press("4")
        await until_seen(pilot, "^loop: running, incarnation 1")
        assert "1 of 1 run" in screen(pilot.app)[0]


async def test_the_log_is_filtered_by_level_component_and_pattern(manager, window):
    """By keys; a pattern that is none is told."""
    await manager.start("one", Command("sleep", "60"))
    await manager.start("two", Command("sleep", "60"))
    await manager.logger.warning("one", "apples")
    await manager.logger.warning("two", "pears")
    async with View(ControlClient(window)).run_test(size=(120, 30)) as pilot:
        lines = pilot.app.query_one("#log-lines", Lines)
        await until_seen(pilot, "^two")
        await pilot.press("2")
        await until(pilot, lambda: "Process started" in lines.text())
        await pilot.press("l", "l")  # WARNING
        await until(pilot, lambda: "Process started" not in lines.text())
        assert "apples" in lines.text()
        assert "pears" in lines.text()
        await pilot.press("c")  # only the selected one
        await until(pilot, lambda: "pears" not in lines.text())
        await pilot.press("c", "slash", *"p[", "enter")
        await until(pilot, lambda: len(pilot.app._notifications) == 1)
        await pilot.press("backspace", *"ea", "enter")
        await until(pilot, lambda: "apples" not in lines.text())
        assert "pears" in lines.text()
        assert not pilot.app.query_one(Input).display


async def test_deaths_and_restarts_have_a_timeline_and_a_report(manager, window):
    """When, who, which life, how it ended; what it said last."""
    policy = RestartPolicy("transient", max_failures=1.5, first_delay=0.01)
    process = await manager.start("frail", FAILS, restart=policy)
    await process.wait()
    async with View(ControlClient(window)).run_test(size=(120, 40)) as pilot:
        await until_seen(pilot, r"^frail +fatal")
        await pilot.press("3")
        await until_seen(pilot, r"frail#1 +Process died unexpectedly +exit_status 3")
        await until_seen(pilot, r"frail#2 +Process restarted")
        await until_seen(pilot, r"frail#2 +Gave up restarting")
        await pilot.press("4")
        await until_seen(pilot, r"^frail, incarnation 2: exit status 3")
        await until_seen(pilot, r"cannot open device")
        assert "in trouble" in screen(pilot.app)[0]


async def test_keys_restart_and_stop_after_a_question(manager, window):
    """No is no."""
    process = await manager.start("one", Command("sleep", "60"))
    before = process.pid
    async with View(ControlClient(window)).run_test(size=(80, 24)) as pilot:
        await until_seen(pilot, "^one +running")
        await pilot.press("s")
        await until_seen(pilot, r"stop 'one'\?  \[y/n\]")
        await pilot.press("n")
        await pilot.press("r", "y")
        await until(
            pilot, lambda: process.pid != before and process.status == "running"
        )
        await pilot.press("s", "y")
        await until(pilot, lambda: process.is_settled)
        await until_seen(pilot, "^one +exited")


async def test_a_view_that_is_read_only_offers_no_deeds(manager, window):
    """The keys are neither shown nor heard."""
    await manager.start("one", Command("sleep", "60"))
    async with View(ControlClient(window), read_only=True).run_test(
        size=(80, 24)
    ) as pilot:
        await until_seen(pilot, "^one +running")
        await pilot.press("s")
        await pilot.pause()
        assert not any("stop 'one'" in one for one in screen(pilot.app))
        assert not any("Restart" in one for one in screen(pilot.app))


async def test_of_many_only_those_in_sight_are_drawn(manager, window):
    """The selected one is always among them."""
    for number in range(40):
        await manager.start(f"idle-{number}", Command("sleep", "60"))
    async with View(ControlClient(window)).run_test(size=(80, 24)) as pilot:
        table = pilot.app.query_one(Processes)
        await until_seen(pilot, "^idle-0")
        for key, name in [("end", "idle-39"), ("pageup", None), ("home", "idle-0")]:
            await pilot.press(key)
            assert name in {None, table.selected}
            await until_seen(pilot, f"^{table.selected} ")
        await pilot.press("o")
        await until_seen(pilot, "by name")
        assert table.selected == "idle-0"


async def test_who_scrolls_back_reads_in_peace(manager, window):
    """And at the end follows again."""
    counts = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line-$i; done; exec cat"
    process = await manager.start("counter", Command("sh", "-c", counts, stdin=True))
    await process.wait_for_line("line-60")
    async with View(ControlClient(window)).run_test(size=(80, 24)) as pilot:
        lines = pilot.app.query_one("#output-lines", Lines)
        await until_seen(pilot, r"^\d\d:\d\d:\d\d line-60")
        lines.focus()
        await pilot.press("home")
        await until_seen(pilot, "line-1 ")
        assert not lines.follows
        await process.send(b"news\n")
        await until_seen(pilot, "^counter.* news")
        assert "news" not in lines.text()
        await pilot.press("end")
        await until_seen(pilot, r"^\d\d:\d\d:\d\d news")


async def test_the_end_of_the_app_is_told(manager):
    """What was seen last stays."""
    async with serve_control(manager) as path:
        await manager.start("one", Command("sleep", "60"))
        app = View(ControlClient(path))
        async with app.run_test(size=(80, 24)) as pilot:
            await until_seen(pilot, "^one +running")
            path.unlink()
            await manager.stop("one")
            for task in asyncio.all_tasks():
                if "Connections._serve" in repr(task.get_coro()):
                    task.cancel()
            await until_seen(pilot, "the app has ended")
            await until_seen(pilot, "^one ")


@pytest.mark.parametrize("keys", [["q"], ["ctrl+c"], ["slash", "ctrl+c"]])
async def test_it_ends_by_q_and_by_ctrl_c(window, keys):
    """Ctrl-C also while a pattern is typed in, where q is a letter."""
    async with View(ControlClient(window)).run_test(size=(80, 24)) as pilot:
        await until_seen(pilot, "0 of 0 run")
        await pilot.press("slash", "q", "escape")
        assert pilot.app.return_code is None
        await pilot.press(*keys)
        await until(pilot, lambda: pilot.app.return_code == 0)


async def test_every_pane_has_its_key(window):
    """1 to 4; an app without any process is shown as well."""
    async with View(ControlClient(window)).run_test(size=(80, 24)) as pilot:
        await until_seen(pilot, "0 of 0 run")
        for key, pane in zip(
            "1234", ("output", "log", "timeline", "report"), strict=True
        ):
            await pilot.press(key)
            assert pilot.app.query_one(TabbedContent).active == pane
        await pilot.press("r", "s", "o", "q")


def test_what_the_timeline_shows_is_what_the_log_tells():
    """Each log message about an incarnation."""
    for message in (
        "Process started",
        "Process restarted",
        "Process died unexpectedly",
        "Process ended as requested",
        "Process cannot be killed",
        "Gave up restarting",
        "Shutting down: web is lost",
    ):
        assert re.search(panes.TIMELINE, message)
    assert not re.search(panes.TIMELINE, "Process the queue")


# ---- from the command line


def top(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "realtalk_async.cli", "top", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
    )


def test_without_an_app_it_says_so():
    """And what would make one."""
    done = top()
    assert done.returncode == 1
    assert "no running app was found" in done.stderr


async def test_without_a_terminal_it_says_what_else_there_is(window):
    """Instead of escapes in a file."""
    done = await anyio.to_thread.run_sync(top, "--app", str(window))
    assert done.returncode == 1
    assert "ps --json" in done.stderr
