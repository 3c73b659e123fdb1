"""
Measure how late the event loop is: ``python tests/benchmarks/bench_loop.py [NAME …]``.

All measurements use one CPU, and the children run in the class SCHED_IDLE: they never take
the CPU from the app, so that lateness is that of the app itself. Each benchmark includes
``idle``, the same ticker without children, and ``minimal``, the simplest program for the
same work (``minimal.py``). Lateness is in ms.

Benchmarks:
    one flood            a 20 ms ticker while one ``yes`` is captured
    ten floods           the same with ten; 100-byte lines, most of it moved to the disk
    flushed floods       ten children that write each line by itself; MB/s, and % of a CPU
    dead in one batch    a 1 ms ticker while 1,000 dead children are found, each awaited;
                         ms until all waiters are told
    starts in turn       a 1 ms ticker during 200 starts, one after the other
    starts together      the same with one ``gather``
    cpu                  µs of CPU to start a child, and for its death
    exit                 µs from SIGKILL until ``await wait()`` returns, all output captured,
                         and until a subscriber is told
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time

from bench_supervision import SLEEP, managing, time_asyncio_exit
from measure import Benchmark, Goal, main
from minimal import Capture, Children

from realtalk_async.supervision import Command

IDLE = (shutil.which("chrt") or "chrt", "-i", "0")
FLUSHING = "import os\nline = b'x' * 99 + b'\\n'\nwhile True: os.write(1, line)"
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


class Ticker:
    """Sleeps again and again; how late it woke, in ms."""

    def __init__(self, seconds):
        self._seconds = seconds
        self._task = asyncio.ensure_future(self._run())
        self.late = []

    async def _run(self):
        while True:
            due = time.perf_counter() + self._seconds
            await asyncio.sleep(self._seconds)
            self.late.append((time.perf_counter() - due) * 1e3)

    def stop(self):
        self._task.cancel()
        late = sorted(self.late)
        return {"p99 ms": late[int(len(late) * 0.99)], "max ms": late[-1]}


async def run_ticker(seconds, tick):
    ticker = Ticker(tick)
    await asyncio.sleep(seconds)
    return ticker.stop()


# ---- floods


async def flooded(count, *argv, seconds=6.0):
    async with managing() as manager:
        for number in range(count):
            command = Command(*IDLE, *argv)
            await manager.start(f"flood {number}", command, restart="temporary")
        await asyncio.sleep(1.0)
        ticker, used, before = Ticker(0.02), time.process_time(), captured(manager)
        began = time.perf_counter()
        await asyncio.sleep(seconds)
        took = time.perf_counter() - began
        size = captured(manager) - before
        share = (time.process_time() - used) / took * 100
        figures = {**ticker.stop(), "MB/s": size / took / 1e6, "CPU %": share}
        await asyncio.gather(*(one.kill() for one in manager.processes.values()))
    return figures


def captured(manager):
    return sum(one.get_volume("stdout").size for one in manager.processes.values())


async def flooded_asyncio(count, *argv, seconds=6.0):
    children = [
        await asyncio.create_subprocess_exec(*IDLE, *argv, **PIPES)
        for _ in range(count)
    ]
    sizes = [0] * count

    async def read(number, child):
        async for line in child.stdout:
            sizes[number] += len(line)

    readers = [asyncio.ensure_future(read(*each)) for each in enumerate(children)]
    await asyncio.sleep(1.0)
    ticker, used, before = Ticker(0.02), time.process_time(), sum(sizes)
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    share = (time.process_time() - used) / took * 100
    rate = (sum(sizes) - before) / took / 1e6
    figures = {**ticker.stop(), "MB/s": rate, "CPU %": share}
    for child in children:
        child.kill()
    for reader in readers:
        reader.cancel()
    return figures


async def flooded_minimal(count, *argv, pause=0.0, seconds=6.0):
    children = [
        subprocess.Popen([*IDLE, *argv], stdout=subprocess.PIPE) for _ in range(count)
    ]
    capture = Capture(pause=pause)
    for child in children:
        capture.add(os.dup(child.stdout.fileno()))
        child.stdout.close()
    await asyncio.sleep(1.0)
    ticker, used, before = Ticker(0.02), time.process_time(), capture.size
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    share = (time.process_time() - used) / took * 100
    rate = (capture.size - before) / took / 1e6
    figures = {**ticker.stop(), "MB/s": rate, "CPU %": share}
    for child in children:
        child.kill()
        child.wait()
    return figures


# ---- exits


def kill_all(pids):
    """Kill them, and block the loop until all are dead."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        with contextlib.suppress(ChildProcessError):  # a thread of asyncio reaped it
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


