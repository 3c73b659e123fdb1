"""Signals that reach `realtalk-async run` and its processes at the same time."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

RUN = (sys.executable, "-m", "realtalk_async.cli", "run", "--no-control")
TIMEOUT = 60


@pytest.fixture
def run(tmp_path, request):
    """Run three processes that tell their ids when they are ready."""
    commands = request.param
    names = "abc"
    (tmp_path / "realtalk.toml").write_text(
        "".join(
            f'[process.{name}]\ncommand = ["sh", "-c", {one!r}]\nrestart = "permanent"\n'
            f"critical = {str(name == 'a').lower()}\n"
            for name, one in zip(names, commands, strict=True)
        )
    )
    command = [*RUN, "--log", "run.log", "realtalk.toml"]
    one = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said = b""
    while len(found := re.findall(rb"pid=(\d+)\n", said)) < 3:
        said += os.read(one.stdout.fileno(), 65536)
    yield one, list(map(int, found)), tmp_path / "run.log"
    one.kill()
    one.wait()
    one.stdout.close()


PLAIN = "echo pid=$$; exec sleep 1000"
HANDLES = 'trap "exit 143" TERM; echo pid=$$; while :; do sleep 0.01; done'


@pytest.mark.parametrize("gap", [0, 0.02])
@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("run", [(PLAIN, PLAIN, HANDLES)], indirect=True)
def test_a_signal_to_all_of_a_control_group_is_one_event(run, gap, is_first):
    one, children, log = run
    for pid in [one.pid, *children] if is_first else [*children, one.pid]:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:  # it has been stopped by `run` already
            assert is_first
        time.sleep(gap)
    out, _ = one.communicate(timeout=TIMEOUT)
    assert one.returncode == 128 + signal.SIGTERM
    text = log.read_text()
    assert "[ERROR]" not in text, text
    assert "estart" not in text, text
    assert b"died" not in out, out


@pytest.mark.parametrize("run", [(PLAIN, PLAIN, PLAIN)], indirect=True)
def test_a_signal_to_one_child_alone_is_its_own_death(run):
    one, children, _ = run
    os.kill(children[1], signal.SIGTERM)
    said = b""
    while not re.search(rb"\| pid=\d+\n", said):
        data = os.read(one.stdout.fileno(), 65536)
        assert data, said
        said += data
    assert b"SIGTERM" in said
    one.terminate()
    one.communicate(timeout=TIMEOUT)
    assert one.returncode == 128 + signal.SIGTERM
