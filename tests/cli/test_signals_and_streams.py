"""How `realtalk-async run` treats its own streams and signals, and those of its processes."""

import os
import signal
import subprocess
import sys
from functools import partial

import pytest

RUN = (sys.executable, "-m", "realtalk_async.cli", "run", "--no-control")
TIMEOUT = 60


@pytest.fixture
def begin(begin):
    """Return a function that begins a run in an empty folder."""
    return partial(begin, "run", "--no-control")


def read_until(run, wanted):
    said = b""
    while wanted not in said:
        data = os.read(run.stdout.fileno(), 65536)
        assert data, f"it ended without {wanted!r}: {said!r}"
        said += data
    return said


@pytest.mark.parametrize("several", [False, True])
def test_a_non_blocking_stdout_gets_all_output(begin, tmp_path, several):
    (tmp_path / "Procfile").write_text("a: seq 50000\n")
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    arguments = ["Procfile"] if several else ["--", "seq", "50000"]
    run = begin(*arguments, stdout=writing, stderr=subprocess.DEVNULL)
    os.close(writing)
    with open(reading, "rb") as stream:
        lines = stream.read().splitlines()
    assert [line.split()[-1] for line in lines if line.split()[-1].isdigit()][-1] == (
        b"50000"
    )
    assert len(lines) >= 50000
    assert run.wait(TIMEOUT) == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_that_is_ignored_at_the_start_stays_ignored(begin, number):
    script = 'trap "" {}; exec "$@"'.format(number.name.removeprefix("SIG"))
    command = ["sh", "-c", script, "sh", *RUN, "--", "sh", "-c", "echo up; sleep 1000"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        read_until(run, b"up")
        run.send_signal(number)
        run.send_signal(signal.SIGTERM)
        assert run.wait(TIMEOUT) == 128 + signal.SIGTERM
    finally:
        run.kill()
        run.wait()
        run.stdout.close()


def test_sigquit_stops_all_processes(begin):
    run = begin("--", "sh", "-c", "echo up; sleep 1000")
    read_until(run, b"up")
    run.send_signal(signal.SIGQUIT)
    assert run.wait(TIMEOUT) == 128 + signal.SIGQUIT


@pytest.mark.parametrize("name", ["Procfile", "realtalk.toml"])
def test_the_stdin_of_a_process_never_ends(begin, tmp_path, name):
    line = "timeout 0.5 cat; echo code $?"
    content = {
        "Procfile": f"js: {line}\n",
        "realtalk.toml": f'process.js.command = ["sh", "-c", "{line}"]\n',
    }
    (tmp_path / name).write_text(content[name])
    out, _ = begin(name, stdin=subprocess.DEVNULL).communicate(timeout=TIMEOUT)
    assert b"code 124" in out


def test_a_process_can_have_an_empty_stdin(begin, tmp_path):
    text = '[process.js]\ncommand = ["cat"]\nstdin = "empty"\n'
    (tmp_path / "realtalk.toml").write_text(text)
    run = begin("realtalk.toml")
    run.communicate(timeout=TIMEOUT)
    assert run.returncode == 0


@pytest.mark.parametrize(("given", "shown"), [(None, b"1"), ("", b"")])
def test_python_is_unbuffered_unless_the_user_says_otherwise(begin, given, shown):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    if given is not None:
        env["PYTHONUNBUFFERED"] = given
    run = begin("--", "sh", "-c", "echo [$PYTHONUNBUFFERED]", env=env)
    assert run.communicate(timeout=TIMEOUT)[0] == b"[" + shown + b"]\n"


@pytest.mark.parametrize(
    "control",
    [
        r"\033c",
        r"\033[2J",
        r"\033[?1049h",
        r"\033[?25l",
        r"\033]0;title\007",
        r"\033]2;title\033\\",
        r"\033[6n",
        r"\033[3;4H",
        r"\033(B",
        r"\033[>4;1m",
    ],
)
def test_lines_of_several_processes_keep_colours_only(begin, tmp_path, control):
    line = rf"a: printf '<{control}\033[1;31mred\033[0m>\n'"
    (tmp_path / "Procfile").write_text(line)
    out, _ = begin("Procfile").communicate(timeout=TIMEOUT)
    assert b"<\x1b[1;31mred\x1b[0m>\n" in out


def test_a_run_ends_with_its_command_although_the_rest_of_its_group_ends_later(begin):
    line = "(trap '' TERM; exec sleep 1000) >/dev/null 2>&1 & sleep 0.1; exit 0"
    run = begin("--", "sh", "-c", line, stdin=subprocess.DEVNULL)
    assert run.wait(TIMEOUT) == 0
