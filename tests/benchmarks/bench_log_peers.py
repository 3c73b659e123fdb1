"""
Compare the log with other loggers: ``python tests/benchmarks/bench_log_peers.py [NAME …]``.

Benchmarks:
    log            CPU in ns of a call in its thread, and of the whole process until the
                   line is on disk; lines per second until all are on disk
    log stall      lateness in ms of a 5 ms ticker during 2,000 lines per second, while
                   every write in the first half of each second stalls
    log processes  lines per second of 4 processes into one file, and lost lines

``raw`` formats, joins and writes 4,000 lines at a time, without a thread or a lock.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import tempfile
import time
from functools import partial
from pathlib import Path

from log_peers import BATCH, LOGS, cost, line_count
from measure import Benchmark, Goal, main

RATE, SECONDS, TICK = 2_000, 3.0, 0.005


def on_file(benchmark, subject):
    """Run a benchmark with a new file."""
    with tempfile.TemporaryDirectory() as folder:
        return benchmark(subject, Path(folder, "app.log"))


def calls(subject, path):
    async def work():
        async with LOGS[subject](path) as log:
            return await cost(log, line_count(subject))

    return asyncio.run(work())


async def ticks(late):
    due = time.perf_counter()
    while True:
        due += TICK
        await asyncio.sleep(due - time.perf_counter())
        late.append(time.perf_counter() - due)


def stall(subject, path):
    write = os.write

    def stalling(descriptor, data):
        if len(data) > 8:  # not a byte that wakes the event loop
            time.sleep(max(0.5 - time.monotonic() % 1, 0))
        return write(descriptor, data)

    async def work():
        late = []
        async with LOGS[subject](path) as log:
            ticker = asyncio.create_task(ticks(late))
            begun, sent = time.perf_counter(), 0
            while (now := time.perf_counter() - begun) < SECONDS:
                due = int(now * RATE) - sent
                await log.calls(due)
                sent += due
                await asyncio.sleep(0.02)
            ticker.cancel()
            os.write = write
        return {"max ms": max(late) * 1e3}

    os.write = stalling
    return asyncio.run(work())


def fill(subject, path, count, ready):
    async def work():
        async with LOGS[subject](path) as log:
            ready.wait()
            for _ in range(count // BATCH):
                await log.calls(BATCH)
                await log.flush()

    asyncio.run(work())


def processes(subject, path, number=4):
    count = line_count(subject)
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(number + 1)
    work = [
        context.Process(target=fill, args=(subject, path, count, ready))
        for _ in range(number)
    ]
    for process in work:
        process.start()
    ready.wait()
    began = time.perf_counter()
    for process in work:
        process.join()
    seconds = time.perf_counter() - began
    found = path.read_bytes().count(b"\n")
    return {"lines/s": number * count / seconds, "lost": number * count - found}


def of_all(benchmark, *, without=()):
    return {
        subject: partial(on_file, benchmark, subject)
        for subject in LOGS
        if subject not in without
    }


BENCHMARKS = (
    Benchmark(
        "log",
        of_all(calls),
        (
            Goal("call ns", at_most=1.5, of="raw"),
            Goal("call ns", at_most=0.08, of="stdlib"),
            Goal("lines/s", at_least=0.65, of="raw"),
            Goal("lines/s", at_least=10, of="stdlib"),
        ),
    ),
    Benchmark(
        "log stall",
        of_all(stall, without={"raw"}),
        (Goal("max ms", at_most=10),),
        warm_up=False,
    ),
    Benchmark(
        "log processes",
        of_all(processes),
        (Goal("lines/s", at_least=6, of="stdlib"), Goal("lost", at_most=0)),
    ),
)

if __name__ == "__main__":
    main(__doc__, BENCHMARKS)
