"""The command line, as a user types it."""

import re
import subprocess
import sys

import pytest

from realtalk_async import Command, __version__
from realtalk_async.supervision import Probe


def realtalk(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "realtalk_async.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_it_tells_its_version_and_its_commands():
    """Help is a help."""
    assert realtalk("--version").stdout.split()[-1] == __version__
    told = realtalk("--help").stdout
    for command in ("demo", "explain", "history", "logs", "peer", "ps", "restart"):
        assert command in told
        assert realtalk(command, "--help").returncode == 0
    for command in ("run", "stop", "tail"):
        assert command in told


def test_a_mistake_is_told_with_exit_code_2():
    """By the library that reads the command line."""
    done = realtalk("peer", "--port", "many")
    assert done.returncode == 2
    assert "many" in done.stderr


def test_the_peer_tells_of_its_faults_and_refuses_others():
    """All of them, with what they do; a mistake is told in one line."""
    told = realtalk("peer", "--list-faults")
    assert (told.returncode, told.stderr) == (0, "")
    for kind in ("drop", "badbase64", "refuse", "response.done"):
        assert kind in told.stdout
    done = realtalk("peer", "--port=0", "--fault=drop:5", "--fault=explode")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "explode" in done.stderr


@pytest.mark.timeout(60)
async def test_the_peer_runs_alone(manager):
    """Ready, at the place that it names; ended by SIGTERM without a word of complaint."""
    command = Command(sys.executable, "-m", "realtalk_async.cli", "peer", "--port", "0")
    ready = Probe.line("peer ready on", timeout=30)
    peer = await manager.start("peer", command, probes=[ready])
    url = peer.get_stdout()[0].text.split()[-1]
    assert re.fullmatch(r"ws://127\.0\.0\.1:\d+/v1/realtime", url)
    status = await peer.stop()
    assert status.exit_status == 0
    assert len(peer.get_stderr()) == 0


def test_a_saved_time_line_is_drawn(tmp_path):
    """Beside its file, or wherever it is to go; nonsense is told in one line."""
    marks = tmp_path / "session.jsonl"
    marks.write_text("")
    done = realtalk("timeline", str(marks))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "session.svg").read_text().startswith("<svg")
    marks.write_text("nonsense\n")
    done = realtalk("timeline", str(marks))
    assert done.returncode == 1
    assert done.stderr.startswith("no picture: ")
