"""
Measure metrics and health: ``python tests/benchmarks/bench_ops.py [NAME …]``.

Benchmarks:
    scraped        CPU seconds to capture 20 million lines of 100 bytes, alone and with
                   one request per second to /metrics and /healthz
    many children  500 idle children and four floods: lateness in ms of a 20 ms ticker,
                   alone and scraped once per second; ms of a scrape
    hang           seconds until /healthz answers 503 (``max_lag`` is 1 s): the first
                   request comes as the loop begins to hang, the last one later
    plugin         ms to import the pytest plugin in an interpreter that has pytest
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
    """Run an app that serves metrics."""
    async with (
        Logger() as logger,
        ProcessManager(logger) as manager,
        serve_metrics(manager, port=0) as endpoint,
    ):
        yield manager, endpoint


def fetch(endpoint: Endpoint, page: str) -> tuple[int, float]:
    """Return the HTTP status of a page and the seconds until it is read."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=30)
    connection.request("GET", page)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, time.perf_counter() - began


@contextlib.contextmanager
def scraping(endpoint: Endpoint, interval: float) -> Iterator[list[float]]:
    """Fetch both pages regularly from a thread; yield the seconds of each scrape."""
    end, durations = threading.Event(), list[float]()

    def scrape() -> None:
        while not end.wait(interval):
            durations.append(fetch(endpoint, "/metrics")[1])
            fetch(endpoint, "/healthz")

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield durations
    finally:
        end.set()
        thread.join()


def capture(*, is_scraped: bool) -> Callable[[], Figures]:
    """Return a subject that captures a flood, scraped or not."""

    async def measure() -> Figures:
        async with app() as (manager, endpoint):
            scraper = (
                scraping(endpoint, 1.0) if is_scraped else contextlib.nullcontext()
            )
            began = time.process_time()
            with scraper:
                process = await manager.start(
                    "flood", Command(sys.executable, "-c", LINES)
                )
                await process.wait()
            return {"CPU seconds": time.process_time() - began}

    return lambda: asyncio.run(measure())


def many_children(*, is_scraped: bool) -> Callable[[], Figures]:
    """Return a subject that measures lateness with many children, scraped or not."""

    async def measure() -> Figures:
        async with app() as (manager, endpoint):
            for number in range(CHILDREN):
                await manager.start(f"idle-{number}", Command("sleep", "1000"))
            for number in range(FLOODS):
                await manager.start(f"flood-{number}", Command("yes"))
            none = contextlib.nullcontext([0.0])
            with scraping(endpoint, 1.0) if is_scraped else none as durations:
                late = await tick()
            return {
                "p99 ms": statistics.quantiles(late, n=100)[98] * 1e3,
                "max ms": max(late) * 1e3,
                "scrape ms": statistics.median(durations) * 1e3,
            }

    return lambda: asyncio.run(measure())


async def tick() -> list[float]:
    """Return the lateness of each tick in seconds."""
    late: list[float] = []
    loop = asyncio.get_running_loop()
    due = loop.time()
    for _ in range(int(SECONDS / TICK)):
        due += TICK
        await asyncio.sleep(due - loop.time())
        late.append(max(0.0, loop.time() - due))
    return late


def hang() -> Figures:
    """Return how soon /healthz reports a loop that hangs."""

    async def measure() -> Figures:
        answers: list[tuple[int, float]] = []
        async with app() as (_, endpoint):
            client = threading.Thread(
                target=lambda: answers.extend(
                    fetch(endpoint, "/healthz") for _ in range(3)
                )
            )
            client.start()
            while client.is_alive():
                time.sleep(0.001)
        assert {status for status, _ in answers} == {503}
        return {"first s": answers[0][1], "later s": answers[-1][1]}

    return asyncio.run(measure())


def plugin() -> Figures:
    """Return the import time of the pytest plugin, which every test run pays."""
    printed = [
        subprocess.run(
            [sys.executable, "-c", PLUGIN], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(7)
    ]
    return {"ms": statistics.median(map(float, printed)) * 1e3}


BENCHMARKS = [
    Benchmark(
        "scraped",
        {"alone": capture(is_scraped=False), "scraped": capture(is_scraped=True)},
        [Goal("CPU seconds", at_most=1.05, subject="scraped", of="alone")],
    ),
    Benchmark(
        "many children",
        {
            "alone": many_children(is_scraped=False),
            "scraped": many_children(is_scraped=True),
        },
        [Goal("p99 ms", at_most=1.5, subject="scraped", of="alone")],
    ),
    Benchmark("hang", {"ours": hang}, [Goal("first s", at_most=1.1)], rounds=1),
    Benchmark("plugin", {"ours": plugin}, [Goal("ms", at_most=10)], rounds=1),
]

if __name__ == "__main__":
    main(__doc__ or "", BENCHMARKS)
