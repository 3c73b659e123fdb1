"""
Measure supervision: ``python tests/benchmarks/bench_supervision.py [--rounds N] [NAME …]``.

Benchmarks:
    capture 100, 10, 10k   CPU seconds to capture 1M x 100 B, 5M x 10 B, 20k x 10 kB
    flushed lines          CPU seconds to capture 200k lines, each flushed by the child
    memory                 growth in MB after 5 GB of captured output; ms to read the
                           newest 100 lines and any one line, s to count the lines
    one flood, ten floods  lateness in ms of a 20 ms ticker while ``yes`` is captured
    many exits             the same while 1,000 children are killed at once
    many starts            the same while one ``gather`` starts 200 children
    exit notice            µs from SIGKILL until the exit event is published
    restart                ms from SIGKILL until the next incarnation runs
    spawn                  µs of CPU to start a child and to see it exit
    idle                   3,000 idle children: threads, KiB per child, CPU % with one
                           check per second, s to start and to stop all
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

from measure import Benchmark, Goal, lateness, main

from realtalk_async.logs import Logger
from realtalk_async.supervision import (
    TEMPORARY,
    Command,
    ProcessManager,
    RestartPolicy,
)
from realtalk_async.supervision.kernel.pipes import PipeReader
from realtalk_async.supervision.output.buffer import OutputBuffer
from realtalk_async.supervision.output.line import Clock
from realtalk_async.supervision.output.spill import SpillStore

WRITER = (
    "import os, sys\n"
    "count, size = int(sys.argv[1]), int(sys.argv[2])\n"
    "line = b'x' * (size - 1) + b'\\n'\n"
    "block = line * max(1, 65536 // size)\n"
    "left = count * size\n"
    "while left > 0: left -= os.write(1, block[:left])\n"
)
FLUSHING_WRITER = "import os\nfor n in range(200_000): os.write(1, b'%099d\\n' % n)"
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


async def run_child(manager, name, *argv):
    """Start a program, wait for its exit and return its process."""
    process = await manager.start(name, Command(*argv), restart=TEMPORARY)
    await process.wait()
    return process


# ---- capture


def bare(argv):
    """Read to the end with ``os.read`` alone and keep the bytes."""
    with subprocess.Popen(argv, stdout=PIPE, bufsize=0) as child:
        kept, began = [], cpu()
        while data := os.read(child.stdout.fileno(), 65536):
            kept.append(data)
        return cpu() - began


async def asyncio_lines(argv):
    """Read lines as asyncio's documentation shows and keep each with its time."""
    child = await asyncio.create_subprocess_exec(*argv, stdout=PIPE)
    kept, began = [], cpu()
    async for line in child.stdout:
        kept.append((time.monotonic(), line))
    used = cpu() - began
    await child.wait()
    return used


async def captured(argv):
    """Capture with a manager, which moves old output to the disk."""
    async with managing() as manager:
        await run_child(manager, "warm", "true")
        began = cpu()
        await run_child(manager, "child", *argv)
        return cpu() - began


