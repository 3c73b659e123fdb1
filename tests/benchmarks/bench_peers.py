"""
Compare supervision with other packages: ``python tests/benchmarks/bench_peers.py [NAME …]``.

Benchmarks:
    capture 100, 10, 10k   CPU seconds to keep 1M x 100 B, 5M x 10 B, 20k x 10 kB, each
                           line with its arrival time (supervisord adds no time)
    ten floods             lateness in ms of a 20 ms ticker while ten ``yes`` are read
    exit notice            µs from SIGKILL until the waiting code continues
    held pipe              the same in s while a grandchild holds the pipe for 2 s
    spawn                  µs of CPU to start a child and to see it exit
    idle                   500 idle children: threads, KiB per child
    restart                ms from SIGKILL to the first line of the next incarnation; by
                           default this package waits up to 0.1 s after a first failure
    survivors              processes alive 1 s after SIGKILL of the supervisor, of three:
                           a child, a grandchild and a daemon
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import shlex
import signal
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

import daemons
import peers
from bench_supervision import (
    WRITER,
    bare,
    captured,
    cpu,
    managing,
    program,
    rss,
    spawned_by_us,
    time_our_exit,
    time_pidfd_exit,
)
from measure import Benchmark, Figures, Goal, lateness, main

from realtalk_async.supervision import TEMPORARY, Command

Subjects = dict[str, Callable[[], Figures]]


# ---- loops


def on_asyncio(work, *args):
    return asyncio.run(work(*args))


def on_uvloop(work, *args):
    import uvloop

    return uvloop.run(work(*args))


def on_trio(work, *args):
    import trio

    return trio.run(work, *args)


# ---- capture


def costs(work, *args):
    """Return the CPU seconds, including those to free the captured lines."""
    began = cpu()
    work(*args)
    return cpu() - began


def capture(count, size) -> Subjects:
    argv = program(WRITER, count, size)

    def daemon(configure):
        command = shlex.join(argv)
        return lambda: {"s": daemons.capture(configure, command, count * size)}

    def library(read, run=on_asyncio):
        return lambda: {"s": costs(run, read, argv, [])}

    return {
        "bare read loop": lambda: {"s": bare(argv)},
        "ours": lambda: {"s": asyncio.run(captured(argv))},
        "supervisord": daemon(daemons.supervisord),
        "trio": library(peers.trio_lines, on_trio),
        "thread": lambda: {"s": costs(peers.thread_lines, argv, [])},
        "anyio": library(peers.anyio_lines),
        "circus": daemon(daemons.circus),
        "asyncio": library(peers.asyncio_lines),
        "shellous": library(peers.shellous_lines),
    }


# ---- lateness: the other packages keep the newest lines, this package keeps all

YES = ("yes", "x" * 60)


async def our_lateness(floods):
    async with managing() as manager:
        for number in range(floods):
            await manager.start(f"{number}", Command(*YES))
        return await lateness()


async def reader_lateness(read, floods):
    lines = [deque(maxlen=10_000) for _ in range(floods)]
    reading = [asyncio.create_task(read(YES, kept)) for kept in lines]
    figures = await lateness()
    for task in reading:
        task.cancel()
    return figures


async def trio_lateness(floods):
    import trio

    async with trio.open_nursery() as nursery:
        for _ in range(floods):
            nursery.start_soon(peers.trio_lines, YES, deque(maxlen=10_000))
        figures = await lateness(sleep=trio.sleep)
        nursery.cancel_scope.cancel()
    return figures


def floods(count) -> Subjects:
    return {
        "no children": partial(on_asyncio, lateness),
        "ours": partial(on_asyncio, our_lateness, count),
        "asyncio": partial(on_asyncio, reader_lateness, peers.asyncio_lines, count),
        "anyio": partial(on_asyncio, reader_lateness, peers.anyio_lines, count),
        "trio": partial(on_trio, trio_lateness, count),
        "shellous": partial(on_asyncio, reader_lateness, peers.shellous_lines, count),
    }


# ---- exit notice


async def our_exit(argv):
    exited = asyncio.get_running_loop().create_future()

    def on_event(event):
        if event.kind == "process.exited" and not exited.done():
            exited.set_result(time.perf_counter())

    async with managing() as manager:
        manager.subscribe(on_event)
        process = await manager.start("child", Command(*argv), restart=TEMPORARY)
        await asyncio.sleep(0.02)
        began = time.perf_counter()
        os.kill(process.pid, signal.SIGKILL)
        return await exited - began


WAITING = {
    "trio": (peers.trio_exit, on_trio),
    "asyncio": (peers.asyncio_exit, on_asyncio),
    "asyncio on uvloop": (peers.asyncio_exit, on_uvloop),
    "anyio": (peers.anyio_exit, on_asyncio),
    "shellous": (peers.shellous_exit, on_asyncio),
}


def median_of(rounds, once, run, argv):
    """Return the median of several exits that one event loop waits for."""

    async def measure():
        return statistics.median([await once(argv) for _ in range(rounds)])

    return run(measure)


def exit_notices(rounds=60) -> Subjects:
    def many(once, run):
        return lambda: {"µs": median_of(rounds, once, run, peers.SLEEP) * 1e6}

    return {
        "bare pidfd": partial(on_asyncio, time_pidfd_exit, rounds),
        "ours": partial(on_asyncio, time_our_exit, rounds),
        **{subject: many(*how) for subject, how in WAITING.items()},
    }


def held_pipe(rounds=3) -> Subjects:
    def some(once, run):
        return lambda: {"s": median_of(rounds, once, run, peers.HELD)}

    waiting = {"ours": (our_exit, on_asyncio), **WAITING}
    return {subject: some(*how) for subject, how in waiting.items()}


# ---- starts


def starts(rounds=200) -> Subjects:
    def each(some, run):
        return lambda: {"µs": costs(run, some, rounds) / rounds * 1e6}

    return {
        "asyncio": each(peers.asyncio_starts, on_asyncio),
        "ours": partial(on_asyncio, spawned_by_us, rounds),
        "trio": each(peers.trio_starts, on_trio),
        "anyio": each(peers.anyio_starts, on_asyncio),
        "asyncio on uvloop": each(peers.asyncio_starts, on_uvloop),
        "shellous": each(peers.shellous_starts, on_asyncio),
    }


# ---- idle children


async def our_children(count, usage):
    async with managing() as manager:
        await manager.start("warm", Command(*peers.SLEEP))
        before = usage()
        for number in range(count):
            await manager.start(f"{number}", Command(*peers.SLEEP))
        return before, usage()


async def asyncio_children(count, usage):
    await peers.asyncio_starts(1)
    before = usage()
    children = [
        await asyncio.create_subprocess_exec(
            *peers.SLEEP, stdout=peers.PIPE, stderr=peers.PIPE
        )
        for _ in range(count)
    ]
    after = usage()
    for child in children:
        child.kill()
        await child.wait()
    return before, after


async def trio_children(count, usage):
    import trio

    await peers.trio_starts(1)
    before = usage()
    run = partial(trio.run_process, peers.SLEEP, stdout=peers.PIPE, stderr=peers.PIPE)
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            await nursery.start(run)
        after = usage()
        nursery.cancel_scope.cancel()
    return before, after


def idle(count=500) -> Subjects:
    def usage():
        gc.collect()
        return rss(), threading.active_count()

    def subject(start_all, run=on_asyncio):
        def measure():
            (before, _), (after, threads) = run(start_all, count, usage)
            return {"KiB each": (after - before) / count / 1024, "threads": threads}

        return measure

    return {
        "asyncio": subject(asyncio_children),
        "ours": subject(our_children),
        "trio": subject(trio_children, on_trio),
    }


# ---- restarts by supervisors, and processes that survive a supervisor


def restart(configure, shortest, longest, kills):
    """Kill at random moments, because some supervisors check at fixed intervals."""
    rng = random.Random(7)
    pauses = [rng.uniform(shortest, longest) for _ in range(kills)]

    def measure():
        return {"ms": statistics.median(daemons.restarts(configure, pauses)) * 1e3}

    return measure


def survivors(configure, tries=3):
    def measure():
        return {
            "of 3": statistics.mean(daemons.survivors(configure) for _ in range(tries))
        }

    return measure


# ---- benchmarks


def faster_than_asyncio(times):
    """Return the goal to need this many times less CPU than asyncio's stream reader."""
    return Goal("s", at_least=times, subject="asyncio", of="ours")


