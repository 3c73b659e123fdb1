"""The window into a running app: through the socket, and by the command line."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys

import anyio
import anyio.to_thread
import pytest
from click.shell_completion import ShellComplete
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async import InvalidConfiguration, RestartPolicy
from realtalk_async.cli.commands import main
from realtalk_async.control import client, protocol
from realtalk_async.control import server as module
from realtalk_async.control.server import control, may_enter
from realtalk_async.control.sockets import ControlUnavailable, doors, folder
from realtalk_async.testing import programs

PATIENCE = 30
TEXTS = st.text(max_size=8)


@pytest.fixture(autouse=True)
def private(tmp_path, monkeypatch):
    """The runtime folder of this test."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "realtalk-async"


@pytest.fixture
async def window(manager):
    """The path of a socket that looks at the manager."""
    async with control(manager) as path:
        yield path


async def ask(path, kind, **rest):
    """Ask from a thread, as another process would; return all parts of the answer."""
    question = protocol.Question(kind, **rest)
    with anyio.fail_after(PATIENCE):
        return await anyio.to_thread.run_sync(lambda: list(client.ask(path, question)))


async def raw(path, data):
    """Send bytes and return all that comes back."""
    with anyio.fail_after(PATIENCE):
        async with await anyio.connect_unix(path) as stream:
            await stream.send(data)
            return b"".join([part async for part in stream])


# ---- the socket


async def test_nobody_else_can_enter(window, private):
    """Folder 0700, socket 0600."""
    assert window.parent == private
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert stat.S_IMODE(window.stat().st_mode) == 0o600


async def test_the_socket_goes_with_the_block(manager):
    """And can be opened again."""
    for _ in range(2):
        async with control(manager) as path:
            assert doors() == [path]
        assert not path.exists()


async def test_one_app_may_have_several_windows(manager):
    """Each finds its own name."""
    async with control(manager) as one, control(manager) as two:
        assert one != two
        assert sorted(doors()) == sorted([one, two])


async def test_a_path_may_be_chosen_and_be_long(manager, tmp_path):
    """Longer than the kernel takes."""
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    async with control(manager, deep / "my.sock") as path:
        assert path == deep / "my.sock"
        assert len(os.fsencode(path)) > 107
        (told,) = await ask(path, "ps")
        assert told["pid"] == os.getpid()


async def test_a_path_that_is_taken_is_told(manager, tmp_path):
    """And what was there stays."""
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(ControlUnavailable, match="taken"):
        async with control(manager, tmp_path / "taken"):
            pass
    assert (tmp_path / "taken").read_text() == "mine"


async def test_a_folder_that_others_may_enter_is_refused(manager, private):
    """It may be a trap."""
    private.mkdir(mode=0o755)
    private.chmod(0o755)
    with pytest.raises(ControlUnavailable, match="chmod 700"):
        async with control(manager):
            pass


async def test_without_a_runtime_folder_there_is_a_temporary_one(monkeypatch, tmp_path):
    """With the user's number."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert folder() == tmp_path / f"realtalk-async-{os.getuid()}"


async def test_what_dead_apps_have_left_is_removed(private, manager):
    """When somebody looks; other files are left alone."""
    place = folder()
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(place / "999999999.sock"))
    (place / "notes").touch()
    async with control(manager) as path:
        assert doors() == [path]
    assert [one.name for one in place.iterdir()] == ["notes"]


def test_who_may_enter():
    """The app's user, and root."""
    assert may_enter(1000, 1000)
    assert may_enter(0, 1000)
    assert not may_enter(1001, 1000)
    assert not may_enter(1000, 0)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
async def test_another_user_is_sent_away(manager):
    """By the kernel's word, even if the file's mode would let him in."""
    where = f"\0realtalk-test-{os.getpid()}"  # a name without any file or mode
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(where)
        listening.listen()
        listening.setblocking(False)
        window = module.Window(manager)
        server = await asyncio.start_unix_server(window.enter, sock=listening)
        code = (
            "import os, socket; os.setuid(65534); "
            "one = socket.socket(socket.AF_UNIX); "
            f'one.connect({where!r}); one.sendall(b\'{{"ask": "ps"}}\\n\'); '
            "print(one.recv(10000).decode())"
        )
        stranger = await manager.start("stranger", programs.python(code))
        line = await stranger.wait_for_line("error|item", timeout=PATIENCE)
        assert "only the user" in line.text
        server.close()
        await window.aclose()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\n", "a question is a line of JSON"),
        (b"[]\n", "a JSON object"),
        (b"{}\n", "'ask' is one of ps, watch, tail"),
        (b'{"ask": "sing"}\n', "not 'sing'"),
        (b'{"ask": "tail"}\n', "'tail' needs a 'name'"),
        (b'{"ask": "tail", "name": 3}\n', "'name' is not str"),
        (b'{"ask": "tail", "name": "a", "n": true}\n', "'n' is not int"),
        (b'{"ask": "tail", "name": "a", "n": -1}\n', "from 0 to"),
        (b'{"ask": "ps", "x": 1}\n', "no such key 'x'"),
        (b'{"ask": "tail", "name": "nobody"}\n', "no process named 'nobody'"),
        (b'{"ask": "logs", "pattern": "("}\n', "regular"),
        (b"x" * (protocol.MOST_ASKED + 10), "limit"),
    ],
)
async def test_nonsense_is_told_and_harms_nobody(window, data, told):
    """The next one is answered as usual."""
    answer = json.loads((await raw(window, data)).splitlines()[-1])
    assert told in answer["error"]
    assert await ask(window, "ps")


