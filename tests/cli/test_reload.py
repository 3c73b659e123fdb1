"""`realtalk-async reload` and SIGHUP: a running `run FILE` applies its changed file."""

import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

TIMEOUT = 60


class App:
    """A `run` in an empty folder, whose output is read on request."""

    def __init__(self, folder, *arguments, **options):
        self.folder = folder
        self.env = {
            **os.environ,
            "NO_COLOR": "1",
            "FORCE_COLOR": "",
            "TMPDIR": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
        }
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | options
        command = [sys.executable, "-m", "realtalk_async.cli", "run", *arguments]
        self.process = subprocess.Popen(command, cwd=folder, env=self.env, **options)
        self.said = ""

    def read_until(self, *wanted):
        """Read the output until all these texts have come; return what was new."""
        start = len(self.said)
        while not all(one in self.said[start:] for one in wanted):
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, f"it ended without {wanted!r}: {self.said!r}"
            self.said += data.decode()
        return self.said[start:]

    def call(self, *arguments):
        return subprocess.run(
            [sys.executable, "-m", "realtalk_async.cli", *arguments],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    def reload(self, *arguments, code=0):
        done = self.call("reload", *arguments)
        assert done.returncode == code, (done, self.said)
        return done.stderr if code else done.stdout

    def pids(self):
        """Return the pids of the running processes by name."""
        (app,) = map(json.loads, self.call("ps", "--json").stdout.splitlines())
        return {
            one["name"]: one["pid"]
            for one in app["processes"]
            if one["status"] == "running"
        }

    def end(self):
        self.process.terminate()
        assert self.process.wait(TIMEOUT) == 128 + signal.SIGTERM


@pytest.fixture
def begin(tmp_path):
    """Return a function that begins a run; kill all runs at the end."""
    begun = []

    def start(*arguments, **options):
        begun.append(App(tmp_path, *arguments, **options))
        return begun[-1]

    yield start
    for one in begun:
        one.process.kill()
        one.process.wait()
        if one.process.stdout:
            one.process.stdout.close()


def write(app, **files):
    for name, text in files.items():
        path = app / ("app.toml" if name == "toml" else name)
        path.write_text(text)


def table(name, command, **keys):
    lines = [f"[process.{name}]", f"command = {json.dumps(command)}"]
    return "\n".join([*lines, *(f"{k} = {json.dumps(v)}" for k, v in keys.items())])


def echo(word):
    return f"echo {word}; exec sleep 1000"


def test_the_difference_of_a_toml_file_is_told_and_applied(begin, tmp_path):
    old = [table("same", echo("one")), table("changed", echo("two"))]
    write(tmp_path, toml="\n".join([*old, table("gone", echo("three"))]))
    run = begin("app.toml")
    run.read_until("| one", "| two", "| three")
    before = run.pids()
    new = [table("fresh", echo("five")), table("same", echo("one"))]
    write(tmp_path, toml="\n".join([*new, table("changed", echo("four"))]))
    assert run.reload().splitlines() == [
        "gone: stopped",
        "changed: restarted: command changed",
        "fresh: started",
        "same: unchanged",
    ]
    said = run.read_until("| four", "| five")
    assert "reload: changed: restarted: command changed" in said
    assert "same" not in said
    after = run.pids()
    assert after.keys() == {"same", "changed", "fresh"}
    assert after["same"] == before["same"]
    assert after["changed"] != before["changed"]
    assert run.reload() == "fresh: unchanged\nsame: unchanged\nchanged: unchanged\n"
    assert run.pids() == after
    run.end()


MISTAKES = [
    ('[process.a]\ncommand = ["sleep"\n', "app.toml:2: not TOML"),
    (
        '[process.a]\ncommand = "true"\nrestart = "always"\n',
        "app.toml:3: process.a.res",
    ),
    (
        '[process.a]\ncommand = "true"\ndepends_on = ["b"]\n',
        "app.toml:3: process.a.dep",
    ),
    (None, "app.toml: No such file"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_changes_nothing_and_is_told_to_both(begin, tmp_path, text, message):
    good = table("a", echo("one"))
    write(tmp_path, toml=good)
    run = begin("app.toml")
    run.read_until("| one")
    before = run.pids()
    if text is None:
        (tmp_path / "app.toml").unlink()
    else:
        write(tmp_path, toml=text)
    told = run.reload(code=2)
    assert told.startswith(message)
    assert told.endswith("nothing was changed\n")
    assert message in run.read_until("reload: nothing was changed")
    assert run.pids() == before
    write(tmp_path, toml=good)
    assert run.reload() == "a: unchanged\n"
    run.end()


def test_a_changed_number_of_instances_adds_or_ends_the_difference(begin, tmp_path):
    def files(count):
        worker = table("worker", "echo up $INSTANCE; exec sleep 1000", instances=count)
        web = table("web", echo("web"), depends_on=["worker"])
        write(tmp_path, toml=f"{worker}\n{web}")

    files(2)
    run = begin("app.toml")
    run.read_until("up 1", "up 2", "| web")
    before = run.pids()
    files(4)
    assert run.reload().splitlines()[:2] == ["worker-3: started", "worker-4: started"]
    run.read_until("up 3", "up 4")
    more = run.pids()
    assert {name: more[name] for name in before} == before
    files(1)
    told = run.reload().splitlines()
    assert told[:3] == ["worker-2: stopped", "worker-3: stopped", "worker-4: stopped"]
    assert run.pids() == {name: before[name] for name in ("worker-1", "web")}
    run.end()


def test_a_changed_dotenv_is_a_changed_environment_and_no_value_is_shown(
    begin, tmp_path
):
    write(tmp_path, Procfile="web: echo got $KEY; exec sleep 1000\n")
    (tmp_path / ".env").write_text("KEY=s3cret1\n")
    run = begin()
    run.read_until("got s3cret1")
    (tmp_path / ".env").write_text("KEY=s3cret2\n")
    assert run.reload() == "web: restarted: environment changed\n"
    said = run.read_until("got s3cret2").replace("got s3cret2", "")
    assert "s3cret" not in said
    run.end()


def test_a_line_added_at_the_top_of_a_procfile_leaves_the_others_their_port(
    begin, tmp_path
):
    write(tmp_path, Procfile="web: echo web $PORT; exec sleep 1000\n")
    run = begin("--port", "7000")
    run.read_until("web 7000")
    before = run.pids()
    first = "api: echo api $PORT; exec sleep 1000\n"
    write(tmp_path, Procfile=f"{first}web: echo web $PORT; exec sleep 1000\n")
    assert run.reload() == "api: started\nweb: unchanged\n"
    run.read_until("api 7100")
    assert run.pids()["web"] == before["web"]
    run.end()


def test_an_unchanged_release_does_not_run_again_and_a_changed_one_runs_first(
    begin, tmp_path
):
    def files(release, web):
        text = f"release: {release} >> runs\nweb: cat runs; {echo(web)}\n"
        write(tmp_path, Procfile=text)

    files("echo r1", "w1")
    run = begin()
    run.read_until("| w1")
    files("echo r1", "w2")
    run.reload()
    run.read_until("| w2")
    assert (tmp_path / "runs").read_text() == "r1\n"
    files("echo r2", "w3")
    run.reload()
    run.read_until("| w3")
    assert (tmp_path / "runs").read_text() == "r1\nr2\n"
    run.end()


def test_sighup_reads_the_file_again(begin, tmp_path):
    write(tmp_path, Procfile=f"a: {echo('one')}\nb: {echo('two')}\n")
    run = begin()
    run.read_until("| one", "| two")
    before = run.pids()
    write(tmp_path, Procfile=f"a: {echo('one')}\nb: {echo('three')}\n")
    run.process.send_signal(signal.SIGHUP)
    run.read_until("reload: b: restarted: command changed", "| three")
    assert run.pids()["a"] == before["a"]
    write(tmp_path, Procfile="a b c\n")
    run.process.send_signal(signal.SIGHUP)
    said = run.read_until("reload: nothing was changed")
    assert "Procfile:1: there is no colon: a line is 'NAME: COMMAND'" in said
    run.end()


def test_sighup_of_a_command_stops_it(begin):
    run = begin("--", "sh", "-c", "echo up; sleep 1000")
    run.read_until("up")
    run.process.send_signal(signal.SIGHUP)
    assert run.process.wait(TIMEOUT) == 128 + signal.SIGHUP


TAKE_TERMINAL = """
import os, sys
os.login_tty(0)
if sys.argv[1]:
    os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), 1)
    os.dup2(1, 2)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
os.execv(sys.executable, [sys.executable, "-m", "realtalk_async.cli", "run"])
"""


@pytest.mark.parametrize("output", ["", "output"])
def test_sighup_in_a_terminal_reloads_and_the_end_of_the_terminal_stops(
    tmp_path, output
):
    fifo = tmp_path / "started"
    os.mkfifo(fifo)
    write(tmp_path, Procfile="web: echo $$ > started; exec sleep 1000\n")
    master, slave = pty.openpty()
    command = [sys.executable, "-c", TAKE_TERMINAL, output]
    run = subprocess.Popen(
        command, cwd=tmp_path, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    try:
        first = int(fifo.read_text())
        write(tmp_path, Procfile="web: echo $$ > started; exec sleep 2000\n")
        run.send_signal(signal.SIGHUP)
        second = int(fifo.read_text())
        assert second != first
        os.close(master)
        assert run.wait(TIMEOUT) == 128 + signal.SIGHUP
        with pytest.raises(ProcessLookupError):
            os.kill(second, 0)
    finally:
        run.kill()
        run.wait()


def test_a_run_that_ignores_sighup_survives_its_terminal(tmp_path):
    for fifo in ("one", "two"):
        os.mkfifo(tmp_path / fifo)
    line = "echo up; echo > one; echo up; echo > two; exec sleep 1000"
    write(tmp_path, Procfile=f"web: {line}\n")
    master, slave = pty.openpty()
    ignore = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    command = [sys.executable, "-c", ignore + TAKE_TERMINAL, ""]
    run = subprocess.Popen(
        command, cwd=tmp_path, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    try:
        (tmp_path / "one").read_text()
        os.close(master)
        (tmp_path / "two").read_text()
        run.terminate()
        assert run.wait(TIMEOUT) == 128 + signal.SIGTERM
    finally:
        run.kill()
        run.wait()


def test_only_some_processes_are_reloaded_if_only_some_were_started(begin, tmp_path):
    write(tmp_path, Procfile=f"a: {echo('one')}\nb: {echo('two')}\n")
    run = begin("Procfile", "a")
    run.read_until("| one")
    write(tmp_path, Procfile=f"a: {echo('three')}\nb: {echo('four')}\n")
    assert run.reload() == "a: restarted: command changed\n"
    run.end()


def test_a_process_that_cannot_be_started_is_told(begin, tmp_path):
    write(tmp_path, toml=table("a", echo("one")))
    run = begin("app.toml")
    run.read_until("| one")
    write(
        tmp_path, toml=f"{table('a', echo('one'))}\n{table('b', ['no-such-program'])}"
    )
    done = run.call("reload")
    assert done.returncode == 1
    assert "b: not started: " in done.stdout
    assert "no-such-program" in done.stdout
    assert run.pids().keys() == {"a"}


def test_all_processes_may_be_replaced_and_the_run_goes_on(begin, tmp_path):
    write(tmp_path, toml=table("a", echo("one")))
    run = begin("app.toml")
    run.read_until("| one")
    write(tmp_path, toml=table("b", echo("two")))
    assert run.reload() == "a: stopped\nb: started\n"
    run.read_until("| two")
    assert run.pids().keys() == {"b"}
    run.end()


def test_a_changed_setting_of_all_is_told(begin, tmp_path):
    write(tmp_path, toml=table("a", echo("one")))
    run = begin("app.toml")
    run.read_until("| one")
    write(tmp_path, toml=f"shutdown_timeout = 3\n{table('a', echo('one'))}")
    told = run.reload()
    assert (
        "shutdown_timeout: changed: it takes effect when run is started again" in told
    )
    run.end()


def test_a_run_without_a_file_refuses(begin):
    run = begin("--", "sh", "-c", "echo up; exec sleep 1000")
    run.read_until("up")
    deadline = time.monotonic() + TIMEOUT
    while "no running app" in (done := run.call("reload")).stderr:
        assert time.monotonic() < deadline
    assert done.returncode == 1
    assert "this app has no file that it could read again" in done.stderr
    run.end()
