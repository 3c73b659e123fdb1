"""
Run the benchmark scripts: ``python tests/benchmarks/run_all.py [NAME …] [OPTION …]``.

NAME is the file name of a script without ``bench_``; all scripts run by default. The
options are passed to each script. The JSON lines that a script prints are written to
``results/NAME.jsonl``, from which ``plots.py`` draws. A script that fails is reported and
does not stop the others.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def find_scripts(names: list[str]) -> list[Path]:
    """Return the scripts with these names, or all scripts if there are no names."""
    scripts = sorted(HERE.glob("bench_*.py"))
    return [script for script in scripts if not names or name_of(script) in names]


def name_of(script: Path) -> str:
    """Return the NAME of a script on the command line."""
    return script.stem.removeprefix("bench_")


def run(script: Path, options: list[str]) -> int:
    """Run a script, show its output, save its JSON lines; return its exit status."""
    argv = [sys.executable, str(script), *options]
    records = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout or ():
            print(line, end="", flush=True)
            if line.startswith("{"):
                records.append(line)
    if records:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name_of(script)}.jsonl").write_text("".join(records))
    return child.returncode


def main() -> None:
    """Run the scripts that the command line names."""
    first = next((n for n, a in enumerate(sys.argv) if a.startswith("-")), None)
    names, options = sys.argv[1:first], sys.argv[first:] if first else []
    for script in find_scripts(names):
        print(f"\n==== {name_of(script)}", flush=True)
        if status := run(script, options):
            print(f"{name_of(script)} failed: exit {status}", file=sys.stderr)


if __name__ == "__main__":
    main()
