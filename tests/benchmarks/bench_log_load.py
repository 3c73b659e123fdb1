"""
Measure the log under load: ``python tests/benchmarks/bench_log_load.py [NAME …]``.

Each measurement runs in a new interpreter. The subjects take turns (A B C, A B C, …); the
figures are medians, and only ratios within one run count. The output is one JSON line per
benchmark and subject, then tables.

Benchmarks:
    lines      lines per second until all are on disk, one thread
    threads    the same with 8 threads
    processes  the same with 4 processes and one file
    steady     20,000 lines per second for 3 s, 400 every 20 ms: CPU seconds, lateness of
               a 5 ms ticker
    trickle    the same, 20 lines every millisecond
    stalls     the same while every write in the first half of each second stalls
    flood      a producer faster than the disk (10 MB/s) for 10 s: growth of memory,
               dropped lines, and dropped lines that the log does not report
    killed     SIGKILL during 20 lines per millisecond, ten times: missing lines, as
               milliseconds of lines

Subjects: this package without and with the spool; the standard library's StreamHandler and
QueueHandler; structlog's BytesLogger with orjson; loguru, if it is installed. ``raw``
formats the lines, joins 4,000 of them and calls ``os.write``, without a thread or a lock.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import io
import json
import logging
import logging.handlers
import mmap
import os
import queue
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import orjson
import structlog

from realtalk_async.logs import Logger

CONTEXT = {"exit_status": 1, "uptime": "00:03:22", "restarts": 4}
MESSAGE = "Process died unexpectedly"
BATCH = 4_000
FORMAT = "[%(asctime)s] [%(levelname)s] [%(name)s] %(message)s"
RATE, SECONDS, TICK = 20_000, 3, 0.005
SPOOLED = "ours, spool"
FAST = {"ours", SPOOLED, "raw"}


class Raw(io.RawIOBase):
    """An unbuffered file that calls ``os.write``, which a benchmark can slow down."""

    def __init__(self, path):
        self.descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def writable(self):
        return True

    def write(self, data):
        return os.write(self.descriptor, data)


# Subjects: each is a context manager that yields a function that logs one line.


@contextmanager
def raw(path):
    lines: list[bytes] = []
    stream = Raw(path)
    last = [0, ""]

    def call():
        now = int(time.time())
        if now != last[0]:
            last[:] = [now, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))]
        head = f"[{last[1]}] [INFO] [sox_bg] {MESSAGE} "
        lines.append(head.encode() + orjson.dumps(CONTEXT) + b"\n")
        if len(lines) >= BATCH:
            flush()

    def flush():
        taken = lines[:]
        del lines[: len(taken)]
        stream.write(b"".join(taken))

    yield call
    flush()


def _std(handler):
    handler.setFormatter(logging.Formatter(FORMAT, "%Y-%m-%d %H:%M:%S"))
    log = logging.getLogger("sox_bg")
    log.propagate = False
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    return lambda: log.info("%s %s", MESSAGE, orjson.dumps(CONTEXT).decode())


@contextmanager
def stdlib(path):
    with io.TextIOWrapper(io.BufferedWriter(Raw(path))) as stream:
        yield _std(logging.StreamHandler(stream))


@contextmanager
def queued(path):
    with io.TextIOWrapper(io.BufferedWriter(Raw(path))) as stream:
        waiting: queue.SimpleQueue = queue.SimpleQueue()
        last = logging.StreamHandler(stream)
        listener = logging.handlers.QueueListener(waiting, last)
        call = _std(logging.handlers.QueueHandler(waiting))
        listener.start()
        yield call
        listener.stop()


@contextmanager
def structlogs(path):
    with Raw(path) as stream:
        log = structlog.wrap_logger(
            structlog.BytesLogger(stream),
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper("%Y-%m-%d %H:%M:%S", utc=False),
                structlog.processors.JSONRenderer(orjson.dumps),
            ],
            cache_logger_on_first_use=True,
        ).bind(component="sox_bg")
        yield lambda: log.info(MESSAGE, **CONTEXT)


@contextmanager
def loguru(path):
    from loguru import logger

    logger.remove()
    logger.add(io.TextIOWrapper(io.BufferedWriter(Raw(path))), format="{message}")
    yield lambda: logger.info(MESSAGE + " {}", orjson.dumps(CONTEXT).decode())
    _ = logger.complete()  # a call without await writes the waiting lines


PEERS = {
    "raw": raw,
    "stdlib": stdlib,
    "QueueHandler": queued,
    "structlog": structlogs,
    "loguru": loguru,
}


def subjects():
    known = ["ours", SPOOLED, *PEERS]
    if importlib.util.find_spec("loguru") is None:
        known.remove("loguru")
    return known


# Benchmarks


def in_loop(subject, path, work):
    """Run *work* with the subject's log call and its flush in an event loop."""

    async def ours():
        async with Logger(path, spool=subject == SPOOLED) as logger:
            await work(
                lambda: logger.info("sox_bg", MESSAGE, CONTEXT), logger.flush, logger
            )

    async def theirs():
        with PEERS[subject](path) as call:
            await work(call, lambda: asyncio.sleep(0), None)

    asyncio.run(ours() if subject.startswith("ours") else theirs())


