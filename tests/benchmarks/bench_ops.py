"""
Measure what it costs to be watched, and how soon it is told that an app hangs.

    scraped        CPU seconds to capture 20 million lines of 100 bytes: alone, and with
                   /metrics and /healthz asked for once a second
    crowd          500 idle children and four floods: lateness of a 20 ms ticker in ms,
                   alone and scraped once a second; ms of a scrape
    hang           seconds until /healthz answers 503, asked when the loop has just begun
                   to hang (it may be 1 s late), and asked again
    plugin         ms to import the pytest plugin, in an interpreter that has pytest
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import statistics
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from measure import Benchmark, Figures, Goal, main

from realtalk_async import Command, Logger, ProcessManager
from realtalk_async.ops import serve_metrics

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from realtalk_async.ops.http import Endpoint

LINES = "import sys\nfor _ in range(20000): sys.stdout.write(('x' * 99 + '\\n') * 1000)"
CHILDREN, FLOODS = 500, 4
SECONDS = 8.0
TICK = 0.02
PLUGIN = (
    "import pytest, time; began = time.perf_counter(); "
    "import realtalk_async.testing.plugin; print(time.perf_counter() - began)"
)


@contextlib.asynccontextmanager
async def app() -> AsyncGenerator[tuple[ProcessManager, Endpoint]]:
    """Run an app that serves its metrics."""
    async with (
        Logger() as logger,
        ProcessManager(logger) as manager,
        serve_metrics(manager, port=0) as endpoint,
    ):
        yield manager, endpoint


def fetch(endpoint: Endpoint, page: str) -> tuple[int, float]:
    """Return status and seconds of a page."""
    began = time.perf_counter()
    asking = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=30)
    asking.request("GET", page)
    answer = asking.getresponse()
    answer.read()
    asking.close()
    return answer.status, time.perf_counter() - began


@contextlib.contextmanager
def scraped(endpoint: Endpoint, every: float) -> Iterator[list[float]]:
    """Ask for both pages now and then, from a thread; give the seconds of each scrape."""
    over, took = threading.Event(), list[float]()

    def ask() -> None:
        while not over.wait(every):
            took.append(fetch(endpoint, "/metrics")[1])
            fetch(endpoint, "/healthz")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def capture(*, watched: bool) -> Callable[[], Figures]:
    """Return a subject: what a flood costs the app, watched or not."""

    async def measure() -> Figures:
        async with app() as (manager, endpoint):
            how = scraped(endpoint, 1.0) if watched else contextlib.nullcontext()
            began = time.process_time()
            with how:
                process = await manager.start(
                    "flood", Command(sys.executable, "-c", LINES)
                )
                await process.wait()
            return {"CPU seconds": time.process_time() - began}

    return lambda: asyncio.run(measure())


def crowd(*, watched: bool) -> Callable[[], Figures]:
    """Return a subject: how late a ticker is among many children, watched or not."""

    async def measure() -> Figures:
        async with app() as (manager, endpoint):
            for number in range(CHILDREN):
                await manager.start(f"idle-{number}", Command("sleep", "1000"))
            for number in range(FLOODS):
                await manager.start(f"flood-{number}", Command("yes"))
            how = scraped(endpoint, 1.0) if watched else contextlib.nullcontext([0.0])
            with how as took:
                late = await tick()
            return {
                "p99 ms": statistics.quantiles(late, n=100)[98] * 1e3,
                "max ms": max(late) * 1e3,
                "scrape ms": statistics.median(took) * 1e3,
            }

    return lambda: asyncio.run(measure())


async def tick() -> list[float]:
    """Return how late each tick came."""
    late: list[float] = []
    loop = asyncio.get_running_loop()
    due = loop.time()
    for _ in range(int(SECONDS / TICK)):
        due += TICK
        await asyncio.sleep(due - loop.time())
        late.append(max(0.0, loop.time() - due))
    return late


def hang() -> Figures:
    """Return how soon a loop that hangs is told of."""

    async def measure() -> Figures:
        answers: list[tuple[int, float]] = []
        async with app() as (_, endpoint):
            asking = threading.Thread(
                target=lambda: answers.extend(
                    fetch(endpoint, "/healthz") for _ in range(3)
                )
            )
            asking.start()
            while asking.is_alive():
                time.sleep(0.001)
        assert {status for status, _ in answers} == {503}
        return {"first s": answers[0][1], "then s": answers[-1][1]}

    return asyncio.run(measure())


def plugin() -> Figures:
    """Return what the plugin costs every test run."""
    told = [
        subprocess.run(
            [sys.executable, "-c", PLUGIN], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(7)
    ]
    return {"ms": statistics.median(map(float, told)) * 1e3}


BENCHMARKS = [
    Benchmark(
        "scraped",
        {"alone": capture(watched=False), "watched": capture(watched=True)},
        [Goal("CPU seconds", at_most=1.05, subject="watched", of="alone")],
    ),
    Benchmark(
        "crowd",
        {"alone": crowd(watched=False), "watched": crowd(watched=True)},
        [Goal("p99 ms", at_most=1.5, subject="watched", of="alone")],
    ),
    Benchmark("hang", {"ours": hang}, [Goal("first s", at_most=1.1)], rounds=1),
    Benchmark("plugin", {"ours": plugin}, [Goal("ms", at_most=10)], rounds=1),
]

if __name__ == "__main__":
    main(__doc__ or "", BENCHMARKS)
