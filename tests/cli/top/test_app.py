import asyncio
import re
import subprocess
import sys

import anyio
import pytest
from textual.widgets import Input, TabbedContent

from realtalk_async import Command, RestartPolicy
from realtalk_async.cli.top import panes
from realtalk_async.cli.top.app import LiveView
from realtalk_async.cli.top.widgets import ProcessTable, TextPane
from realtalk_async.control import ControlClient, serve_control

TIMEOUT = 120
SIZES = [(80, 24), (200, 60)]
CHATTY = Command("sh", "-c", "echo out; echo err >&2; exec sleep 60")
FAILS = Command("sh", "-c", "echo 'cannot open device' >&2; exit 3")


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path, monkeypatch):
    """The folder of the control sockets of this test."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
async def socket_path(manager):
    """The control socket of the manager."""
    async with serve_control(manager) as path:
        yield path


def screen(app):
    """Return the screen as lines of text."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip) for strip in strips]


async def until(pilot, condition):
    """Let the app work until the condition holds."""
    try:
        with anyio.fail_after(TIMEOUT):
            while not condition():
                await pilot.pause(0.02)
    except TimeoutError:
        raise AssertionError("\n".join(screen(pilot.app))) from None


async def until_visible(pilot, pattern):
    """Wait until a line of the screen matches, and return it."""
    found = []

    def is_visible():
        found[:] = [one for one in screen(pilot.app) if re.search(pattern, one)]
        return bool(found)

    await until(pilot, is_visible)
    return found[0]


@pytest.mark.parametrize("size", SIZES)
async def test_all_columns_are_visible_at_both_sizes(manager, socket_path, size):
    process = await manager.start("talker", CHATTY)
    await process.wait_for_line("err")
    async with LiveView(ControlClient(socket_path)).run_test(size=size) as pilot:
        line = await until_visible(pilot, r"^talker +running")
        assert str(process.pid) in line
        assert re.search(r"00:00:\d\d +0 +\d+\.\d +\d\S+M? +\d+ out", line), line
        heading = await until_visible(pilot, "^name +state")
        assert heading.index("last line") == line.index("out")
        assert all(len(one) == size[0] for one in screen(pilot.app))
        assert "Restart" in await until_visible(pilot, "q Quit")


async def test_the_output_of_the_selected_process_is_live(manager, socket_path):
    await manager.start("one", Command("cat", stdin=True))
    two = await manager.start("two", Command("cat", stdin=True))
    async with LiveView(ControlClient(socket_path)).run_test(size=(80, 24)) as pilot:
        await until_visible(pilot, "^two")
        await pilot.press("down")
        await two.send(b"first\n")
        await until_visible(pilot, r"^\d\d:\d\d:\d\d first")
        await two.send(b"\x1b[31msecond\n")
        await until_visible(pilot, r"^\d\d:\d\d:\d\d second")


async def test_a_coroutine_has_a_row_and_an_explanation_but_no_output(
    manager, socket_path
):
    await manager.start_task("loop", asyncio.Event().wait)
    async with LiveView(ControlClient(socket_path)).run_test(size=(80, 24)) as pilot:
        await until_visible(pilot, "^loop +running +- ")
        await until_visible(pilot, "'loop' is a coroutine: tail is for processes")
        await pilot.press("4")
        await until_visible(pilot, "^loop: running, incarnation 1")
        assert "1 of 1 running" in screen(pilot.app)[0]


async def test_the_log_is_filtered_by_level_component_and_pattern(manager, socket_path):
    await manager.start("one", Command("sleep", "60"))
    await manager.start("two", Command("sleep", "60"))
    await manager.logger.warning("one", "apples")
    await manager.logger.warning("two", "pears")
    async with LiveView(ControlClient(socket_path)).run_test(size=(120, 30)) as pilot:
        lines = pilot.app.query_one("#log-lines", TextPane)
        await until_visible(pilot, "^two")
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


async def test_exits_and_restarts_are_in_the_timeline_and_the_report(
    manager, socket_path
):
    policy = RestartPolicy("transient", max_failures=1.5, first_delay=0.01)
    process = await manager.start("frail", FAILS, restart=policy)
    await process.wait()
    async with LiveView(ControlClient(socket_path)).run_test(size=(120, 40)) as pilot:
        await until_visible(pilot, r"^frail +fatal")
        await pilot.press("3")
        await until_visible(pilot, r"frail#1 +Process died unexpectedly +exit_status 3")
        await until_visible(pilot, r"frail#2 +Process restarted")
        await until_visible(pilot, r"frail#2 +Gave up restarting")
        await pilot.press("4")
        await until_visible(pilot, r"^frail, incarnation 2: exit status 3")
        await until_visible(pilot, r"cannot open device")
        assert "failing" in screen(pilot.app)[0]


