"""Ctrl-Z on `realtalk-async run`, and `fg`."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUN = (sys.executable, "-m", "realtalk_async.cli", "run", "--no-control")
TIMEOUT = 60


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def wait_for_state(pid, states):
    deadline = time.monotonic() + TIMEOUT
    while state_of(pid) not in states:
        assert time.monotonic() < deadline, state_of(pid)
        time.sleep(0.01)


@pytest.mark.parametrize("single", [False, True])
def test_processes_stop_and_continue_with_the_run(tmp_path, single):
    line = "sh -c 'echo pid=$$; exec sleep 1000'"
    (tmp_path / "realtalk.toml").write_text(
        f'[process.a]\ncommand = ["sh", "-c", "{line.replace(chr(34), "")}"]\n'
    )
    arguments = ["--", "sh", "-c", line] if single else ["realtalk.toml"]
    run = subprocess.Popen(
        [*RUN, *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,  # a job of a shell, whose group is not orphaned
    )
    try:
        said = b""
        while not (found := re.search(rb"pid=(\d+)\n", said)):
            data = os.read(run.stdout.fileno(), 65536)
            assert data, said
            said += data
        child = int(found[1])
        for _ in range(2):
            run.send_signal(signal.SIGTSTP)
            wait_for_state(run.pid, "T")
            # A stopped vfork(2) makes a shell wait uninterruptibly (D).
            wait_for_state(child, "TD")
            run.send_signal(signal.SIGCONT)
            wait_for_state(child, "SR")
        run.terminate()
        out, _ = run.communicate(timeout=TIMEOUT)
        assert run.returncode == 128 + signal.SIGTERM
        assert b"died" not in out
    finally:
        run.kill()
        run.wait()
        run.stdout.close()