async def test_a_visitor_who_says_nothing_is_sent_away(window, monkeypatch):
    """After a while."""
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    with anyio.fail_after(PATIENCE):
        async with await anyio.connect_unix(window) as stream:
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()


async def test_too_many_visitors_are_told_so(window, monkeypatch):
    """Those who are in stay in."""
    monkeypatch.setattr(module, "MOST_VISITORS", 2)
    with anyio.fail_after(PATIENCE):
        async with (
            await anyio.connect_unix(window) as one,
            await anyio.connect_unix(window),
        ):
            with pytest.raises(ControlUnavailable, match="2 others"):
                await ask(window, "ps")
            await one.send(b'{"ask": "ps"}\n')
            assert b"item" in await one.receive()


async def test_who_looks_in_when_it_closes_is_sent_away(manager):
    """Whoever follows gets an end, and we are not kept waiting."""
    await manager.start("app", programs.runs())
    with anyio.fail_after(PATIENCE):
        async with control(manager) as path:
            stream = await anyio.connect_unix(path)
            await stream.send(b'{"ask": "tail", "name": "app", "follow": true}\n')
            assert b"ready" in await stream.receive()
        async with stream:
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()


# ---- what is told


async def test_ps_tells_of_every_process(manager, window):
    """And of the app itself."""
    await manager.start("app", programs.runs())
    (told,) = await ask(window, "ps")
    assert told["pid"] == os.getpid()
    assert told["status"] == "running"
    assert told["log"] == str(manager.logger.path)
    (app,) = told["processes"]
    assert (app["name"], app["state"]) == ("app", "running")
    assert app["pid"] == manager.processes["app"].pid


async def test_tail_tells_the_newest_lines(manager, window):
    """Of both streams, in the order of arrival."""
    command = programs.shell(
        "for n in 1 2 3; do echo o$n; sleep 0.05; echo e$n >&2; done"
    )
    await (await manager.start("app", command)).wait()
    lines = await ask(window, "tail", name="app", n=3)
    assert [one["text"] for one in lines][-1] == "e3"
    assert len(lines) == 3
    assert await ask(window, "tail", name="app", n=0) == []
    assert len(await ask(window, "tail", name="app")) == 6


async def test_tail_follows_to_the_end_without_a_gap(manager, window):
    """From the newest lines on, each once."""
    command = programs.python(
        "import time\n"
        "for n in range(200): print(n); time.sleep(0.001)\n"
        "print('end', end='')"
    )
    await manager.start("app", command)
    lines = await ask(window, "tail", name="app", n=1000, follow=True)
    assert [one["text"] for one in lines] == [*map(str, range(200)), "end"]


async def test_a_follower_who_goes_is_forgotten(manager):
    """His task ends with him."""
    await manager.start("app", programs.runs())
    window = module.Window(manager)
    async with control(manager) as path:
        async with await anyio.connect_unix(path) as stream:
            await stream.send(b'{"ask": "tail", "name": "app", "follow": true}\n')
            await stream.receive()
        with anyio.fail_after(PATIENCE):
            assert await ask(path, "ps")
    assert not window._visits


async def test_logs_are_filtered_and_followed(manager, window):
    """As the log's own questions are."""
    manager.logger.info("a", "one")
    manager.logger.error("b", "two")
    (entry,) = await ask(window, "logs", component="b")
    assert (entry["level"], entry["message"]) == ("ERROR", "two")
    assert "[ERROR] [b] two" in entry["line"]
    with anyio.fail_after(PATIENCE):
        async with await anyio.connect_unix(window) as stream:
            await stream.send(b'{"ask": "logs", "level": "ERROR", "follow": true}\n')
            assert b"two" in await stream.receive()
            manager.logger.info("c", "three")
            manager.logger.error("d", "four")
            assert b"four" in await stream.receive()


