"""The examples for systemd and Kubernetes are valid and work."""

import json
import os
import plistlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from configparser import RawConfigParser
from pathlib import Path

import pytest
import yaml

from realtalk_async.supervision import GRACEFUL

EXAMPLES = Path(__file__).parents[2] / "examples"
UNIT = EXAMPLES / "systemd" / "realtalk.service"
MANIFEST = EXAMPLES / "kubernetes" / "realtalk.yaml"
PROGRAM = "/opt/realtalk/bin/realtalk-async"

TOML = """
[process.clock]
command = "while date; do sleep 1; done"
critical = true
"""


class Unit(RawConfigParser):
    """A parser that keeps the capitals of keys."""

    def optionxform(self, optionstr):
        return optionstr


@pytest.fixture
def service():
    """Return the [Service] section of the unit."""
    parser = Unit(comment_prefixes=("#",), delimiters=("=",), strict=True)
    parser.read(UNIT)
    return parser["Service"]


@pytest.fixture
def pod():
    """Return the specification of the manifest's pod."""
    (deployment,) = yaml.safe_load_all(MANIFEST.read_text())
    assert (deployment["apiVersion"], deployment["kind"]) == ("apps/v1", "Deployment")
    template = deployment["spec"]["template"]
    assert (
        template["metadata"]["labels"] == deployment["spec"]["selector"]["matchLabels"]
    )
    return template["spec"]


def check(arguments, tmp_path):
    """Run the command line with `--check` on these arguments and a valid configuration."""
    (tmp_path / "realtalk.toml").write_text(TOML)
    assert arguments[-1] == "/etc/realtalk/realtalk.toml"
    words = [*arguments[:-1], "--check", str(tmp_path / "realtalk.toml")]
    command = [sys.executable, "-m", "realtalk_async.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert "1 process, no problems" in done.stdout, done.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd")
def test_systemd_accepts_the_unit(tmp_path):
    unit = tmp_path / UNIT.name
    program = tmp_path / "realtalk-async"
    program.touch(mode=0o755)
    unit.write_text(UNIT.read_text().replace(PROGRAM, str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_runs_a_valid_command_line_and_leaves_the_ladders_their_time(
    service, tmp_path
):
    program, *arguments = shlex.split(service["ExecStart"])
    assert program == PROGRAM
    check(arguments, tmp_path)
    assert service["Type"] == "notify"
    assert service["KillMode"] == "mixed"
    ladder = sum(step.wait for step in GRACEFUL.steps)
    assert float(service["TimeoutStopSec"]) > 2 * ladder


def test_the_agent_runs_a_valid_command_line_and_leaves_the_ladders_their_time(
    tmp_path,
):
    agent = plistlib.loads((EXAMPLES / "launchd" / "realtalk.plist").read_bytes())
    program, *arguments = agent["ProgramArguments"]
    assert program == PROGRAM
    check(arguments, tmp_path)
    ladder = sum(step.wait for step in GRACEFUL.steps)
    assert agent["ExitTimeOut"] > 2 * ladder


def test_the_manifest_probes_existing_pages_with_timeouts_above_the_maximum_lag(
    pod, tmp_path
):
    (container,) = pod["containers"]
    program, *arguments = container["args"]
    assert program == "realtalk-async"
    check(arguments, tmp_path)
    (port,) = container["ports"]
    assert f"0.0.0.0:{port['containerPort']}" in arguments
    pages = {"startup": "/readyz", "readiness": "/readyz", "liveness": "/healthz"}
    for kind, page in pages.items():
        probe = container[f"{kind}Probe"]
        assert probe["httpGet"] == {"path": page, "port": port["name"]}
        assert probe["timeoutSeconds"] > 1.0
    ladder = sum(step.wait for step in GRACEFUL.steps)
    assert pod["terminationGracePeriodSeconds"] > 2 * ladder
    volumes = {one["name"] for one in pod["volumes"]}
    assert {one["name"] for one in container["volumeMounts"]} == volumes


def test_the_service_example_notifies_systemd_serves_and_ends_at_sigterm(tmp_path):
    address = str(tmp_path / "notify")
    environment = {
        **os.environ,
        "NOTIFY_SOCKET": address,
        "METRICS_PORT": "0",
        "TMPDIR": str(tmp_path),
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(30)
        app = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "in_service.py")],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            url = app.stdout.readline().split()[-1]
            assert "READY=1" in systemd.recv(4096).decode()
            with urllib.request.urlopen(f"{url}/readyz", timeout=120) as answer:
                assert json.load(answer)["critical"] == {"clock": "running"}
            app.send_signal(signal.SIGTERM)
            while "STOPPING=1" not in systemd.recv(4096).decode():
                pass
            assert app.wait(120) == 0
        finally:
            app.kill()
            app.wait()
            app.stdout.close()
