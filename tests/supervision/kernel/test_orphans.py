"""SIGKILL of forty apps, ten of each of four kinds, leaves no orphan."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(1200)

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bench_orphans.py"


TRIES = {
    "anywhere": 30,
    "at a spawn": 10,
    "in a probe": int(os.environ.get("SIGKILLS", "10")),
}


@pytest.mark.parametrize(("name", "tries"), TRIES.items())
def test_no_child_survives_sigkill_of_the_app(name, tries):
    """Scenario 6; ``nox -s chaos`` kills two hundred apps while their probes run."""
    done = subprocess.run(
        [sys.executable, SCRIPT, "--measure", name, "ours"],
        env={**os.environ, "ORPHAN_TRIES": str(tries)},
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(done.stdout)
    assert (figures["apps"], figures["for good"]) == (tries, 0)
