"""
What supervision costs: ``python tests/benchmarks/bench_supervision.py [--rounds N] [NAME…]``.

One fresh interpreter per measurement, subjects in turn (A B A B …), medians. Prints one
JSON line per (benchmark, subject), then a table with the ratio to the first subject. The
machine is noisy: only ratios within one run count.

Benchmarks:
    capture 100, 10, 10k   CPU to capture 1M x 100 B, 5M x 10 B, 20k x 10 kB
    dribble                CPU to capture 200k lines that the child flushes one by one
    memory                 growth in MB for 1 GB captured; ms for the newest 100 lines,
                           and for one line anywhere
    one flood, ten floods  lateness of a 20 ms ticker beside ``yes``, in ms
    exits                  the same while 500 children are killed at once
    gather                 the same while 200 children are started by one ``gather``
    death                  µs from SIGKILL to our being told
    revival                µs from SIGKILL to the next incarnation
    spawn                  µs of our CPU for one start and one end
    idle                   500 idle children: threads, KiB each, CPU % with a check a second
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from realtalk_async.logs import Logger
from realtalk_async.supervision import (
    TEMPORARY,
    Command,
    ProcessManager,
    RestartPolicy,
)

WRITER = (
    "import os, sys\n"
    "count, size = int(sys.argv[1]), int(sys.argv[2])\n"
    "line = b'x' * (size - 1) + b'\\n'\n"
    "block = line * max(1, 65536 // size)\n"
    "left = count * size\n"
    "while left > 0: left -= os.write(1, block[:left])\n"
)
DRIBBLER = "import os\nfor n in range(200_000): os.write(1, b'%099d\\n' % n)"
PIPE = subprocess.PIPE


def program(source, *args):
    return (sys.executable, "-I", "-S", "-c", source, *map(str, args))


def cpu():
    return time.process_time()


def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@contextlib.asynccontextmanager
async def managing(**options):
    with tempfile.TemporaryDirectory() as folder:
        async with (
            Logger(Path(folder, "bench.log")) as logger,
            ProcessManager(logger, **options) as manager,
        ):
            yield manager


# ---- capture


def bare(argv):
    """Read to the end with nothing but ``os.read``, and keep the bytes."""
    with subprocess.Popen(argv, stdout=PIPE, bufsize=0) as child:
        kept, began = [], cpu()
        while data := os.read(child.stdout.fileno(), 65536):
            kept.append(data)
        return cpu() - began


async def asyncio_lines(argv):
    """Read lines as the documentation of asyncio shows, each with its time."""
    child = await asyncio.create_subprocess_exec(*argv, stdout=PIPE)
    kept, began = [], cpu()
    async for line in child.stdout:
        kept.append((time.monotonic(), line))
    used = cpu() - began
    await child.wait()
    return used


async def captured(argv):
    """Capture with all that belongs to it."""
    async with managing() as manager:
        began = cpu()
        one = await manager.start("one", Command(*argv), restart=TEMPORARY)
        await one.wait()
        return cpu() - began


def capture_of(argv):
    return {
        "bare read loop": lambda: {"s": bare(argv)},
        "ours": lambda: {"s": asyncio.run(captured(argv))},
        "asyncio lines": lambda: {"s": asyncio.run(asyncio_lines(argv))},
    }


async def remembered():
    async with managing() as manager:
        await (await manager.start("warm", Command("true"))).wait()
        gc.collect()
        before = rss()
        argv = program(WRITER, 10_000_000, 100)
        one = await manager.start("one", Command(*argv), restart=TEMPORARY)
        await one.wait()
        growth = (rss() - before) / 1e6
        lines = one.get_stdout()
        began = time.perf_counter()
        lines[-100:]
        newest = time.perf_counter() - began
        len(lines)
        times = []
        for number in range(0, 10_000_000, 100_003):
            began = time.perf_counter()
            lines[number]
            times.append(time.perf_counter() - began)
        line = statistics.median(times)
        return {"MB": growth, "newest ms": newest * 1e3, "line ms": line * 1e3}


# ---- lateness


async def tick(late, seconds):
    """Note by how much each of many 20 ms sleeps was late."""
    due = time.perf_counter()
    for _ in range(int(seconds / 0.02)):
        due += 0.02
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        late.append(max(0.0, time.perf_counter() - due))
        due = max(due, time.perf_counter() - 0.02)


def in_ms(late):
    late = sorted(late)
    return {"p99 ms": late[int(len(late) * 0.99)] * 1e3, "max ms": late[-1] * 1e3}


async def quiet():
    late = []
    await tick(late, 3.0)
    return in_ms(late)


async def flooded(count):
    late = []
    async with managing() as manager:
        for number in range(count):
            await manager.start(f"flood {number}", Command("yes", "x" * 60))
        await tick(late, 3.0)
    return in_ms(late)


async def exiting(count=500):
    late = []
    async with managing() as manager:
        ones = [
            await manager.start(f"{n}", Command("sleep", "1000"), restart=TEMPORARY)
            for n in range(count)
        ]
        ticking = asyncio.ensure_future(tick(late, 3.0))
        await asyncio.sleep(0.2)
        subprocess.Popen(["kill", "-9", *(str(one.pid) for one in ones)])
        await ticking
    return in_ms(late)


async def gathered(count=200):
    late = []
    async with managing() as manager:
        ticking = asyncio.ensure_future(tick(late, 3.0))
        await asyncio.sleep(0.1)
        began = time.perf_counter()
        await asyncio.gather(
            *(manager.start(f"{n}", Command("sleep", "1000")) for n in range(count))
        )
        took = time.perf_counter() - began
        await ticking
    return {**in_ms(late), "all s": took}


async def gathered_by_asyncio(count=200):
    late = []
    ticking = asyncio.ensure_future(tick(late, 3.0))
    await asyncio.sleep(0.1)
    began = time.perf_counter()
    children = await asyncio.gather(
        *(asyncio.create_subprocess_exec("sleep", "1000") for _ in range(count))
    )
    took = time.perf_counter() - began
    await ticking
    for child in children:
        child.kill()
        await child.wait()
    return {**in_ms(late), "all s": took}


# ---- death and life


async def told_by_pidfd(rounds=200):
    """The least that can be done: a descriptor that becomes readable."""
    loop, times = asyncio.get_running_loop(), []
    for _ in range(rounds):
        child = subprocess.Popen(["sleep", "1000"])
        told, descriptor = loop.create_future(), os.pidfd_open(child.pid)

        def reap(child=child, told=told, descriptor=descriptor):
            loop.remove_reader(descriptor)
            os.close(descriptor)
            child.wait()
            told.set_result(time.perf_counter())

        loop.add_reader(descriptor, reap)
        await asyncio.sleep(0.005)
        began = time.perf_counter()
        os.kill(child.pid, signal.SIGKILL)
        times.append(await told - began)
    return {"µs": statistics.median(times) * 1e6}


async def told_by_us(rounds=200):
    """Until the event of the death is published."""
    loop, times = asyncio.get_running_loop(), []
    async with managing() as manager:
        told = loop.create_future()

        def listen(event):
            if event.kind == "process.exited" and not told.done():
                told.set_result(time.perf_counter())

        manager.subscribe(listen)
        for number in range(rounds):
            told = loop.create_future()
            one = await manager.start(
                f"{number}", Command("sleep", "1000"), restart=TEMPORARY
            )
            await asyncio.sleep(0.005)
            began = time.perf_counter()
            os.kill(one.pid, signal.SIGKILL)
            times.append(await told - began)
    return {"µs": statistics.median(times) * 1e6}


async def told_by_asyncio(rounds=200):
    times = []
    for _ in range(rounds):
        child = await asyncio.create_subprocess_exec("sleep", "1000")
        await asyncio.sleep(0.005)
        began = time.perf_counter()
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()
        times.append(time.perf_counter() - began)
    return {"µs": statistics.median(times) * 1e6}


async def revived(rounds=200):
    times = []
    policy = RestartPolicy("permanent", first_delay=0.0, max_failures=1e9)
    async with managing() as manager:
        again = asyncio.Event()
        manager.subscribe(
            lambda event: again.set() if event.kind == "process.restarted" else None
        )
        one = await manager.start("one", Command("sleep", "1000"), restart=policy)
        for _ in range(rounds):
            await asyncio.sleep(0.005)
            again.clear()
            began = time.perf_counter()
            os.kill(one.pid, signal.SIGKILL)
            await again.wait()
            times.append(time.perf_counter() - began)
    return {"µs": statistics.median(times) * 1e6}


async def spawned_by_asyncio(rounds=300):
    began = cpu()
    for _ in range(rounds):
        child = await asyncio.create_subprocess_exec(
            "true", stdin=subprocess.DEVNULL, stdout=PIPE, stderr=PIPE
        )
        await child.wait()
    return {"µs": (cpu() - began) / rounds * 1e6}


async def spawned_by_us(rounds=300):
    async with managing() as manager:
        began = cpu()
        for number in range(rounds):
            one = await manager.start(f"{number}", Command("true"), restart=TEMPORARY)
            await one.wait()
        return {"µs": (cpu() - began) / rounds * 1e6}


async def idled_by_us(count=500):
    async with managing(check_interval=1.0) as manager:
        await manager.start("warm", Command("sleep", "1000"))
        gc.collect()
        before = rss()
        for number in range(count):
            await manager.start(f"{number}", Command("sleep", "1000"))
        each = (rss() - before) / count / 1024
        began, used = time.perf_counter(), cpu()
        await asyncio.sleep(4.0)
        load = (cpu() - used) / (time.perf_counter() - began) * 100
        threads = threading.active_count()
        began = time.perf_counter()
    closed = time.perf_counter() - began
    return {"threads": threads, "KiB each": each, "CPU %": load, "closed in s": closed}


async def idled_by_asyncio(count=500):
    before = rss()
    children = [
        await asyncio.create_subprocess_exec("sleep", "1000", stdout=PIPE, stderr=PIPE)
        for _ in range(count)
    ]
    each = (rss() - before) / count / 1024
    threads = threading.active_count()
    for child in children:
        child.kill()
    for child in children:
        await child.wait()
    return {"threads": threads, "KiB each": each}


def run(function, *args):
    return lambda: asyncio.run(function(*args))


BENCHMARKS = {
    "capture 100": capture_of(program(WRITER, 1_000_000, 100)),
    "capture 10": capture_of(program(WRITER, 5_000_000, 10)),
    "capture 10k": capture_of(program(WRITER, 20_000, 10_000)),
    "dribble": capture_of(program(DRIBBLER)),
    "memory": {"ours": run(remembered)},
    "one flood": {"quiet": run(quiet), "ours": run(flooded, 1)},
    "ten floods": {"quiet": run(quiet), "ours": run(flooded, 10)},
    "exits": {"ours": run(exiting)},
    "gather": {"asyncio": run(gathered_by_asyncio), "ours": run(gathered)},
    "death": {
        "bare pidfd": run(told_by_pidfd),
        "ours": run(told_by_us),
        "asyncio": run(told_by_asyncio),
    },
    "revival": {"ours": run(revived)},
    "spawn": {"asyncio": run(spawned_by_asyncio), "ours": run(spawned_by_us)},
    "idle": {"asyncio": run(idled_by_asyncio), "ours": run(idled_by_us)},
}


def measure(benchmark, subject):
    """Measure once, in an interpreter of its own."""
    argv = [sys.executable, __file__, "--run", benchmark, subject]
    done = subprocess.run(argv, stdout=PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(benchmark, rounds):
    """Measure all subjects in turn; return the medians of each."""
    subjects = BENCHMARKS[benchmark]
    found = {subject: [] for subject in subjects}
    for _ in range(rounds):
        for subject in subjects:
            found[subject].append(measure(benchmark, subject))
    return {
        subject: {
            figure: statistics.median(one[figure] for one in results)
            for figure in results[0]
        }
        for subject, results in found.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
        benchmark, subject = options.run
        print(json.dumps(BENCHMARKS[benchmark][subject]()))
        return
    table = []
    for benchmark in options.names or BENCHMARKS:
        results = compare(benchmark, options.rounds)
        reference = next(iter(results.values()))
        for subject, figures in results.items():
            print(json.dumps({"benchmark": benchmark, "subject": subject, **figures}))
            for figure, value in figures.items():
                base = reference.get(figure)
                ratio = f"{value / base:8.2f} x" if base and len(results) > 1 else ""
                table.append((benchmark, subject, figure, f"{value:12.3f}", ratio))
    for line in table:
        print("{:12} {:16} {:12} {} {}".format(*line))


if __name__ == "__main__":
    main()