async def test_keys_restart_and_stop_after_a_confirmation(manager, socket_path):
    process = await manager.start("one", Command("sleep", "60"))
    before = process.pid
    async with LiveView(ControlClient(socket_path)).run_test(size=(80, 24)) as pilot:
        await until_visible(pilot, "^one +running")
        await pilot.press("s")
        await until_visible(pilot, r"stop 'one'\?  \[y/n\]")
        await pilot.press("n")
        await pilot.press("r", "y")
        await until(
            pilot, lambda: process.pid != before and process.status == "running"
        )
        await pilot.press("s", "y")
        await until(pilot, lambda: process.is_settled)
        await until_visible(pilot, "^one +exited")


async def test_a_read_only_view_has_no_keys_that_act(manager, socket_path):
    await manager.start("one", Command("sleep", "60"))
    async with LiveView(ControlClient(socket_path), read_only=True).run_test(
        size=(80, 24)
    ) as pilot:
        await until_visible(pilot, "^one +running")
        await pilot.press("s")
        await pilot.pause()
        assert not any("stop 'one'" in one for one in screen(pilot.app))
        assert not any("Restart" in one for one in screen(pilot.app))


async def test_the_selected_process_stays_visible_among_many(manager, socket_path):
    for number in range(40):
        await manager.start(f"idle-{number}", Command("sleep", "60"))
    async with LiveView(ControlClient(socket_path)).run_test(size=(80, 24)) as pilot:
        table = pilot.app.query_one(ProcessTable)
        await until_visible(pilot, "^idle-0")
        for key, name in [("end", "idle-39"), ("pageup", None), ("home", "idle-0")]:
            await pilot.press(key)
            assert name in {None, table.selected}
            await until_visible(pilot, f"^{table.selected} ")
        await pilot.press("o")
        await until_visible(pilot, "by name")
        assert table.selected == "idle-0"


async def test_a_pane_that_is_scrolled_back_keeps_its_lines(manager, socket_path):
    counts = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line-$i; done; exec cat"
    process = await manager.start("counter", Command("sh", "-c", counts, stdin=True))
    await process.wait_for_line("line-60")
    async with LiveView(ControlClient(socket_path)).run_test(size=(80, 24)) as pilot:
        lines = pilot.app.query_one("#output-lines", TextPane)
        await until_visible(pilot, r"^\d\d:\d\d:\d\d line-60")
        lines.focus()
        await pilot.press("home")
        await until_visible(pilot, "line-1 ")
        assert not lines.follows
        await process.send(b"news\n")
        await until_visible(pilot, "^counter.* news")
        assert "news" not in lines.text()
        await pilot.press("end")
        await until_visible(pilot, r"^\d\d:\d\d:\d\d news")


async def test_the_end_of_the_app_is_shown(manager):
    async with serve_control(manager) as path:
        await manager.start("one", Command("sleep", "60"))
        app = LiveView(ControlClient(path))
        async with app.run_test(size=(80, 24)) as pilot:
            await until_visible(pilot, "^one +running")
            path.unlink()
            await manager.stop("one")
            for task in asyncio.all_tasks():
                if "Connections._serve" in repr(task.get_coro()):
                    task.cancel()
            await until_visible(pilot, "the app has ended")
            await until_visible(pilot, "^one ")


@pytest.mark.parametrize("keys", [["q"], ["ctrl+c"], ["slash", "ctrl+c"]])
async def test_q_and_ctrl_c_quit(socket_path, keys):
    async with LiveView(ControlClient(socket_path)).run_test(size=(80, 24)) as pilot:
        await until_visible(pilot, "0 of 0 running")
        await pilot.press("slash", "q", "escape")
        assert pilot.app.return_code is None
        await pilot.press(*keys)
        await until(pilot, lambda: pilot.app.return_code == 0)


async def test_every_pane_has_its_key(socket_path):
    async with LiveView(ControlClient(socket_path)).run_test(size=(80, 24)) as pilot:
        await until_visible(pilot, "0 of 0 running")
        for key, pane in zip(
            "1234", ("output", "log", "timeline", "report"), strict=True
        ):
            await pilot.press(key)
            assert pilot.app.query_one(TabbedContent).active == pane
        await pilot.press("r", "s", "o", "q")


def test_the_timeline_shows_the_log_messages_about_incarnations():
    for message in (
        "Process started",
        "Process restarted",
        "Process died unexpectedly",
        "Process stopped (SIGTERM)",
        "Incident: 3 processes failed for the same reason",
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
        timeout=TIMEOUT,
    )


def test_top_without_a_running_app_says_so():
    done = top()
    assert done.returncode == 1
    assert "no running app was found" in done.stderr


async def test_top_without_a_terminal_names_an_alternative(socket_path):
    done = await anyio.to_thread.run_sync(top, "--app", str(socket_path))
    assert done.returncode == 1
    assert "ps --json" in done.stderr
