"""A plain command begins before its supervisor is loaded, and is never without care."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from realtalk_async.cli import headstart
from realtalk_async.supervision.kernel import process_groups

PATIENCE = 30
RUN = [sys.executable, "-m", "realtalk_async.cli", "run", "--"]


def run(*command, options=()):
    """Run a command to its end, as a user does."""
    words = [sys.executable, *options, *RUN[1:], *command]
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)


def shell(line, **rest):
    return run("sh", "-c", line, **rest)


def test_what_is_over_at_once_and_well_needs_no_supervisor():
    """Its output is passed on; neither loop nor command line library is loaded."""
    done = shell("echo out; echo err >&2", options=["-X", "importtime"])
    assert done.returncode == 0
    assert done.stdout == "out\n"
    assert "err\n" in done.stderr
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "realtalk_async.cli.headstart" in loaded
    assert not loaded & {"asyncio", "click", "rich", "realtalk_async.logs"}


def test_what_takes_longer_is_taken_over_as_it_is():
    """All that it has said is there, in order; it was started once."""
    done = shell("echo $$; sleep 0.3; echo $$")
    first, second = done.stdout.split()
    assert first == second
    assert done.returncode == 0


def test_more_than_a_pipe_holds_is_passed_on():
    """The command waits until somebody reads."""
    done = shell("head -c 1000000 /dev/zero | tr '\\0' x")
    assert len(done.stdout) == 1_000_000
    assert done.returncode == 0


def test_what_fails_at_once_is_restarted():
    """Its first life counts."""
    done = run("sh", "-c", "exit 3")
    assert done.returncode == 3
    assert done.stderr.count("sh died: exit status 3") == 6
    assert done.stderr.count("sh was restarted") == 5


def test_later_lives_are_like_the_first(tmp_path):
    """Guarded by the same tag, with pipes of their own."""
    line = (
        f"echo $REALTALK_ASYNC_TAG; mkdir {tmp_path}/once 2>/dev/null && exit 1; exit 0"
    )
    done = shell(line)
    assert done.returncode == 0
    first, second = done.stdout.split()
    assert first == second


def test_what_it_leaves_behind_is_ended():
    """Even in a session of its own, with all pipes closed."""
    done = shell("setsid sleep 61 >/dev/null 2>&1 & echo $!; sleep 0.001")
    assert done.returncode == 0
    assert (
        process_groups.look(int(done.stdout)) is None
        or not process_groups.look(int(done.stdout)).alive
    )


def test_a_signal_in_the_first_moment_is_not_lost():
    """The command sends it before anything of ours is loaded."""
    done = shell("kill -INT $PPID; exec sleep 60")
    assert done.returncode == 130
    done = shell("kill -TERM $PPID; exec sleep 60")
    assert done.returncode == 143


@pytest.mark.parametrize("share", range(6))
def test_killed_in_the_first_moments_it_leaves_nobody(share, tmp_path):
    """From the start of the command on it is guarded."""
    pids = tmp_path / "pids"
    command = ["sh", "-c", f"echo $$ >> {pids}; exec sleep 62"]
    started = subprocess.Popen([*RUN, *command], start_new_session=True)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (pids.exists() and pids.read_text()) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(share * 0.03)
    finally:
        started.kill()
        started.wait()
    pid = int(pids.read_text())
    with contextlib.suppress(OSError):
        while time.monotonic() < deadline and process_groups.look(pid).alive:
            time.sleep(0.005)
    member = process_groups.look(pid)
    if member is not None and member.alive:
        os.kill(pid, signal.SIGKILL)
        raise AssertionError(f"{member} lives on")


def test_what_cannot_be_started_is_told_by_who_knows_the_words():
    """Not there, not executable."""
    done = run("/nowhere/at-all")
    assert done.returncode == 127
    assert "there is no such program" in done.stderr
    assert run("/etc/passwd").returncode == 126


def test_nobody_reads_any_more():
    """As with every program in a pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*RUN, "echo", "hi"],
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
        )
    finally:
        os.close(writing)
    assert done.returncode == 141
    assert done.stderr == b""


def test_systemd_hears_of_every_start(monkeypatch):
    """So there is no head start in a service."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    assert headstart.begin(["true"]) is None
