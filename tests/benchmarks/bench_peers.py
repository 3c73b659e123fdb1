"""
Supervision beside the field: ``python tests/benchmarks/bench_peers.py [NAME …]``.

Benchmarks:
    capture 100, 10, 10k   CPU to keep 1M x 100 B, 5M x 10 B, 20k x 10 kB, each line with
                           the time of its arrival (supervisord stamps none)
    ten floods             lateness of a 20 ms ticker beside ten times ``yes``, in ms
    death                  µs from SIGKILL until what waits for the child goes on
    held pipe              the same in s if a grandchild keeps the pipe for 2 s
    spawn                  µs of CPU for one start and one end
    idle                   500 idle children: threads, KiB each
    revival                ms from SIGKILL until the next incarnation has run its first
                           line; ours by default waits up to 0.1 s after a first failure
    survivors              of a child, a grandchild and a daemon, 1 s after SIGKILL of the
                           supervisor
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
    in_ms,
    managing,
    program,
    rss,
    spawned_by_us,
    told_by_pidfd,
    told_by_us,
)
from measure import Benchmark, Figures, Goal, main

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
    """Return the seconds of CPU, with the freeing of what was kept."""
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


# ---- lateness: the peers keep the newest lines only, ours keeps all

YES = ("yes", "x" * 60)


async def ticks(sleep, seconds=3.0):
    """Return by how much each of many sleeps of 20 ms was late."""
    late, due = [], time.perf_counter()
    for _ in range(int(seconds / 0.02)):
        due += 0.02
        await sleep(max(0.0, due - time.perf_counter()))
        late.append(max(0.0, time.perf_counter() - due))
        due = max(due, time.perf_counter() - 0.02)
    return in_ms(late)


async def beside_nothing():
    return await ticks(asyncio.sleep)


async def beside_ours(floods):
    async with managing() as manager:
        for number in range(floods):
            await manager.start(f"{number}", Command(*YES))
        return await ticks(asyncio.sleep)


async def beside(read, floods):
    lines = [deque(maxlen=10_000) for _ in range(floods)]
    reading = [asyncio.create_task(read(YES, kept)) for kept in lines]
    found = await ticks(asyncio.sleep)
    for task in reading:
        task.cancel()
    return found


async def beside_trio(floods):
    import trio

    async with trio.open_nursery() as nursery:
        for _ in range(floods):
            nursery.start_soon(peers.trio_lines, YES, deque(maxlen=10_000))
        found = await ticks(trio.sleep)
        nursery.cancel_scope.cancel()
    return found


def floods(count) -> Subjects:
    return {
        "nothing": partial(on_asyncio, beside_nothing),
        "ours": partial(on_asyncio, beside_ours, count),
        "asyncio": partial(on_asyncio, beside, peers.asyncio_lines, count),
        "anyio": partial(on_asyncio, beside, peers.anyio_lines, count),
        "trio": partial(on_trio, beside_trio, count),
        "shellous": partial(on_asyncio, beside, peers.shellous_lines, count),
    }


# ---- death


async def our_death(argv):
    """Be told by the event, when the death is published."""
    told = asyncio.get_running_loop().create_future()

    def listen(event):
        if event.kind == "process.exited" and not told.done():
            told.set_result(time.perf_counter())

    async with managing() as manager:
        manager.subscribe(listen)
        one = await manager.start("one", Command(*argv), restart=TEMPORARY)
        await asyncio.sleep(0.02)
        began = time.perf_counter()
        os.kill(one.pid, signal.SIGKILL)
        return await told - began


WAITING = {
    "trio": (peers.trio_death, on_trio),
    "asyncio": (peers.asyncio_death, on_asyncio),
    "asyncio on uvloop": (peers.asyncio_death, on_uvloop),
    "anyio": (peers.anyio_death, on_asyncio),
    "shellous": (peers.shellous_death, on_asyncio),
}


def median_of(rounds, once, run, argv):
    """Return the median of what some deaths take, in one loop."""

    async def die():
        return statistics.median([await once(argv) for _ in range(rounds)])

    return run(die)


def deaths(rounds=60) -> Subjects:
    def many(once, run):
        return lambda: {"µs": median_of(rounds, once, run, peers.SLEEP) * 1e6}

    return {
        "bare pidfd": partial(on_asyncio, told_by_pidfd, rounds),
        "ours": partial(on_asyncio, told_by_us, rounds),
        **{subject: many(*how) for subject, how in WAITING.items()},
    }


def held(rounds=3) -> Subjects:
    def some(once, run):
        return lambda: {"s": median_of(rounds, once, run, peers.HELD)}

    waiting = {"ours": (our_death, on_asyncio), **WAITING}
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


async def our_crowd(count, look):
    async with managing() as manager:
        await manager.start("warm", Command(*peers.SLEEP))
        before = look()
        for number in range(count):
            await manager.start(f"{number}", Command(*peers.SLEEP))
        return before, look()


async def asyncio_crowd(count, look):
    await peers.asyncio_starts(1)
    before = look()
    children = [
        await asyncio.create_subprocess_exec(
            *peers.SLEEP, stdout=peers.PIPE, stderr=peers.PIPE
        )
        for _ in range(count)
    ]
    after = look()
    for child in children:
        child.kill()
        await child.wait()
    return before, after


async def trio_crowd(count, look):
    import trio

    await peers.trio_starts(1)
    before = look()
    run = partial(trio.run_process, peers.SLEEP, stdout=peers.PIPE, stderr=peers.PIPE)
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            await nursery.start(run)
        after = look()
        nursery.cancel_scope.cancel()
    return before, after


def idle(count=500) -> Subjects:
    def look():
        gc.collect()
        return rss(), threading.active_count()

    def crowd(gather, run=on_asyncio):
        def measured():
            (before, _), (after, threads) = run(gather, count, look)
            return {"KiB each": (after - before) / count / 1024, "threads": threads}

        return measured

    return {
        "asyncio": crowd(asyncio_crowd),
        "ours": crowd(our_crowd),
        "trio": crowd(trio_crowd, on_trio),
    }


# ---- what becomes of the supervised, and of those whom the supervisor leaves behind


def revival(configure, shortest, longest, kills):
    """Kill at random moments: who looks now and then is met anywhere in between."""
    dice = random.Random(7)
    pauses = [dice.uniform(shortest, longest) for _ in range(kills)]

    def measured():
        return {"ms": statistics.median(daemons.revival(configure, pauses)) * 1e3}

    return measured


def left_behind(configure, tries=3):
    def measured():
        return {
            "of 3": statistics.mean(daemons.survivors(configure) for _ in range(tries))
        }

    return measured


# ---- all


def beats(times):
    """Say how many times the CPU of asyncio's line reading is to be ours."""
    return Goal("s", at_least=times, subject="asyncio", of="ours")


