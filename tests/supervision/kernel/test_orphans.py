"""No orphan: forty apps are killed with SIGKILL, ten of them by what they spawn."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(360)

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bench_orphans.py"


@pytest.mark.parametrize(("name", "tries"), [("anywhere", 30), ("at a spawn", 10)])
def test_whoever_is_killed_leaves_nobody_behind(name, tries):
    """Scenario 6: how quick that is, and two hundred of them: `nox -s bench -- orphans`."""
    done = subprocess.run(
        [sys.executable, SCRIPT, "--measure", name, "ours"],
        env={**os.environ, "ORPHAN_TRIES": str(tries)},
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(done.stdout)
    assert (figures["apps"], figures["for good"]) == (tries, 0)
