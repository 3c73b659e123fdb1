"""
Kill apps with SIGKILL and count the processes that they leave behind.

Run it: ``python tests/benchmarks/bench_orphans.py [NAME …]``. An app is a manager with a
child that ignores SIGTERM, a child with two children of its own, and a daemon in another
session. It runs in a fork of an interpreter that has imported the package. The figures
are the number of killed apps, the number of their processes that live after 1 s and after
20 s (``for good``), and the seconds until the last process is gone.

Benchmarks:
    anywhere     150 apps, each killed at a random moment while it spawns child after child
    at a spawn   50 apps, each killed by a child that it spawns, possibly before the app
                 knows the child's pid
    in a probe   200 apps, each killed at a random moment while the programs of probes
                 start and end
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Benchmark, Goal, main

from realtalk_async.logs import Logger
from realtalk_async.supervision import ProcessManager, exec_probe
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.testing import programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from measure import Figures

TRIES = {"anywhere": 150, "at a spawn": 50, "in a probe": 200}
AT_ONCE = 4
"""Apps that run at the same time."""

ALLOWED = 1.0
"""Seconds in which all processes of a killed app should end."""

TIMEOUT = 20.0
"""Seconds after which a process counts as left behind for good."""

SPAWNS = 0.3
"""Seconds of spawning, in which an app is killed at a random moment."""

PROBE = programs.shell("sleep 0.01 & [ $(( $$ % 3 )) = 0 ] && exec sleep 1000; exit 0")
"""The program of a probe: it has a child of its own, and hangs now and then."""

KILLER = programs.shell("kill -9 $PPID; exec sleep 1000")
"""Kills the app before it does anything else."""


async def app(messages: int, log: Path, name: str) -> None:
    """Write the tag of the manager to a pipe and spawn children until SIGKILL."""
    async with ProcessManager(Logger(log)) as manager:
        tag = "=".join(next(iter(manager.environment.items())))
        stubborn = await manager.start("stubborn", programs.ignores_sigterm())
        await stubborn.wait_for_line("ready", timeout=60)
        await manager.start("family", programs.forks(2))
        daemon = await manager.start("daemon", programs.daemonizes())
        await daemon.wait_for_line("[0-9]+", timeout=60)
        os.write(messages, tag.encode())
        os.close(messages)
        if name == "in a probe":
            for number in range(10):
                probe = exec_probe(PROBE, period=0.01, timeout=0.1)
                await manager.start(f"{number}", programs.runs(), probes=[probe])
            await asyncio.sleep(1000)
        for number in range(10_000):
            killer = KILLER if name == "at a spawn" else programs.runs()
            await manager.start(f"{number}", killer)


def forked(work: Callable[[int], None]) -> tuple[int, int]:
    """Run *work* in a fork; return its pid and the pipe that *work* writes to."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            work(writing)
        finally:
            os._exit(0)
    os.close(writing)
    return pid, reading


def read_all(reading: int) -> str:
    """Read a pipe to its end."""
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read().decode()


def kill_app(name: str, log: Path, moment: float) -> tuple[int, int, float]:
    """Kill one app; return the survivors after 1 s and after 20 s, and the last end."""
    pid, reading = forked(lambda messages: asyncio.run(app(messages, log, name)))
    tag = read_all(reading)
    if name != "at a spawn":
        time.sleep(moment)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    began = time.monotonic()
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert tag
    late = 0
    while left := process_groups.find_tagged(tag):
        passed = time.monotonic() - began
        if passed > ALLOWED:
            late = late or len(left)
        if passed > TIMEOUT:
            break
        time.sleep(0.005)
    passed = time.monotonic() - began
    process_groups.kill_tagged(tag)
    return late, len(left), passed


def kill_in_turn(
    name: str, tries: int, seed: int, folder: Path
) -> Iterator[list[float]]:
    """Kill several apps one after the other; yield the result of each."""
    rng = random.Random(seed)
    for number in range(tries):
        log = folder / f"{seed}-{number}.log"
        yield list(kill_app(name, log, rng.uniform(0, SPAWNS)))


def survivors(name: str) -> Figures:
    """Kill apps in AT_ONCE processes at the same time; return the sums."""
    tries = int(os.environ.get("ORPHAN_TRIES", TRIES[name]))
    with tempfile.TemporaryDirectory() as folder:

        def work(messages: int, seed: int) -> None:
            share = len(range(seed, tries, AT_ONCE))
            found = list(kill_in_turn(name, share, seed, Path(folder)))
            os.write(messages, json.dumps(found).encode())

        forks = [forked(partial(work, seed=seed)) for seed in range(AT_ONCE)]
        outputs = [read_all(reading) for _, reading in forks]
        found = [result for output in outputs for result in json.loads(output)]
        for pid, _ in forks:
            os.waitpid(pid, 0)
    late, left, passed = zip(*found, strict=True)
    return {
        "apps": len(found),
        "after 1 s": sum(late),
        "for good": sum(left),
        "gone in s": max(passed),
    }


BENCHMARKS = [
    Benchmark(
        name,
        {"ours": partial(survivors, name)},
        [Goal("after 1 s", at_most=0), Goal("for good", at_most=0)],
        rounds=1,
        warm_up=False,
    )
    for name in TRIES
]

if __name__ == "__main__":
    main(__doc__, BENCHMARKS)