async def kept_in_memory(argv):
    """Capture with the buffer alone, all of it in memory."""
    buffer = OutputBuffer("stdout", clock=Clock(), store=SpillStore(budget=1 << 40))
    with subprocess.Popen(argv, stdout=PIPE, bufsize=0) as child:
        began = cpu()
        reader = PipeReader(
            os.dup(child.stdout.fileno()),
            "stdout",
            lambda _, data, now: buffer.append(data, now),
            get_memory=lambda _: buffer.writable_memory(),
            on_end=lambda: None,
            on_error=print,
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


async def captured_5_gb(count=50_000_000, size=100):
    async with managing() as manager:
        await run_child(manager, "warm", "true")
        gc.collect()
        before = rss()
        process = await run_child(manager, "child", *program(WRITER, count, size))
        growth = (rss() - before) / 1e6
        lines = process.get_stdout()
        newest = statistics.median(duration(lambda: lines[-100:]) for _ in range(9))
        length = duration(partial(len, lines))
        places = random.Random(7).choices(range(count), k=200)
        line = statistics.median(
            duration(partial(lines.__getitem__, place)) for place in places
        )
        return {
            "MB": growth,
            "newest ms": newest * 1e3,
            "line ms": line * 1e3,
            "length s": length,
        }


def duration(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# ---- lateness


async def flooded(count):
    async with managing() as manager:
        for number in range(count):
            await manager.start(f"flood {number}", Command("yes", "x" * 60))
        return await lateness()


async def exiting(count=1_000):
    async with managing() as manager:
        processes = [
            await manager.start(f"{n}", Command(*SLEEP), restart=TEMPORARY)
            for n in range(count)
        ]
        ticking = asyncio.ensure_future(lateness())
        await asyncio.sleep(0.2)
        with subprocess.Popen(["kill", "-9", *(str(each.pid) for each in processes)]):
            figures = await ticking
        assert not any(each.status == "running" for each in processes)
    return figures


async def gathered(count=200):
    async with managing() as manager:
        return await lateness_during(
            [manager.start(f"{n}", Command(*SLEEP)) for n in range(count)]
        )


async def gathered_by_asyncio(count=200):
    starts = [asyncio.create_subprocess_exec(*SLEEP) for _ in range(count)]
    children = []
    figures = await lateness_during([started(start, children) for start in starts])
    for child in children:
        child.kill()
        await child.wait()
    return figures


async def started(start, children):
    children.append(await start)


async def lateness_during(starts):
    ticking = asyncio.ensure_future(lateness())
    await asyncio.sleep(0.1)
    began = time.perf_counter()
    await asyncio.gather(*starts)
    all_began = time.perf_counter() - began
    return {**await ticking, "all s": all_began}


# ---- exit notice, restart and spawn


async def time_pidfd_exit(rounds=200):
    """Wait for a pidfd to become readable, the least work possible."""
    loop, times = asyncio.get_running_loop(), []
    for _ in range(rounds):
        child = subprocess.Popen(SLEEP)
        exited, descriptor = loop.create_future(), os.pidfd_open(child.pid)

        def reap(child=child, exited=exited, descriptor=descriptor):
            loop.remove_reader(descriptor)
            os.close(descriptor)
            child.wait()
            exited.set_result(time.perf_counter())

        loop.add_reader(descriptor, reap)
        await asyncio.sleep(0.005)
        began = time.perf_counter()
        os.kill(child.pid, signal.SIGKILL)
        times.append(await exited - began)
    return {"µs": statistics.median(times) * 1e6}


async def time_our_exit(rounds=200):
    """Wait for the exit event of the manager."""
    loop, times = asyncio.get_running_loop(), []
    async with managing() as manager:
        exited = loop.create_future()

        def on_event(event):
            if event.kind == "process.exited" and not exited.done():
                exited.set_result(time.perf_counter())

        manager.subscribe(on_event)
        for number in range(rounds):
            exited = loop.create_future()
            command = Command(*SLEEP)
            process = await manager.start(f"{number}", command, restart=TEMPORARY)
            await asyncio.sleep(0.005)
            began = time.perf_counter()
            os.kill(process.pid, signal.SIGKILL)
            times.append(await exited - began)
    return {"µs": statistics.median(times) * 1e6}


async def time_asyncio_exit(rounds=200, **options):
    times = []
    for _ in range(rounds):
        child = await asyncio.create_subprocess_exec(*SLEEP, **options)
        await asyncio.sleep(0.005)
        began = time.perf_counter()
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()
        times.append(time.perf_counter() - began)
    return {"µs": statistics.median(times) * 1e6}


async def restarted(rounds=200):
    times = []
    policy = RestartPolicy("permanent", first_delay=0.0, max_failures=1e9)
    async with managing() as manager:
        running = asyncio.Event()
        manager.subscribe(
            lambda event: running.set() if event.kind == "process.restarted" else None
        )
        process = await manager.start("child", Command(*SLEEP), restart=policy)
        for _ in range(rounds):
            await asyncio.sleep(0.005)
            running.clear()
            began = time.perf_counter()
            os.kill(process.pid, signal.SIGKILL)
            await running.wait()
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
        await run_child(manager, "warm", "true")
        began = cpu()
        for number in range(rounds):
            await run_child(manager, f"{number}", "true")
        return {"µs": (cpu() - began) / rounds * 1e6}


async def our_idle_children(count=3_000):
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


async def asyncio_idle_children(count=3_000):
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


# ---- benchmarks


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


def lateness_of(name, p99, most, **subjects):
    goals = Goal("p99 ms", at_most=p99), Goal("max ms", at_most=most)
    return Benchmark(name, {"no children": run(lateness), **subjects}, goals)


BENCHMARKS = (
    captures("100", 1_000_000, 100, Goal("s", at_most=1 / 18, of="asyncio lines")),
    captures("10", 5_000_000, 10, Goal("s", at_most=1 / 130, of="asyncio lines")),
    captures("10k", 20_000, 10_000),
    Benchmark(
        "flushed lines",
        capture_of(program(FLUSHING_WRITER)),
        (Goal("s", at_most=0.4, of="bare read loop"),),
    ),
    Benchmark(
        "memory",
        {"ours": run(captured_5_gb)},
        (
            Goal("MB", at_most=40),
            Goal("newest ms", at_most=0.3),
            Goal("line ms", at_most=0.2),
        ),
        rounds=1,
        warm_up=False,
    ),
    lateness_of("one flood", 1, 3, ours=run(flooded, 1)),
    lateness_of("ten floods", 3, 8, ours=run(flooded, 10)),
    lateness_of("many exits", 10, 10, ours=run(exiting)),
    lateness_of(
        "many starts", 5, 10, ours=run(gathered), asyncio=run(gathered_by_asyncio)
    ),
    Benchmark(
        "exit notice",
        {
            "bare pidfd": run(time_pidfd_exit),
            "ours": run(time_our_exit),
            "asyncio": run(time_asyncio_exit),
        },
        (Goal("µs", at_most=1.2, of="bare pidfd"),),
    ),
    Benchmark("restart", {"ours": run(restarted)}, (Goal("ms", at_most=2),)),
    Benchmark(
        "spawn",
        {"asyncio": run(spawned_by_asyncio), "ours": run(spawned_by_us)},
        (Goal("µs", at_most=250, beyond="asyncio"),),
    ),
    Benchmark(
        "idle",
        {"asyncio": run(asyncio_idle_children), "ours": run(our_idle_children)},
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
