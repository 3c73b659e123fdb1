"""`realtalk-async run` as a service: systemd, metrics and health checks."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

PROCFILE = "mic: echo ready; exec sleep 1000\n"


@pytest.fixture
def begin(tmp_path):
    """Return a function that begins a run; at the end all runs are killed."""
    begun = []

    def start(*arguments, env=None):
        (tmp_path / "Procfile").write_text(PROCFILE)
        command = [sys.executable, "-m", "realtalk_async.cli", "run", "--no-control"]
        one = subprocess.Popen(
            [*command, *arguments],
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        begun.append(one)
        return one

    yield start
    for one in begun:
        if one.poll() is None:
            one.kill()
        one.stdout.close()
        one.wait()


def test_a_run_notifies_systemd(begin, tmp_path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(30)
        one = begin(env={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "10000000"})
        output = ""
        while "READY=1" not in output or "1 of 1 running" not in output:
            output += systemd.recv(4096).decode() + "\n"
        assert "WATCHDOG=1" in output
        one.send_signal(signal.SIGTERM)
        while "STOPPING=1" not in output:
            output += systemd.recv(4096).decode() + "\n"
    one.stdout.read()
    assert one.wait(120) == 143


def test_a_run_serves_metrics_and_health(begin):
    one = begin("--metrics", "0")
    output = ""
    while "mic started" not in output:
        output += one.stdout.readline()
    url = re.search(r"metrics and health at (http://127\.0\.0\.1:\d+)", output)[1]
    with urllib.request.urlopen(f"{url}/readyz", timeout=120) as answer:
        assert json.load(answer)["critical"] == {"mic": "running"}
    with urllib.request.urlopen(f"{url}/metrics", timeout=120) as answer:
        running = 'realtalk_process_state{process="mic",state="running"} 1.0'
        assert running in answer.read().decode()
    one.send_signal(signal.SIGTERM)
    one.stdout.read()
    assert one.wait(120) == 143


@pytest.mark.parametrize(
    ("where", "message"), [("soon", "neither a PORT"), ("192.0.2.1:0", "Cannot assign")]
)
def test_an_invalid_metrics_address_ends_with_exit_code_2_before_anything_starts(
    begin, where, message
):
    one = begin("--metrics", where)
    output = one.stdout.read()
    assert one.wait(120) == 2
    assert message in output
    assert "started" not in output