async def found_dead(start, count=1_000):
    children = [await start(number) for number in range(count)]
    waiters = [asyncio.ensure_future(child.wait()) for child in children]
    await asyncio.sleep(0.5)
    ticker = Ticker(0.001)
    await asyncio.sleep(0.1)
    kill_all([child.pid for child in children])
    await asyncio.sleep(0)
    ticker.late.clear()  # that of the kills
    began = time.perf_counter()
    await asyncio.wait(waiters)
    told = (time.perf_counter() - began) * 1e3
    await asyncio.sleep(0.3)
    late = ticker.stop()
    return {"p99 ms": late["p99 ms"], "max ms": late["max ms"], "told ms": told}


async def our_batch():
    async with managing() as manager:

        async def start(number):
            return await manager.start(f"{number}", SLEEP, restart="temporary")

        return await found_dead(start)


async def minimal_batch():
    children = Children()

    async def start(_number):
        return children.start(SLEEP)

    return await found_dead(start)


async def asyncio_batch():
    return await found_dead(
        lambda _number: asyncio.create_subprocess_exec(*SLEEP, **PIPES)
    )


# ---- starts


async def started(start, count, *, together):
    await start("warm")
    ticker = Ticker(0.001)
    await asyncio.sleep(0.05)
    began = time.perf_counter()
    if together:
        await asyncio.gather(*(start(number) for number in range(count)))
    else:
        for number in range(count):
            await start(number)
    took = (time.perf_counter() - began) * 1e3
    await asyncio.sleep(0.05)
    return {**ticker.stop(), "ms each": took / count}


async def our_starts(count=200, *, together):
    async with managing() as manager:

        async def start(number):
            await manager.start(f"{number}", [*IDLE, *SLEEP], restart="temporary")

        return await started(start, count, together=together)


async def minimal_starts(count=200, *, together):
    children, started_children = Children(), []

    async def start(_number):
        started_children.append(children.start([*IDLE, *SLEEP]))
        await asyncio.sleep(0)

    figures = await started(start, count, together=together)
    for child in started_children:
        child.kill()
    for child in started_children:
        await child.wait()
    return figures


async def asyncio_starts(count=200, *, together):
    children = []

    async def start(_number):
        argv = (*IDLE, *SLEEP)
        children.append(await asyncio.create_subprocess_exec(*argv, **PIPES))

    figures = await started(start, count, together=together)
    for child in children:
        child.kill()
    for child in children:
        await child.wait()
    return figures


# ---- CPU, and the time to an exit notice


async def costs(start, count=300):
    began = time.process_time()
    children = [await start(number) for number in range(count)]
    starting = time.process_time() - began
    await asyncio.sleep(0.5)
    began = time.process_time()
    for child in children:
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()
    ending = time.process_time() - began
    return {"start µs": starting / count * 1e6, "death µs": ending / count * 1e6}


async def our_costs():
    async with managing() as manager:
        return await costs(
            lambda number: manager.start(f"{number}", SLEEP, restart="temporary")
        )


async def minimal_costs():
    children = Children()

    async def start(_number):
        return children.start(SLEEP)

    return await costs(start)


async def asyncio_costs():
    return await costs(lambda _number: asyncio.create_subprocess_exec(*SLEEP, **PIPES))


async def bare_exit(rounds=200, *, pipes):
    """Wait for a pidfd, and for the end of both pipes if there are any."""
    loop, times = asyncio.get_running_loop(), []
    for _ in range(rounds):
        given = subprocess.PIPE if pipes else None
        child = subprocess.Popen(SLEEP, stdout=given, stderr=given)
        waited = [os.pidfd_open(child.pid)]
        if pipes:
            waited += [child.stdout.fileno(), child.stderr.fileno()]
        left, ended = set(waited), loop.create_future()

        def on_readable(descriptor, child=child, left=left, ended=ended):
            loop.remove_reader(descriptor)
            left.discard(descriptor)
            if not left:
                child.wait()
                ended.set_result(time.perf_counter())

        for one in waited:
            loop.add_reader(one, on_readable, one)
        await asyncio.sleep(0.005)
        began = time.perf_counter()
        os.kill(child.pid, signal.SIGKILL)
        times.append(await ended - began)
        os.close(waited[0])
        if pipes:
            child.stdout.close()
            child.stderr.close()
    return {"µs": statistics.median(times) * 1e6}


