"""Run a short version of the soak test."""

import json
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).parents[1] / "benchmarks" / "soak.py"


def test_four_minutes_of_conversation_leave_only_their_history():
    """``nox -s soak`` runs an hour of conversation."""
    command = [sys.executable, str(SOAK), "--minutes", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    *counts, verdict = map(json.loads, done.stdout.splitlines())
    assert verdict["wrong"] == []
    assert counts[-1]["responses"]["completed"] > 0
    assert counts[-1]["unresolved"] == 0