CAPTURE = Goal("s", at_most=0.9, of="bare read loop")
LATE = (Goal("p99 ms", at_most=3), Goal("max ms", at_most=8))
BENCHMARKS = (
    Benchmark(
        "capture 100", capture(1_000_000, 100), (CAPTURE, faster_than_asyncio(18))
    ),
    Benchmark(
        "capture 10",
        capture(5_000_000, 10),
        (CAPTURE, faster_than_asyncio(130)),
        warm_up=False,
    ),
    Benchmark("capture 10k", capture(20_000, 10_000), (CAPTURE,), warm_up=False),
    Benchmark("ten floods", floods(10), LATE, warm_up=False),
    Benchmark(
        "exit notice", exit_notices(), (Goal("µs", at_most=1.2, of="bare pidfd"),)
    ),
    Benchmark(
        "held pipe", held_pipe(), (Goal("s", at_most=0.01),), rounds=1, warm_up=False
    ),
    Benchmark("spawn", starts(), (Goal("µs", at_most=250, beyond="asyncio"),)),
    Benchmark(
        "idle",
        idle(),
        (Goal("KiB each", at_most=4), Goal("threads", at_most=3)),
        rounds=2,
        warm_up=False,
    ),
    Benchmark(
        "restart",
        {
            "shell loop": restart(daemons.shell, 0.05, 0.1, 20),
            "ours, no delay": restart(daemons.quick_app, 0.05, 0.1, 20),
            "ours": restart(daemons.our_app, 0.05, 0.1, 1),
            "circus, 100 checks/s": restart(daemons.quick_circus, 0.05, 0.1, 20),
            "supervisord, startsecs 0": restart(daemons.quick_supervisord, 0.2, 1.2, 3),
            "supervisord": restart(daemons.supervisord, 1.1, 2.1, 3),
            "circus": restart(daemons.circus, 0.2, 5.2, 2),
        },
        (
            Goal("ms", at_most=2, subject="ours, no delay"),
            Goal("ms", at_least=500, subject="supervisord", of="ours, no delay"),
        ),
        rounds=2,
        warm_up=False,
    ),
    Benchmark(
        "survivors",
        {
            "asyncio": survivors(daemons.asyncio_app),
            "honcho": survivors(daemons.honcho),
            "supervisord": survivors(daemons.supervisord),
            "circus": survivors(daemons.circus),
            "ours": survivors(daemons.our_app),
        },
        (Goal("of 3", at_most=0),),
        rounds=1,
        warm_up=False,
    ),
)

if __name__ == "__main__":
    main(__doc__, BENCHMARKS)