async def test_explain_tells_of_the_last_failure(manager, window):
    """Also when it runs again; and what was done about it."""
    command = programs.shell(
        "[ -e again ] && exec sleep 1000; touch again; echo device busy >&2; exit 3",
        cwd=str(window.parent),
    )
    app = await manager.start("app", command, restart=RestartPolicy(first_delay=0))
    with anyio.fail_after(PATIENCE):
        while app.incarnation < 2:
            await anyio.sleep(0.01)
    (told,) = await ask(window, "explain", name="app")
    assert told["report"]["exit_status"] == 3
    assert told["report"]["sign"]["kind"] == "device busy"
    assert told["status"]["state"] == "running"
    assert [one["succeeded"] for one in told["attempts"]] == [True]
    assert "device busy" in told["text"]
    assert "restarted by policy: pid" in told["text"]


async def test_explain_tells_that_nothing_has_failed(manager, window):
    """If nothing has."""
    await manager.start("app", programs.runs())
    (told,) = await ask(window, "explain", name="app")
    assert "nothing has failed so far" in told["text"]


async def test_coroutines_are_told_of_like_processes(manager, window):
    """But they have no output, and are not restarted from outside."""

    async def fail():
        raise ValueError("no wind")

    async def wait():
        await anyio.sleep_forever()

    await manager.start_task("sail", fail, restart=RestartPolicy("temporary"))
    await manager.start_task("wait", wait)
    with anyio.fail_after(PATIENCE):
        while manager.tasks["sail"].get_status().status == "running":
            await anyio.sleep(0.01)
    (told,) = await ask(window, "explain", name="sail")
    assert "ValueError: no wind" in told["text"]
    assert len(await ask(window, "history")) == 2
    (told,) = await ask(window, "ps")
    assert [one["name"] for one in told["processes"]] == ["sail", "wait"]
    for kind in ("tail", "restart"):
        with pytest.raises(ControlUnavailable, match="is a coroutine"):
            await ask(window, kind, name="wait")
    (status,) = await ask(window, "stop", name="wait")
    assert status["status"] == "dead"


async def test_history_tells_every_life(manager, window):
    """Of one or of all; lines only if they are asked for."""
    await (await manager.start("a", programs.prints("hello"))).wait()
    await (await manager.start("b", programs.exits(0))).wait()
    a, b = await ask(window, "history")
    assert a["incarnations"][0]["stdout"] == []
    assert b["incarnations"][0]["exit_status"] == 0
    (a,) = await ask(window, "history", name="a", n=5)
    assert a["incarnations"][0]["stdout"][0]["text"] == "hello"


# ---- what is done


async def test_a_running_process_is_restarted(manager, window):
    """By its ladder; it counts as no failure."""
    app = await manager.start("app", programs.runs())
    await app.wait_for_line("ready")
    before = app.pid
    (status,) = await ask(window, "restart", name="app")
    assert status["state"] == "running"
    assert status["pid"] == app.pid != before
    assert app.get_history().failures == []


async def test_one_that_is_never_restarted_by_itself_is_too(manager, window):
    """For somebody has asked for it."""
    policy = RestartPolicy("temporary")
    app = await manager.start("app", programs.runs(), restart=policy)
    before = app.pid
    (status,) = await ask(window, "restart", name="app")
    assert status["pid"] != before
    assert app.incarnation == 2


async def test_a_dead_process_is_restarted(manager, window):
    """Also one that was stopped."""
    app = await manager.start("app", programs.runs())
    (stopped,) = await ask(window, "stop", name="app")
    assert stopped["state"] == "exited"
    (status,) = await ask(window, "restart", name="app")
    assert status["state"] == "running"
    assert app.status == "running"


