import re
import subprocess
import sys

from realtalk_async import Command, __version__
from realtalk_async.supervision import Probe


def realtalk(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "realtalk_async.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_version_and_help_are_printed():
    assert realtalk("--version").stdout.split()[-1] == __version__
    help_text = realtalk("--help").stdout
    for command in ("demo", "explain", "history", "logs", "peer", "ps", "restart"):
        assert command in help_text
        assert realtalk(command, "--help").returncode == 0
    for command in ("run", "stop", "tail"):
        assert command in help_text


def test_an_invalid_option_gives_exit_code_2():
    done = realtalk("peer", "--port", "many")
    assert done.returncode == 2
    assert "many" in done.stderr


def test_the_peer_lists_its_faults_and_refuses_unknown_faults():
    done = realtalk("peer", "--list-faults")
    assert (done.returncode, done.stderr) == (0, "")
    for kind in ("drop", "badbase64", "refuse", "response.done"):
        assert kind in done.stdout
    done = realtalk("peer", "--port=0", "--fault=drop:5", "--fault=explode")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "explode" in done.stderr


async def test_the_peer_runs_until_sigterm(manager):
    command = Command(sys.executable, "-m", "realtalk_async.cli", "peer", "--port", "0")
    ready = Probe.line("peer ready on", timeout=120)
    peer = await manager.start("peer", command, probes=[ready])
    url = peer.get_stdout()[0].text.split()[-1]
    assert re.fullmatch(r"ws://127\.0\.0\.1:\d+/v1/realtime", url)
    status = await peer.stop()
    assert status.exit_status == 0
    assert len(peer.get_stderr()) == 0


def test_a_saved_timeline_is_drawn(tmp_path):
    marks = tmp_path / "session.jsonl"
    marks.write_text("")
    done = realtalk("timeline", str(marks))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "session.svg").read_text().startswith("<svg")
    marks.write_text("nonsense\n")
    done = realtalk("timeline", str(marks))
    assert done.returncode == 1
    assert done.stderr.startswith("no picture: ")
