"""
Kill apps with SIGKILL and count who of them is left.

An app is a manager with a child that ignores SIGTERM, a family of three and a daemon in a
session of its own, in an interpreter that has loaded the package before. Each benchmark is
told: how many apps were killed, how many of their processes lived a second later, how many
were never gone, and after how many seconds the last one was gone.

    anywhere     150 apps, from their start on, while they spawn one child after the other
    at a spawn   50 apps, by the very child that they spawn: the app may not even have
                 learned its pid
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
from realtalk_async.supervision import ProcessManager
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.testing import programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from measure import Figures

TRIES = {"anywhere": 150, "at a spawn": 50}
AT_ONCE = 4
"""Apps that run, and are killed, at the same time."""

ALLOWED = 1.0
"""Seconds in which everybody has to be gone."""

PATIENCE = 20.0
"""Seconds after which somebody counts as left behind for good."""

SPAWNS = 0.3
"""Seconds in which an app is killed somewhere, while it spawns."""

KILLER = programs.shell("kill -9 $PPID; exec sleep 1000")
"""Kills the app as the first thing that it does."""


async def app(told: int, log: Path, name: str) -> None:
    """Be an app: say our tag and go on until we are killed."""
    async with ProcessManager(Logger(log)) as manager:
        tag = "=".join(next(iter(manager.environment.items())))
        deaf = await manager.start("deaf", programs.ignores_sigterm())
        await deaf.wait_for_line("ready", timeout=60)
        await manager.start("family", programs.forks(2))
        daemon = await manager.start("daemon", programs.escapes())
        await daemon.wait_for_line("[0-9]+", timeout=60)
        os.write(told, tag.encode())
        os.close(told)
        for number in range(10_000):
            killer = KILLER if name == "at a spawn" else programs.runs()
            await manager.start(f"{number}", killer)


def forked(work: Callable[[int], None]) -> tuple[int, int]:
    """Do something in a fork; return its pid, and a pipe with what it has to say."""
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


def said(reading: int) -> str:
    """Return all that is said on a pipe."""
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read().decode()


def killed(name: str, log: Path, moment: float) -> tuple[int, int, float]:
    """Kill one app; return who lived a second later, who lives, and until when."""
    pid, reading = forked(lambda told: asyncio.run(app(told, log, name)))
    tag = said(reading)
    if name == "anywhere":
        time.sleep(moment)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    began = time.monotonic()
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert tag
    late = 0
    while left := process_groups.tagged(tag):
        passed = time.monotonic() - began
        if passed > ALLOWED:
            late = late or len(left)
        if passed > PATIENCE:
            break
        time.sleep(0.005)
    passed = time.monotonic() - began
    process_groups.end_all(tag)
    return late, len(left), passed


def lane(name: str, tries: int, seed: int, folder: Path) -> Iterator[list[float]]:
    """Kill so many apps, one after the other."""
    dice = random.Random(seed)
    for number in range(tries):
        log = folder / f"{seed}-{number}.log"
        yield list(killed(name, log, dice.uniform(0, SPAWNS)))


def survivors(name: str) -> Figures:
    """Kill apps, some at once, and sum up."""
    tries = int(os.environ.get("ORPHAN_TRIES", TRIES[name]))
    with tempfile.TemporaryDirectory() as folder:

        def work(told: int, seed: int) -> None:
            share = len(range(seed, tries, AT_ONCE))
            found = list(lane(name, share, seed, Path(folder)))
            os.write(told, json.dumps(found).encode())

        lanes = [forked(partial(work, seed=seed)) for seed in range(AT_ONCE)]
        found = [one for _, reading in lanes for one in json.loads(said(reading))]
        for pid, _ in lanes:
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
