import json
import re
import signal
import subprocess
import sys
import time

import anyio
import anyio.to_thread
import pytest
from click.shell_completion import ShellComplete

from realtalk_async.cli.commands import main
from realtalk_async.cli.inspect import describe_losses
from realtalk_async.control import serve_control
from realtalk_async.testing import programs

TIMEOUT = 120


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path, monkeypatch):
    """The folder of the control sockets of this test."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "realtalk-async"


@pytest.fixture
async def socket_path(manager):
    """The control socket of the manager."""
    async with serve_control(manager) as path:
        yield path


@pytest.fixture
def app(runtime_folder):
    """An app that runs by `realtalk-async run`: one process lives, one has died once."""
    here = runtime_folder.parent
    (here / "app.toml").write_text("""\
        [process.mic]
        command = "[ -e again ] || { touch again; echo device busy >&2; exit 3; }; \
echo ready; exec sleep 1000"
        restart = { first_delay = 0.0 }

        [process."what [it] is"]
        command = "echo hello; exec sleep 1000"
        """)
    command = [sys.executable, "-m", "realtalk_async.cli", "run", "app.toml"]
    one = subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, text=True)
    said = ""
    while "| ready" not in said or "| hello" not in said:
        said += (line := one.stdout.readline())
        assert line, said
    yield one
    one.send_signal(signal.SIGINT)
    one.stdout.read()
    one.stdout.close()
    assert one.wait(TIMEOUT) in {0, 130}


def realtalk(*arguments, code=0):
    """Return the output of a command."""
    command = [sys.executable, "-m", "realtalk_async.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_every_command_finds_the_running_app(app):
    found = realtalk("ps")
    assert f"pid {app.pid}" in found
    assert re.search(r"^mic +running +\d+ +2 +[\d:]+ +1", found, re.MULTILINE)
    assert "what [it] is" in found
    (one,) = map(json.loads, realtalk("ps", "--json").splitlines())
    assert one["pid"] == app.pid
    assert one["processes"][0]["incarnation"] == 2

    assert realtalk("tail", "mic").splitlines()[-1].endswith("stdout | ready")
    lines = [json.loads(one) for one in realtalk("tail", "mic", "--json").splitlines()]
    assert [one["text"] for one in lines] == ["device busy", "ready"]
    assert "[ERROR] [mic] Process died" in realtalk("logs", "--level", "ERROR")
    assert "incarnation 1: exit status 3" in realtalk("history", "mic")
    assert "restarted by policy" in realtalk("history")
    found = realtalk("explain", "mic")
    assert "looks like device busy" in found
    assert "mic: running" in found

    assert "mic: running, pid " in realtalk("restart", "mic")
    assert json.loads(realtalk("ps", "--json"))["processes"][0]["incarnation"] == 3
    assert "mic: exited" in realtalk("stop", "mic")
    assert "exited" in realtalk("ps", "--app", str(app.pid))


def test_a_refused_request_gives_one_line_and_code_1(app):
    found = realtalk("explain", "nobody", code=1)
    assert "no process is named 'nobody'" in found
    assert "mic" in found
    assert "no running app has the pid 1" in realtalk("ps", "--app", "1", code=1)


def test_a_run_ends_when_all_processes_are_stopped(app):
    realtalk("stop", "mic")
    realtalk("stop", "what [it] is")
    assert app.wait(TIMEOUT) == 0


async def test_the_shell_completes_the_names_of_processes(manager, socket_path):
    await manager.start("mine", programs.runs())
    await manager.start("other", programs.runs())
    shell = ShellComplete(main, {}, "realtalk-async", "_REALTALK_ASYNC_COMPLETE")

    def complete(begun):
        return [one.value for one in shell.get_completions(["tail"], begun)]

    run = anyio.to_thread.run_sync
    assert await run(lambda: complete("m")) == ["mine"]
    assert await run(lambda: complete("")) == ["mine", "other"]


async def test_with_two_apps_one_must_be_chosen(app, manager, socket_path):
    await manager.start("mine", programs.prints("here"))
    run = anyio.to_thread.run_sync
    assert "stdout | here" in await run(lambda: realtalk("tail", "mine"))
    found = await run(lambda: realtalk("logs", code=1))
    assert f"{app.pid} (" in found
    assert "choose one by its pid" in found
    await run(lambda: realtalk("logs", "--app", str(app.pid)))


@pytest.mark.usefixtures("can_make_cgroups")
async def test_ps_shows_a_containment_that_is_not_the_default(manager, socket_path):
    await manager.start("one", programs.runs())
    plain = await anyio.to_thread.run_sync(realtalk, "ps")
    assert "group" not in plain
    await manager.start("two", programs.runs(), containment="cgroup")
    found = await anyio.to_thread.run_sync(realtalk, "ps")
    assert re.search(r"^one .* running *$", found, re.MULTILINE)
    assert re.search(r"^two .* cgroup; running *$", found, re.MULTILINE)
    assert f"containment: {manager.containment.path}; what it cannot do: " in found


def test_without_a_running_app_the_message_says_how_to_get_one():
    assert "no running app was found" in realtalk("ps")
    assert "realtalk-async run" in realtalk("logs", code=1)


def test_a_reason_that_several_processes_share_is_told_once():
    degraded = {"a": "exit status 1", "b": "exit status 2", "c": "exit status 1"}
    assert describe_losses(degraded) == [
        "degraded: a, c: exit status 1",
        "degraded: b: exit status 2",
    ]


async def test_ps_shows_a_suspended_app_as_one_that_does_not_answer(
    app, manager, socket_path
):
    await manager.start("mine", programs.runs())
    run = anyio.to_thread.run_sync
    app.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        found = await run(realtalk, "ps")
        (status,) = [
            one
            for one in map(
                json.loads, (await run(realtalk, "ps", "--json")).split("\n")[:-1]
            )
            if one["pid"] == app.pid
        ]
        assert time.monotonic() - began < 10
        message = await run(lambda: realtalk("stop", "mic", code=1))
    finally:
        app.send_signal(signal.SIGCONT)
    pattern = rf"run app\.toml  pid {app.pid}  does not answer \(suspended\)$"
    assert re.search(pattern, found, re.MULTILINE)
    assert re.search(r"^mine +running", found, re.MULTILINE)
    assert status["status"] == "does not answer (suspended)"
    assert f"kill -CONT {app.pid}" in message
