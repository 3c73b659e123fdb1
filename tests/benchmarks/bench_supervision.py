"""
What supervision costs: ``python tests/benchmarks/bench_supervision.py [--rounds N] [NAME…]``.

Benchmarks:
    capture 100, 10, 10k   CPU to capture 1M x 100 B, 5M x 10 B, 20k x 10 kB
    dribble                CPU to capture 200k lines that the child flushes one by one
    memory                 growth in MB for 5 GB captured; then ms for the newest 100
                           lines and for one line anywhere, s for the number of lines
    one flood, ten floods  lateness of a 20 ms ticker beside ``yes``, in ms
    exits                  the same while 1,000 children are killed at once
    gather                 the same while 200 children are started by one ``gather``
    death                  µs from SIGKILL until the event of the death is published
    revival                ms from SIGKILL until the next incarnation runs
    spawn                  µs of our CPU for one start and one end
    idle                   3,000 idle children: threads, KiB each, CPU % with a check a
                           second, s to start and to end them all
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

from measure import Benchmark, Goal, main

from realtalk_async.logs import Logger
from realtalk_async.supervision import (
    TEMPORARY,
    Command,
    ProcessManager,
    RestartPolicy,
)
from realtalk_async.supervision.kernel.pipes import PipeReader
from realtalk_async.supervision.output.buffer import Clock, OutputBuffer
from realtalk_async.supervision.output.spill import SpillStore

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
SLEEP = ("sleep", "1000")


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


async def ran(manager, name, *argv):
    """Run a program to its end."""
    one = await manager.start(name, Command(*argv), restart=TEMPORARY)
    await one.wait()
    return one


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
    """Capture with all that belongs to it, what is old moved to the disk."""
    async with managing() as manager:
        await ran(manager, "warm", "true")
        began = cpu()
        await ran(manager, "one", *argv)
        return cpu() - began


async def kept_in_memory(argv):
    """Capture alone, with nothing moved to the disk."""
    buffer = OutputBuffer("stdout", clock=Clock.now(), store=SpillStore(budget=1 << 40))
    with subprocess.Popen(argv, stdout=PIPE, bufsize=0) as child:
        began = cpu()
        reader = PipeReader(
            os.dup(child.stdout.fileno()),
            "stdout",
            lambda _, data, now: buffer.append(data, now),
            room=lambda _: buffer.room(),
            on_end=lambda: None,
        )
        await reader.ended
        return cpu() - began


def capture_of(argv):
    return {
        "bare read loop": lambda: {"s": bare(argv)},
        "ours": lambda: {"s": asyncio.run(captured(argv))},
        "ours, in memory": lambda: {"s": asyncio.run(kept_in_memory(argv))},
        "asyncio lines": lambda: {"s": asyncio.run(asyncio_lines(argv))},
    }


async def remembered(count=50_000_000, size=100):
    async with managing() as manager:
        await ran(manager, "warm", "true")
        gc.collect()
        before = rss()
        one = await ran(manager, "one", *program(WRITER, count, size))
        growth = (rss() - before) / 1e6
        lines = one.get_stdout()
        newest = statistics.median(took(lambda: lines[-100:]) for _ in range(9))
        length = took(partial(len, lines))
        places = random.Random(7).choices(range(count), k=200)
        line = statistics.median(
            took(partial(lines.__getitem__, place)) for place in places
        )
        return {
            "MB": growth,
            "newest ms": newest * 1e3,
            "line ms": line * 1e3,
            "length s": length,
        }


def took(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


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


async def exiting(count=1_000):
    late = []
    async with managing() as manager:
        ones = [
            await manager.start(f"{n}", Command(*SLEEP), restart=TEMPORARY)
            for n in range(count)
        ]
        ticking = asyncio.ensure_future(tick(late, 3.0))
        await asyncio.sleep(0.2)
        with subprocess.Popen(["kill", "-9", *(str(one.pid) for one in ones)]):
            await ticking
        assert not any(one.status == "running" for one in ones)
    return in_ms(late)


async def gathered(count=200):
    async with managing() as manager:
        return await beside_ticks(
            [manager.start(f"{n}", Command(*SLEEP)) for n in range(count)]
        )


async def gathered_by_asyncio(count=200):
    starts = [asyncio.create_subprocess_exec(*SLEEP) for _ in range(count)]
    children = []
    figures = await beside_ticks([started(start, children) for start in starts])
    for child in children:
        child.kill()
        await child.wait()
    return figures


async def started(start, children):
    children.append(await start)


async def beside_ticks(starts):
    late = []
    ticking = asyncio.ensure_future(tick(late, 3.0))
    await asyncio.sleep(0.1)
    began = time.perf_counter()
    await asyncio.gather(*starts)
    all_began = time.perf_counter() - began
    await ticking
    return {**in_ms(late), "all s": all_began}


# ---- death and life


async def told_by_pidfd(rounds=200):
    """The least that can be done: a descriptor that becomes readable."""
    loop, times = asyncio.get_running_loop(), []
    for _ in range(rounds):
        child = subprocess.Popen(SLEEP)
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
            one = await manager.start(f"{number}", Command(*SLEEP), restart=TEMPORARY)
            await asyncio.sleep(0.005)
            began = time.perf_counter()
            os.kill(one.pid, signal.SIGKILL)
            times.append(await told - began)
    return {"µs": statistics.median(times) * 1e6}


async def told_by_asyncio(rounds=200):
    times = []
    for _ in range(rounds):
        child = await asyncio.create_subprocess_exec(*SLEEP)
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
        one = await manager.start("one", Command(*SLEEP), restart=policy)
        for _ in range(rounds):
            await asyncio.sleep(0.005)
            again.clear()
            began = time.perf_counter()
            os.kill(one.pid, signal.SIGKILL)
            await again.wait()
            times.append(time.perf_counter() - began)
    return {"ms": statistics.median(times) * 1e3}


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
        await ran(manager, "warm", "true")
        began = cpu()
        for number in range(rounds):
            await ran(manager, f"{number}", "true")
        return {"µs": (cpu() - began) / rounds * 1e6}


async def idled_by_us(count=3_000):
    async with managing(check_interval=1.0) as manager:
        for number in range(20):
            await manager.start(f"warm {number}", Command(*SLEEP))
        gc.collect()
        before, began = rss(), time.perf_counter()
        for number in range(count):
            await manager.start(f"{number}", Command(*SLEEP))
        starting = time.perf_counter() - began
        gc.collect()
        each = (rss() - before) / count / 1024
        began, used = time.perf_counter(), cpu()
        await asyncio.sleep(5.0)
        load = (cpu() - used) / (time.perf_counter() - began) * 100
        threads = threading.active_count()
        began = time.perf_counter()
    return {
        "threads": threads,
        "KiB each": each,
        "CPU %": load,
        "started in s": starting,
        "ended in s": time.perf_counter() - began,
    }


async def idled_by_asyncio(count=3_000):
    before, began = rss(), time.perf_counter()
    children = [
        await asyncio.create_subprocess_exec(*SLEEP, stdout=PIPE, stderr=PIPE)
        for _ in range(count)
    ]
    starting = time.perf_counter() - began
    each = (rss() - before) / count / 1024
    threads = threading.active_count()
    began = time.perf_counter()
    for child in children:
        child.kill()
    for child in children:
        await child.wait()
    return {
        "threads": threads,
        "KiB each": each,
        "started in s": starting,
        "ended in s": time.perf_counter() - began,
    }


# ---- all


def run(function, *args):
    return lambda: asyncio.run(function(*args))


def captures(name, count, size, *more):
    spill = Goal("s", at_most=1.2, of="bare read loop")
    memory = Goal("s", at_most=0.9, of="bare read loop", subject="ours, in memory")
    return Benchmark(
        f"capture {name}",
        capture_of(program(WRITER, count, size)),
        (spill, memory, *more),
    )


def lateness(name, p99, most, **subjects):
    goals = Goal("p99 ms", at_most=p99), Goal("max ms", at_most=most)
    return Benchmark(name, {"nothing": run(quiet), **subjects}, goals)


BENCHMARKS = (
    captures("100", 1_000_000, 100, Goal("s", at_most=1 / 18, of="asyncio lines")),
    captures("10", 5_000_000, 10, Goal("s", at_most=1 / 130, of="asyncio lines")),
    captures("10k", 20_000, 10_000),
    Benchmark(
        "dribble",
        capture_of(program(DRIBBLER)),
        (Goal("s", at_most=0.4, of="bare read loop"),),
    ),
    Benchmark(
        "memory",
        {"ours": run(remembered)},
        (
            Goal("MB", at_most=40),
            Goal("newest ms", at_most=0.3),
            Goal("line ms", at_most=0.2),
        ),
        rounds=1,
        warm_up=False,
    ),
    lateness("one flood", 1, 3, ours=run(flooded, 1)),
    lateness("ten floods", 3, 8, ours=run(flooded, 10)),
    lateness("exits", 10, 10, ours=run(exiting)),
    lateness("gather", 5, 10, ours=run(gathered), asyncio=run(gathered_by_asyncio)),
    Benchmark(
        "death",
        {
            "bare pidfd": run(told_by_pidfd),
            "ours": run(told_by_us),
            "asyncio": run(told_by_asyncio),
        },
        (Goal("µs", at_most=1.2, of="bare pidfd"),),
    ),
    Benchmark("revival", {"ours": run(revived)}, (Goal("ms", at_most=2),)),
    Benchmark(
        "spawn",
        {"asyncio": run(spawned_by_asyncio), "ours": run(spawned_by_us)},
        (Goal("µs", at_most=250, beyond="asyncio"),),
    ),
    Benchmark(
        "idle",
        {"asyncio": run(idled_by_asyncio), "ours": run(idled_by_us)},
        (
            Goal("threads", at_most=3),
            Goal("KiB each", at_most=4),
            Goal("CPU %", at_most=0.3),
        ),
        rounds=1,
        warm_up=False,
    ),
)

if __name__ == "__main__":
    main(__doc__, BENCHMARKS)