async def our_exit(rounds=200, *, told):
    async with managing() as manager:
        loop, times, noticed = asyncio.get_running_loop(), [], []
        manager.subscribe(
            lambda event: (
                noticed.append(time.perf_counter())
                if event.kind == "process.exited"
                else None
            )
        )
        for number in range(rounds):
            child = await manager.start(f"{number}", SLEEP, restart="temporary")
            await asyncio.sleep(0.005)
            waiter = loop.create_task(child.wait())
            await asyncio.sleep(0.001)
            began = time.perf_counter()
            os.kill(child.pid, signal.SIGKILL)
            await waiter
            ended = time.perf_counter()
            times.append((noticed[-1] if told else ended) - began)
    return {"µs": statistics.median(times) * 1e6}


# ---- benchmarks


def run(function, *args, **options):
    def measure():
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        return asyncio.run(function(*args, **options))

    return measure


def lateness(name, p99, most, tick, subjects, *more):
    idle = {"idle": run(run_ticker, 3.0, tick)}
    goals = (
        *([Goal("p99 ms", at_most=p99, beyond="idle")] if p99 else []),
        Goal("max ms", at_most=most, beyond="idle"),
        *more,
    )
    return Benchmark(name, {**idle, **subjects}, goals, rounds=5)


LINE = ("yes", "x" * 99)
FLUSHED = (sys.executable, "-I", "-S", "-c", FLUSHING)

BENCHMARKS = (
    lateness(
        "one flood",
        1,
        2,
        0.02,
        {
            "ours": run(flooded, 1, "yes"),
            "minimal": run(flooded_minimal, 1, "yes"),
            "asyncio": run(flooded_asyncio, 1, "yes"),
        },
    ),
    lateness(
        "ten floods",
        2.5,
        15,
        0.02,
        {
            "ours": run(flooded, 10, *LINE),
            "minimal": run(flooded_minimal, 10, *LINE),
            "asyncio": run(flooded_asyncio, 10, *LINE),
        },
    ),
    lateness(
        "flushed floods",
        1.5,
        5,
        0.02,
        {
            "ours": run(flooded, 10, *FLUSHED),
            "minimal": run(flooded_minimal, 10, *FLUSHED, pause=0.005),
            "asyncio": run(flooded_asyncio, 10, *FLUSHED),
        },
        Goal("MB/s", at_least=100),
        Goal("CPU %", at_most=25),
    ),
    lateness(
        "dead in one batch",
        None,
        3,
        0.001,
        {
            "ours": run(our_batch),
            "minimal": run(minimal_batch),
            "asyncio": run(asyncio_batch),
        },
        Goal("told ms", at_most=60),
    ),
    lateness(
        "starts in turn",
        2,
        4,
        0.001,
        {
            "ours": run(our_starts, together=False),
            "minimal": run(minimal_starts, together=False),
            "asyncio": run(asyncio_starts, together=False),
        },
    ),
    lateness(
        "starts together",
        2,
        9,
        0.001,
        {
            "ours": run(our_starts, together=True),
            "minimal": run(minimal_starts, together=True),
            "asyncio": run(asyncio_starts, together=True),
        },
    ),
    Benchmark(
        "cpu",
        {
            "ours": run(our_costs),
            "minimal": run(minimal_costs),
            "asyncio": run(asyncio_costs),
        },
        (Goal("start µs", at_most=350), Goal("death µs", at_most=60)),
        rounds=5,
    ),
    Benchmark(
        "exit",
        {
            "bare pidfd": run(bare_exit, pipes=False),
            "bare pidfd and pipes": run(bare_exit, pipes=True),
            "ours": run(our_exit, told=False),
            "ours, subscriber": run(our_exit, told=True),
            "asyncio": run(time_asyncio_exit, **PIPES),
        },
        (
            Goal("µs", at_most=1.6, of="bare pidfd"),
            Goal("µs", at_most=1.2, of="bare pidfd", subject="ours, subscriber"),
        ),
        rounds=5,
    ),
)

if __name__ == "__main__":
    main(__doc__, BENCHMARKS)
