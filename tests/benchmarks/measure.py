"""
Measure several subjects side by side: the code that the benchmark scripts share.

A script passes its benchmarks to `main`. A benchmark has subjects, and a subject is a
function that returns figures by name. Every measurement runs in a new interpreter. The
subjects take turns (A B C, A B C, …) so that other load on the machine affects all of
them; the first round warms up and does not count. The output is one JSON line per
benchmark and subject, then a table with the ratios to the first subject and the goals. A
subject that fails is reported on stderr and left out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Figures = Mapping[str, float]
TIMEOUT = 120.0
"""Seconds that one measurement may take."""
TICK = 0.02
"""Seconds between two ticks of `lateness`."""


@dataclass(frozen=True, slots=True)
class Goal:
    """The bounds of one figure, absolute or relative to another subject's figure."""

    figure: str
    at_most: float = math.inf
    at_least: float = -math.inf
    subject: str = "ours"
    of: str = ""
    """If given, the bounds apply to the ratio to this subject's figure."""
    beyond: str = ""
    """If given, the bounds apply to the difference from this subject's figure."""

    def judge(self, medians: Mapping[str, Figures]) -> str:
        """Return the goal, whether it was met, and the value that was reached."""
        if missing := {self.subject, self.of, self.beyond} - {"", *medians}:
            absent = ", ".join(sorted(missing))
            return f"{self.figure}: goal not checked, no figures of {absent}"
        reached = medians[self.subject][self.figure]
        if self.of:
            reached /= medians[self.of][self.figure]
        if self.beyond:
            reached -= medians[self.beyond][self.figure]
        met = self.at_least <= reached <= self.at_most
        return f"{self} {'met' if met else 'MISSED'}: {readable(reached)}"

    def __str__(self) -> str:
        most = f" ≤ {self.at_most:g}" if self.at_most < math.inf else ""
        least = f" ≥ {self.at_least:g}" if self.at_least > -math.inf else ""
        of = f" / {self.of}" if self.of else f" - {self.beyond}" if self.beyond else ""
        return f"{self.subject}{of}, {self.figure}{most}{least}:"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One measurement of several subjects; ratios are to the first subject."""

    name: str
    subjects: Mapping[str, Callable[[], Figures]]
    goals: Sequence[Goal] = ()
    rounds: int = 3
    """The highest number of rounds, low for slow figures that hardly vary."""
    warm_up: bool = True


def measure_once(benchmark: str, subject: str) -> Figures:
    """
    Measure one subject once in a new interpreter, then kill its process group.

    Raises:
        RuntimeError: The measurement failed or took more than TIMEOUT seconds.
    """
    argv = [sys.executable, sys.argv[0], "--measure", benchmark, subject]
    with subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            out, errors = child.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not finished after {TIMEOUT:.0f} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    if child.returncode:
        last = errors.strip().splitlines()[-1:] or [f"exit {child.returncode}"]
        raise RuntimeError(last[0])
    figures: Figures = json.loads(out.splitlines()[-1])
    return figures


def interleave(benchmark: Benchmark, rounds: int) -> dict[str, list[Figures]]:
    """Measure all subjects in turn; return the figures of each round by subject."""
    found: dict[str, list[Figures]] = {subject: [] for subject in benchmark.subjects}
    warm_up_rounds = int(benchmark.warm_up)
    for number in range(min(rounds, benchmark.rounds) + warm_up_rounds):
        for subject in list(found):
            try:
                figures = measure_once(benchmark.name, subject)
            except RuntimeError as error:
                del found[subject]
                print(f"{benchmark.name}: {subject} left out: {error}", file=sys.stderr)
                continue
            if number >= warm_up_rounds:
                found[subject].append(figures)
    return found


async def lateness(
    seconds: float = 3.0, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> dict[str, float]:
    """
    Sleep 20 ms at a time, the length of an audio frame; return the lateness in ms.

    A tick that is more than 20 ms late moves the later ones, so that one pause counts once.
    """
    late = []
    due = time.perf_counter()
    for _ in range(int(seconds / TICK)):
        due += TICK
        await sleep(max(0.0, due - time.perf_counter()))
        late.append(max(0.0, time.perf_counter() - due) * 1e3)
        due = max(due, time.perf_counter() - TICK)
    late.sort()
    return {"p99 ms": late[int(len(late) * 0.99)], "max ms": late[-1]}


def aggregate(
    function: Callable[..., float], rounds: Sequence[Figures]
) -> dict[str, float]:
    """Apply a function, such as `min`, to each figure over all rounds."""
    return {name: function([figures[name] for figures in rounds]) for name in rounds[0]}


def rounded(figures: Figures) -> dict[str, float]:
    """Return the figures with four significant digits."""
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def readable(value: float) -> str:
    """Return a number with three significant digits for the table."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def report(benchmark: Benchmark, rounds: int) -> Iterator[str]:
    """Measure, print a JSON line per subject, and yield the lines of the table."""
    found = interleave(benchmark, rounds)
    medians = {
        subject: aggregate(statistics.median, results)
        for subject, results in found.items()
    }
    yield f"\n{benchmark.name}"
    for subject, results in found.items():
        lowest, highest = aggregate(min, results), aggregate(max, results)
        record = {
            "benchmark": benchmark.name,
            "subject": subject,
            "rounds": len(results),
            "median": rounded(medians[subject]),
            "min": rounded(lowest),
            "max": rounded(highest),
        }
        print(json.dumps(record, ensure_ascii=False), flush=True)
        reference = next(iter(medians.values()))
        for name, value in medians[subject].items():
            base = reference.get(name)
            ratio = f"{value / base:8.2f} x" if base and len(medians) > 1 else ""
            spread = f"{readable(lowest[name])} to {readable(highest[name])}"
            yield f"  {subject:24} {readable(value):>11} {name:9} {ratio:11} {spread}"
    yield from (f"  {goal.judge(medians)}" for goal in benchmark.goals)


def machine() -> dict[str, object]:
    """Return a description of the machine, its load and the date."""
    return {
        "processors": f"{os.cpu_count()} x {processor_model()}",
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
        "day": time.strftime("%Y-%m-%d"),
    }


def processor_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.machine()


def main(about: str, benchmarks: Sequence[Benchmark]) -> None:
    """Run the benchmarks that the command line names, all of them by default."""
    known = {benchmark.name: benchmark for benchmark in benchmarks}
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
        name, subject = options.measure
        print(json.dumps(known[name].subjects[subject]()))
        return
    if unknown := set(options.names) - set(known):
        names = ", ".join(sorted(unknown))
        parser.error(f"unknown: {names}; the benchmarks are {', '.join(known)}")
    print(json.dumps({"machine": machine()}))
    chosen = [known[name] for name in options.names or known]
    table = [line for each in chosen for line in report(each, options.rounds)]
    print("\n".join(table))
