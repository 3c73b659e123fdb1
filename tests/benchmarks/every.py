"""
Run the benchmarks: ``python tests/benchmarks/every.py [NAME …] [OPTION …]``.

A name is that of a script without ``bench_``; options are passed on to each. What a script
prints is shown, and its JSON lines are kept in ``results/NAME.jsonl``, from which
``plots.py`` draws. A script that fails is told of and stops nothing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def scripts(names: list[str]) -> list[Path]:
    """Return the scripts of those names, or all."""
    there = sorted(HERE.glob("bench_*.py"))
    return [one for one in there if not names or named(one) in names]


def named(script: Path) -> str:
    """Return what a script is called here."""
    return script.stem.removeprefix("bench_")


def run(script: Path, options: list[str]) -> int:
    """Run one, show what it prints, keep its figures; return its exit status."""
    argv = [sys.executable, str(script), *options]
    kept = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout or ():
            print(line, end="", flush=True)
            if line.startswith("{"):
                kept.append(line)
    if kept:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{named(script)}.jsonl").write_text("".join(kept))
    return child.returncode


def main() -> None:
    """Run what was asked for."""
    first = next((n for n, a in enumerate(sys.argv) if a.startswith("-")), None)
    names, options = sys.argv[1:first], sys.argv[first:] if first else []
    for script in scripts(names):
        print(f"\n==== {named(script)}", flush=True)
        if status := run(script, options):
            print(f"{named(script)} failed: exit {status}", file=sys.stderr)


if __name__ == "__main__":
    main()
