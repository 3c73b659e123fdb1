"""
Measure subjects side by side: what the benchmarks share.

A script names its benchmarks, each with its subjects, and hands them to `main`. A subject
is a function that returns its figures by name. Each is measured in a fresh interpreter,
all in turn (A B C, A B C, …), after a first round that does not count. Printed are one
JSON line per benchmark and subject, then a table with the ratios to the first subject and
what was to be reached. A subject that cannot be measured here is left out, and told of.
"""

from __future__ import annotations

import argparse
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Figures = Mapping[str, float]
PATIENCE = 120.0
"""Seconds for one measurement."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure is to reach: by itself, or in comparison with that of another."""

    figure: str
    at_most: float = math.inf
    at_least: float = -math.inf
    subject: str = "ours"
    of: str = ""
    """The bounds are multiples of this subject's figure."""
    beyond: str = ""
    """The bounds are what comes on top of this subject's figure."""

    def judge(self, medians: Mapping[str, Figures]) -> str:
        """Say what was reached, in words."""
        if missing := {self.subject, self.of, self.beyond} - {"", *medians}:
            return f"{self.figure}: not judged without {', '.join(sorted(missing))}"
        reached = medians[self.subject][self.figure]
        if self.of:
            reached /= medians[self.of][self.figure]
        if self.beyond:
            reached -= medians[self.beyond][self.figure]
        met = self.at_least <= reached <= self.at_most
        return f"{self} {'met' if met else 'MISSED'}: {legible(reached)}"

    def __str__(self) -> str:
        """Return the goal in words."""
        most = f" ≤ {self.at_most:g}" if self.at_most < math.inf else ""
        least = f" ≥ {self.at_least:g}" if self.at_least > -math.inf else ""
        of = f" / {self.of}" if self.of else f" - {self.beyond}" if self.beyond else ""
        return f"{self.subject}{of}, {self.figure}{most}{least}:"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What is measured on whom; the first subject is the one to compare with."""

    name: str
    subjects: Mapping[str, Callable[[], Figures]]
    goals: Sequence[Goal] = ()
    rounds: int = 3
    """At most so many rounds: for what is slow and hardly varies."""
    warm_up: bool = True


def fresh(benchmark: str, subject: str) -> Figures:
    """
    Measure once, in an interpreter of its own, and leave nothing of it behind.

    Raises:
        RuntimeError: If it fails, or is not done in time; the text says why.
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
            out, complaint = child.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not done after {PATIENCE:.0f} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    if child.returncode:
        last = complaint.strip().splitlines()[-1:] or [f"exit {child.returncode}"]
        raise RuntimeError(last[0])
    figures: Figures = json.loads(out.splitlines()[-1])
    return figures


def interleave(benchmark: Benchmark, rounds: int) -> dict[str, list[Figures]]:
    """Measure all subjects in turn; return what each round gave."""
    found: dict[str, list[Figures]] = {subject: [] for subject in benchmark.subjects}
    warming = int(benchmark.warm_up)
    for number in range(min(rounds, benchmark.rounds) + warming):
        for subject in list(found):
            try:
                figures = fresh(benchmark.name, subject)
            except RuntimeError as error:
                del found[subject]
                print(f"{benchmark.name}: without {subject}: {error}", file=sys.stderr)
                continue
            if number >= warming:
                found[subject].append(figures)
    return found


def summed_up(by: Callable[..., float], rounds: Sequence[Figures]) -> dict[str, float]:
    """Return each figure over all rounds: their median, or the least, or the most."""
    return {name: by([figures[name] for figures in rounds]) for name in rounds[0]}


def rounded(figures: Figures) -> dict[str, float]:
    """Return the figures with as many digits as mean something."""
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def legible(value: float) -> str:
    """Return a number for people."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def report(benchmark: Benchmark, rounds: int) -> Iterator[str]:
    """Measure; print a JSON line per subject; yield the lines of the table."""
    found = interleave(benchmark, rounds)
    medians = {
        subject: summed_up(statistics.median, results)
        for subject, results in found.items()
    }
    yield f"\n{benchmark.name}"
    for subject, results in found.items():
        least, most = summed_up(min, results), summed_up(max, results)
        told = {
            "benchmark": benchmark.name,
            "subject": subject,
            "rounds": len(results),
            "median": rounded(medians[subject]),
            "min": rounded(least),
            "max": rounded(most),
        }
        print(json.dumps(told, ensure_ascii=False), flush=True)
        reference = next(iter(medians.values()))
        for name, value in medians[subject].items():
            base = reference.get(name)
            ratio = f"{value / base:8.2f} x" if base and len(medians) > 1 else ""
            spread = f"{legible(least[name])} to {legible(most[name])}"
            yield f"  {subject:24} {legible(value):>11} {name:9} {ratio:11} {spread}"
    yield from (f"  {goal.judge(medians)}" for goal in benchmark.goals)


def machine() -> dict[str, object]:
    """Return what the figures were taken on."""
    return {
        "processors": f"{os.cpu_count()} x {model()}",
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
        "day": time.strftime("%Y-%m-%d"),
    }


def model() -> str:
    """Return what the processor calls itself."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.machine()


def main(about: str, benchmarks: Sequence[Benchmark]) -> None:
    """Run what the command line names, all by default."""
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
        parser.error(f"no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    print(json.dumps({"machine": machine()}))
    chosen = [known[name] for name in options.names or known]
    table = [line for one in chosen for line in report(one, options.rounds)]
    print("\n".join(table))
