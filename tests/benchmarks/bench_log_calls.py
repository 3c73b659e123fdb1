"""
Measure a log call: ``python tests/benchmarks/bench_log_calls.py [--rounds N]``.

Each measurement runs in a new interpreter. The subjects take turns (A B C, A B C, …), and
the figures are medians. They are CPU time, which a busy machine affects less than elapsed
time; only ratios within one run count. The output is one JSON line per subject, then a
table.

Subjects:
    raw          time, f-string, orjson, list, join, ``os.write``; no thread, no lock
    plain        ``logger.info(component, message, context)``
    error        ``logger.error(…)``
    new message  ``logger.info`` with a message that was never logged before
    bound        ``logger.bind(component).info(message, context)``
    spool        ``logger.info(…)`` of a logger whose lines survive SIGKILL
    each awaited ``await logger.info(…)`` for each line, in 1,000 tasks at once
    raw, awaited the same with the line of ``raw`` and a future, the cost of asyncio alone
    stdlib       the standard library's FileHandler with the same line
    structlog    structlog's BytesLogger with orjson

``call`` is the CPU time of the call itself, ``line`` the CPU time until the line is on
disk; the script waits for the disk every 4,000 lines. The ratios are to the line of
``raw``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson
import structlog

from realtalk_async.logs import Logger

COUNT = 40_000
BATCH = 4_000
CONTEXT = {"exit_status": 1, "uptime": "00:03:22", "restarts": 4}
MESSAGE = "Process died unexpectedly"


def timed(call, flush):
    """Return nanoseconds per call, and per line until it is on disk."""
    for _ in range(BATCH):
        call()
    flush()
    calling = 0
    begun = time.process_time_ns()
    for _ in range(COUNT // BATCH):
        before = time.process_time_ns()
        for _ in range(BATCH):
            call()
        calling += time.process_time_ns() - before
        flush()
    return calling / COUNT, (time.process_time_ns() - begun) / COUNT


def raw_calls(path):
    """Return a call and a flush that do the least work possible for one line."""
    lines: list[bytes] = []
    second, stamp = 0, ""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def call(component="sox_bg", message=MESSAGE, context=CONTEXT):
        nonlocal second, stamp
        now = int(time.time())
        if now != second:
            second = now
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        head = f"[{stamp}] [INFO] [{component}] {message} "
        lines.append(head.encode() + orjson.dumps(context) + b"\n")

    def flush():
        os.write(file, b"".join(lines))
        lines.clear()

    return call, flush


def raw(path):
    return timed(*raw_calls(path))


def ours(path, make, **options):
    """Time the call that *make* returns for a logger, inside its block."""

    async def main():
        async with Logger(path, **options) as logger:
            call = make(logger)
            for _ in range(BATCH):
                call()
            await logger.flush()
            calling = 0
            begun = time.process_time_ns()
            for _ in range(COUNT // BATCH):
                before = time.process_time_ns()
                for _ in range(BATCH):
                    call()
                calling += time.process_time_ns() - before
                await logger.flush()
            return calling / COUNT, (time.process_time_ns() - begun) / COUNT

    return asyncio.run(main())


def plain(path):
    return ours(path, lambda log: lambda: log.info("sox_bg", MESSAGE, CONTEXT))


def spool(path):
    make = lambda log: lambda: log.info("sox_bg", MESSAGE, CONTEXT)  # noqa: E731
    return ours(path, make, spool=True)


def error(path):
    return ours(path, lambda log: lambda: log.error("sox_bg", MESSAGE, CONTEXT))


def new_message(path):
    numbers = iter(range(10 * COUNT))
    return ours(
        path,
        lambda log: (
            lambda: log.info("sox_bg", f"Process {next(numbers)} died", CONTEXT)
        ),
    )


def bound(path):
    def make(log):
        front = log.bind("sox_bg")
        return lambda: front.info(MESSAGE, CONTEXT)

    return ours(path, make)


def in_tasks(work):
    """Return nanoseconds per line when 1,000 tasks run *work*, COUNT times in all."""

    async def repeat():
        for _ in range(COUNT // 1000):
            await work()

    async def main():
        begun = time.process_time_ns()
        await asyncio.gather(*(repeat() for _ in range(1000)))
        return (time.process_time_ns() - begun) / COUNT

    return main()


def awaited(path):
    async def main():
        async with Logger(path) as logger:

            async def work():
                await logger.info("sox_bg", MESSAGE, CONTEXT)

            return await in_tasks(work)

    spent = asyncio.run(main())
    return spent, spent


def raw_awaited(path):
    call, flush = raw_calls(path)
    waiting: list[asyncio.Future] = []

    def serve():
        flush()
        for future in waiting:
            future.set_result(True)
        waiting.clear()

    async def work():
        loop = asyncio.get_running_loop()
        call()
        if not waiting:
            loop.call_soon(serve)
        future = loop.create_future()
        waiting.append(future)
        await future

    spent = asyncio.run(in_tasks(work))
    return spent, spent


def stdlib(path):
    handler = logging.FileHandler(path)
    handler.setFormatter(
        logging.Formatter(
            "[%(asctime)s] [%(levelname)s] [%(name)s] %(message)s", "%Y-%m-%d %H:%M:%S"
        )
    )
    log = logging.getLogger("sox_bg")
    log.propagate = False
    log.setLevel(logging.INFO)
    log.addHandler(handler)

    def call():
        log.info("%s %s", MESSAGE, orjson.dumps(CONTEXT).decode())

    return timed(call, handler.flush)


def structlogs(path):
    with path.open("ab") as file:
        log = structlog.wrap_logger(
            structlog.BytesLogger(file),
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper("%Y-%m-%d %H:%M:%S", utc=False),
                structlog.processors.JSONRenderer(orjson.dumps),
            ],
            cache_logger_on_first_use=True,
        ).bind(component="sox_bg")
        return timed(lambda: log.info(MESSAGE, **CONTEXT), file.flush)


SUBJECTS = {
    "raw": raw,
    "plain": plain,
    "error": error,
    "new message": new_message,
    "bound": bound,
    "spool": spool,
    "each awaited": awaited,
    "raw, awaited": raw_awaited,
    "stdlib": stdlib,
    "structlog": structlogs,
}


def measure(subject):
    """Measure in a new interpreter."""
    ran = subprocess.run(
        [sys.executable, __file__, "--subject", subject],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout)


def compare(rounds):
    costs = {subject: [] for subject in SUBJECTS}
    for _ in range(rounds):
        for subject in SUBJECTS:
            costs[subject].append(measure(subject))
    medians = {}
    for subject, measured in costs.items():
        calls, lines = zip(*measured, strict=True)
        medians[subject] = statistics.median(calls), statistics.median(lines)
        record = {
            "benchmark": "log call",
            "subject": subject,
            "call_ns": round(medians[subject][0]),
            "line_ns": round(medians[subject][1]),
            "call_spread_ns": [round(min(calls)), round(max(calls))],
        }
        print(json.dumps(record))
    raw_line = medians["raw"][1]
    print(f"\n{'':12} {'call':>8} {'/ raw':>6} {'line':>8} {'/ raw':>6}")
    for subject, (call, line) in medians.items():
        print(
            f"{subject:12} {call:5.0f} ns {call / raw_line:6.2f} "
            f"{line:5.0f} ns {line / raw_line:6.2f}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--subject", choices=SUBJECTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.subject is None:
        compare(options.rounds)
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(SUBJECTS[options.subject](Path(folder) / "app.log")))


if __name__ == "__main__":
    main()