def per_second(path, count, work, subject):
    begun, used = time.perf_counter(), time.process_time()
    in_loop(subject, path, work)
    spent, used = time.perf_counter() - begun, time.process_time() - used
    found = path.read_bytes().count(b"\n")
    # On a busy machine CPU time is steadier than elapsed time.
    return {
        "lines/s": found / spent,
        "lines/CPU s": found / used,
        "lost": count - found,
    }


def lines(subject, path):
    count = 800_000 if subject in FAST else 80_000

    async def work(call, flush, _):
        for _ in range(count // BATCH):
            for _ in range(BATCH):
                call()
            await flush()

    return per_second(path, count, work, subject)


def threads(subject, path):
    each = 30_000 if subject in FAST else 8_000

    async def work(call, _flush, _):
        def run():
            for _ in range(each):
                call()

        running = [threading.Thread(target=run) for _ in range(8)]
        for thread in running:
            thread.start()
        while any(thread.is_alive() for thread in running):
            await asyncio.sleep(0.002)

    return per_second(path, 8 * each, work, subject)


def processes(subject, path):
    each = 120_000 if subject in FAST else 20_000
    argv = [sys.executable, __file__, "--child", subject, str(path), str(each)]
    children = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    for child in children:
        child.stdout.readline()
    begun = time.perf_counter()
    for child in children:
        child.stdin.write(b"\n")
        child.stdin.flush()
    for child in children:
        child.communicate()
    spent = time.perf_counter() - begun
    found = path.read_bytes().count(b"\n")
    return {"lines/s": found / spent, "lost": 4 * each - found}


def child(subject, path, each):
    async def work(call, flush, _):
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(each // BATCH):
            for _ in range(BATCH):
                call()
            await flush()

    in_loop(subject, Path(path), work)


def steady(subject, path, every=0.02):
    late: list[float] = []

    async def work(call, _flush, _):
        async def tick():
            due = time.perf_counter()
            while True:
                due += TICK
                await asyncio.sleep(due - time.perf_counter())
                late.append(time.perf_counter() - due)

        ticker = asyncio.create_task(tick())
        begun = time.perf_counter()
        sent = 0
        while (now := time.perf_counter() - begun) < SECONDS:
            for _ in range(int(now * RATE) - sent):
                call()
                sent += 1
            await asyncio.sleep(every)
        ticker.cancel()

    before = time.process_time()
    if subject == "no log":
        asyncio.run(work(lambda: None, None, None))
    else:
        in_loop(subject, path, work)
    late.sort()
    return {
        "CPU s": time.process_time() - before,
        "p99 ms": late[len(late) * 99 // 100] * 1000,
        "max ms": late[-1] * 1000,
    }


def trickle(subject, path):
    return steady(subject, path, 0.001)


def stalls(subject, path):
    write = os.write

    def stalling(descriptor, data):
        if len(data) > 8:  # not a byte that wakes the event loop
            time.sleep(max(0.5 - time.monotonic() % 1, 0))
        return write(descriptor, data)

    os.write = stalling
    return steady(subject, path)


def flood(subject, path):
    write = os.write
    free_from = [0.0]
    sent = before = 0

    def slow(descriptor, data):
        free_from[0] = max(free_from[0], time.monotonic()) + len(data) / 10_000_000
        time.sleep(max(free_from[0] - time.monotonic(), 0))
        return write(descriptor, data)

    async def work(call, flush, _):
        nonlocal sent, before
        os.write = slow
        for _ in range(20_000):  # so that buffers have their usual size
            call()
        await flush()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sent += 20_000
        end = time.monotonic() + 10
        while time.monotonic() < end:
            for _ in range(1_000):
                call()
            sent += 1_000
            await (flush() if awaiting else asyncio.sleep(0))

    awaiting = subject == "ours, awaited"
    in_loop("ours" if awaiting else subject, path, work)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    reported = found = 0
    for line in path.open("rb"):
        if b"lines were dropped" in line:
            reported += sum(orjson.loads(line[line.index(b' {"') :]).values())
        elif b"] [log] " not in line:
            found += 1
    dropped = sent - found
    return {
        "growth MB": grown,
        "dropped": dropped,
        "unreported": dropped - reported,
        "sent": sent,
    }


def killed(subject, path):
    missing = []
    for number in range(10):
        log, counter = path.with_suffix(f".{number}"), path.with_suffix(".count")
        counter.write_bytes(bytes(8))
        argv = [sys.executable, __file__, "--child", subject, str(log), str(counter)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(0.5 + number * 0.0013)
            process.kill()
        if subject == SPOOLED:
            Logger(log).info("next", "process")  # recovers the spooled lines
        sent = int.from_bytes(counter.read_bytes(), "little")
        written = log.read_bytes().count(MESSAGE.encode())
        missing.append((sent - written) * 1000 / RATE)
    return {"median ms": statistics.median(missing), "worst ms": max(missing)}


def victim(subject, path, counter):
    async def work(call, _flush, _):
        with counter.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
            print("ready", flush=True)
            begun, sent = time.perf_counter(), 0
            while True:
                for _ in range(int((time.perf_counter() - begun) * RATE) - sent):
                    call()
                    sent += 1
                    shared[:] = sent.to_bytes(8, "little")
                await asyncio.sleep(0.001)

    in_loop(subject, Path(path), work)


BENCHMARKS = {
    "lines": (lines, "raw", []),
    "threads": (threads, "stdlib", []),
    "processes": (processes, "stdlib", []),
    "steady": (steady, "no log", ["no log"]),
    "trickle": (trickle, "no log", ["no log"]),
    "stalls": (stalls, "no log", ["no log"]),
    "flood": (flood, None, ["ours, awaited"]),
    "killed": (killed, None, []),
}
NOT_IN = {
    "threads": {"raw"},
    "steady": {"raw"},
    "trickle": {"raw"},
    "stalls": {"raw"},
    "killed": {"raw"},
}
FLOODED = {"ours", "ours, awaited"}  # the others would take minutes to end


def subjects_of(name):
    """Return the subjects of a benchmark."""
    known = [*BENCHMARKS[name][2], *subjects()]
    if name == "flood":
        return [subject for subject in known if subject in FLOODED]
    return [subject for subject in known if subject not in NOT_IN.get(name, ())]


def measure(name, subject):
    """Measure in a new interpreter."""
    ran = subprocess.run(
        [sys.executable, __file__, name, "--subject", subject],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout)


def compare(name, rounds):
    found = defaultdict(lambda: defaultdict(list))
    for _ in range(1 if name in {"flood", "killed"} else rounds):
        for subject in subjects_of(name):
            for what, value in measure(name, subject).items():
                found[subject][what].append(value)
    medians = {
        subject: {what: statistics.median(values) for what, values in figures.items()}
        for subject, figures in found.items()
    }
    for subject, figures in medians.items():
        rounded = {what: round(value, 3) for what, value in figures.items()}
        spread = {
            w: [round(min(v), 3), round(max(v), 3)] for w, v in found[subject].items()
        }
        print(
            json.dumps(
                {"benchmark": name, "subject": subject, **rounded, "spread": spread}
            )
        )
    return medians


def table(name, medians):
    print(f"\n{name}")
    for subject, figures in medians.items():
        row = "".join(f"{value:13,.2f} {what}" for what, value in figures.items())
        ratios = ""
        for base in ("raw", "stdlib"):
            for what in [*figures][: 2 if "lines/CPU s" in figures else 1]:
                if base in medians and medians[base][what]:
                    ratios += f"  {figures[what] / medians[base][what]:6.2f} x {base}"
        print(f"  {subject:14}{row}{ratios}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("names", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--subject", help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        subject, path, more = options.child
        if more.isdigit():
            child(subject, path, int(more))
        else:
            victim(subject, path, Path(more))
        return
    names = options.names or list(BENCHMARKS)
    if options.subject is not None:
        with tempfile.TemporaryDirectory() as folder:
            run = BENCHMARKS[names[0]][0]
            print(json.dumps(run(options.subject, Path(folder) / "app.log")))
        return
    tables = {name: compare(name, options.rounds) for name in names}
    for name, medians in tables.items():
        table(name, medians)


if __name__ == "__main__":
    main()