CAPTURE = Goal("s", at_most=0.9, of="bare read loop")
LATENESS = (Goal("p99 ms", at_most=3), Goal("max ms", at_most=8))
BENCHMARKS = (
    Benchmark("capture 100", capture(1_000_000, 100), (CAPTURE, beats(18))),
    Benchmark(
        "capture 10", capture(5_000_000, 10), (CAPTURE, beats(130)), warm_up=False
    ),
    Benchmark("capture 10k", capture(20_000, 10_000), (CAPTURE,), warm_up=False),
    Benchmark("ten floods", floods(10), LATENESS, warm_up=False),
    Benchmark("death", deaths(), (Goal("µs", at_most=1.2, of="bare pidfd"),)),
    Benchmark("held pipe", held(), (Goal("s", at_most=0.01),), rounds=1, warm_up=False),
    Benchmark("spawn", starts(), (Goal("µs", at_most=250, beyond="asyncio"),)),
    Benchmark(
        "idle",
        idle(),
        (Goal("KiB each", at_most=4), Goal("threads", at_most=3)),
        rounds=2,
        warm_up=False,
    ),
    Benchmark(
        "revival",
        {
            "a loop of the shell": revival(daemons.shell, 0.05, 0.1, 20),
            "ours, no delay": revival(daemons.eager_app, 0.05, 0.1, 20),
            "ours": revival(daemons.our_app, 0.05, 0.1, 1),
            "circus, 100 looks a s": revival(daemons.eager_circus, 0.05, 0.1, 20),
            "supervisord, startsecs 0": revival(daemons.eager_supervisord, 0.2, 1.2, 3),
            "supervisord": revival(daemons.supervisord, 1.1, 2.1, 3),
            "circus": revival(daemons.circus, 0.2, 5.2, 2),
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
            "asyncio": left_behind(daemons.asyncio_app),
            "honcho": left_behind(daemons.honcho),
            "supervisord": left_behind(daemons.supervisord),
            "circus": left_behind(daemons.circus),
            "ours": left_behind(daemons.our_app),
        },
        (Goal("of 3", at_most=0),),
        rounds=1,
        warm_up=False,
    ),
)

if __name__ == "__main__":
    main(__doc__, BENCHMARKS)