async def test_a_restart_that_fails_is_told(manager, window, tmp_path):
    """With its reason."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    from realtalk_async import Command

    policy = RestartPolicy(max_failures=0)
    await manager.start("app", Command(program), restart=policy)
    program.unlink()
    with pytest.raises(ControlUnavailable, match="No such file"):
        await ask(window, "restart", name="app")


# ---- the words


@given(
    st.builds(
        protocol.Question,
        st.sampled_from(protocol.ASKS),
        TEXTS,
        st.none() | st.integers(0, protocol.MOST_LINES),
        st.booleans(),
        st.none() | TEXTS,
        st.none() | TEXTS,
        st.none() | TEXTS,
    )
)
def test_a_question_is_understood_as_it_was_meant(question):
    """Whatever the names."""
    line = question.encode()
    assert line.count(b"\n") == 1
    assert protocol.Question.decode(line) == question


@given(st.binary())
def test_any_bytes_are_a_question_or_a_mistake(data):
    """Never anything else."""
    with contextlib.suppress(InvalidConfiguration):
        protocol.Question.decode(data)


@given(st.binary())
def test_any_bytes_are_an_answer_or_its_failed_end(data):
    """A broken one too."""
    assert isinstance(
        protocol.understand(data), protocol.Item | protocol.Failed | protocol.Ended
    )


def test_an_answer_that_is_too_long_is_told_as_a_mistake():
    """It is not cut in the middle."""
    told = protocol.understand(protocol.item("x" * protocol.MOST_TOLD))
    assert isinstance(told, protocol.Failed)
    assert "ask for less" in told.why


# ---- the command line


@pytest.fixture
def app(private):
    """An app that runs by `realtalk-async run`: one process lives, one has died once."""
    here = private.parent
    (here / "app.toml").write_text("""\
        [process.mic]
        command = "[ -e again ] || { touch again; echo device busy >&2; exit 3; }; \
echo ready; exec sleep 1000"
        restart = { first_delay = 0.0 }

        [process."what [it] is"]
        command = "echo hello; exec sleep 1000"
        """)
    words = [sys.executable, "-m", "realtalk_async.cli", "run", "app.toml"]
    one = subprocess.Popen(words, cwd=here, stdout=subprocess.PIPE, text=True)
    said = ""
    while "| ready" not in said or "| hello" not in said:
        said += (line := one.stdout.readline())
        assert line, said
    yield one
    one.send_signal(signal.SIGINT)
    one.stdout.read()
    one.stdout.close()
    assert one.wait(PATIENCE) in {0, 130}


def realtalk(*arguments, code=0):
    """Return what a command prints."""
    words = [sys.executable, "-m", "realtalk_async.cli", *arguments]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_the_command_line_finds_the_app_and_looks_in(app):
    """Without a path."""
    told = realtalk("ps")
    assert f"pid {app.pid}" in told
    assert re.search(r"^mic +running +\d+ +2 +[\d:]+ +1", told, re.MULTILINE)
    assert "what [it] is" in told
    (one,) = map(json.loads, realtalk("ps", "--json").splitlines())
    assert one["pid"] == app.pid
    assert one["processes"][0]["incarnation"] == 2

    assert realtalk("tail", "mic").splitlines()[-1].endswith("stdout | ready")
    lines = [json.loads(one) for one in realtalk("tail", "mic", "--json").splitlines()]
    assert [one["text"] for one in lines] == ["device busy", "ready"]
    assert "[ERROR] [mic] Process died" in realtalk("logs", "--level", "ERROR")
    assert "life 1: exit status 3" in realtalk("history", "mic")
    assert "restarted by policy" in realtalk("history")
    told = realtalk("explain", "mic")
    assert "looks like device busy" in told
    assert "mic: running" in told

    assert "mic: running, pid " in realtalk("restart", "mic")
    assert json.loads(realtalk("ps", "--json"))["processes"][0]["incarnation"] == 3
    assert "mic: exited" in realtalk("stop", "mic")
    assert "exited" in realtalk("ps", "--app", str(app.pid))


def test_what_cannot_be_asked_is_told_in_one_line(app):
    """With code 1, and with what is there."""
    told = realtalk("explain", "nobody", code=1)
    assert "no process is named 'nobody'" in told
    assert "mic" in told
    assert "no app with pid 1 can" in realtalk("ps", "--app", "1", code=1)


def test_stopping_all_ends_the_run(app):
    """There is nothing left to do."""
    realtalk("stop", "mic")
    realtalk("stop", "what [it] is")
    assert app.wait(PATIENCE) == 0


async def test_the_shell_completes_the_names_of_processes(manager, window):
    """Of those that run."""
    await manager.start("mine", programs.runs())
    await manager.start("other", programs.runs())
    shell = ShellComplete(main, {}, "realtalk-async", "_REALTALK_ASYNC_COMPLETE")

    def complete(begun):
        return [one.value for one in shell.get_completions(["tail"], begun)]

    run = anyio.to_thread.run_sync
    assert await run(lambda: complete("m")) == ["mine"]
    assert await run(lambda: complete("")) == ["mine", "other"]


async def test_with_two_apps_one_must_be_chosen(app, manager, window):
    """Unless only one of them has a process of that name."""
    await manager.start("mine", programs.prints("here"))
    run = anyio.to_thread.run_sync
    assert "stdout | here" in await run(lambda: realtalk("tail", "mine"))
    told = await run(lambda: realtalk("logs", code=1))
    assert f"{app.pid} (" in told
    assert "--app PID" in told
    await run(lambda: realtalk("logs", "--app", str(app.pid)))


def test_when_nothing_runs_it_says_so():
    """And how that can be changed."""
    assert "nothing of yours runs" in realtalk("ps")
    assert "realtalk-async run" in realtalk("logs", code=1)
