"""
Measure queries of the log: ``python tests/benchmarks/bench_log_queries.py [--size BYTES]``.

The script writes a log of 1 GB to the temporary directory, runs each query and the
matching ``grep -c`` (in the C locale) in turn, and removes the log. The figures are
medians; the file is in the page cache for both. The output is one JSON line per query,
then a table. ``again`` repeats a query with the index that its first run has built.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from realtalk_async.logs.query import make_query, search

COMPONENTS = [*(f"child_{number}" for number in range(18)), "sox_bg", "manager"]
MESSAGES = [
    "Process died unexpectedly",
    "started",
    "probe is late",
    "chunk written",
    "response finished",
    "connected to the service",
    "no sound for a while",
    "flushed the spool",
]
NAMES = ("level", "component", "pattern", "n", "since", "until")

QUERIES = {
    "newest 100 of a level": ({"level": "ERROR", "n": 100}, None),
    "rare component": ({"component": "guard"}, ["-F", "[guard]"]),
    "rare component, again": ({"component": "guard"}, ["-F", "[guard]"]),
    "text": ({"pattern": "7654321"}, ["-F", "7654321"]),
    "absent text": (
        {"pattern": "never to be seen"},
        ["-F", "never to be seen"],
    ),
    "regular expression": (
        {"pattern": r'"number":765432\d,'},
        ["-E", '"number":765432[0-9],'],
    ),
    "alternatives": (
        {"pattern": "(vanished|exploded) for"},
        ["-E", "(vanished|exploded) for"],
    ),
    "case ignored": ({"pattern": "(?i)VANISHED"}, ["-i", "VANISHED"]),
    "all conditions, n = 100": (
        {"level": "INFO", "component": "sox_bg", "pattern": "late$", "n": 100},
        None,
    ),
}


def write(path, size):
    """Write a log of *size* bytes or a little more."""
    rng = random.Random(7)
    begun = time.mktime((2026, 1, 1, 0, 0, 0, 0, 0, -1))
    number = written = 0
    with path.open("wb") as file:
        while written < size:
            moment = time.localtime(begun + number // 500)
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", moment)
            lines = []
            for _ in range(500):
                chance = rng.random()
                level = (
                    "ERROR" if chance < 0.01 else "WARNING" if chance < 0.05 else "INFO"
                )
                component = COMPONENTS[int(chance * 1e6) % 20]
                if number % 1_000_003 == 5:
                    component = "guard"
                lines.append(
                    f"[{stamp}] [{level}] [{component}] {MESSAGES[number % 8]} "
                    f'{{"number":{number},"uptime":"00:03:22","restarts":{number % 7}}}\n'
                )
                number += 1
            data = "".join(lines).encode()
            written += file.write(data)


def run_query(path, conditions, index):
    query = make_query(*(conditions.get(name) for name in NAMES))
    begun = time.perf_counter()
    found = search(path, query, threading.Event(), index)
    return time.perf_counter() - begun, len(found)


def grep(path, arguments):
    begun = time.perf_counter()
    result = subprocess.run(
        ["grep", "-c", *arguments, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    return time.perf_counter() - begun, int(result.stdout)


def compare(path, rounds):
    index = {}
    rows = []
    for name, (conditions, arguments) in QUERIES.items():
        ours, theirs = [], []
        for _ in range(rounds):
            known = index if name.endswith("again") else {}
            ours.append(run_query(path, conditions, known))
            if arguments is not None:
                theirs.append(grep(path, arguments))
                assert theirs[-1][1] == ours[-1][1], "both find the same"
            if name == "rare component":
                index = known
        seconds = statistics.median(spent for spent, _ in ours)
        row = {"benchmark": "log queries", "question": name, "ms": seconds * 1000}
        row["entries"] = ours[0][1]
        if theirs:
            row["grep_ms"] = statistics.median(spent for spent, _ in theirs) * 1000
            row["ratio"] = row["ms"] / row["grep_ms"]
        rows.append(row)
        print(json.dumps(row))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--size", type=int, default=1_000_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "app.log"
        write(path, options.size)
        rows = compare(path, options.rounds)
    print(f"\n{'':26} {'ours':>10} {'grep':>10} {'ratio':>6} {'entries':>8}")
    for row in rows:
        row = {"grep_ms": float("nan"), "ratio": float("nan"), **row}
        print(
            f"{row['question']:26} {row['ms']:7.2f} ms {row['grep_ms']:7.1f} ms "
            f"{row['ratio']:6.2f} {row['entries']:8}"
        )


if __name__ == "__main__":
    main()
