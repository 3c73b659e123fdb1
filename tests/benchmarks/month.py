"""
Supervise for a month in a few minutes: ``python tests/benchmarks/month.py``.

A hundred thousand restarts under one name, as many names that live once, half of them
coroutines, and a hundred million small writes of output, while the wall clock is set ten
times and the machine sleeps twice. Nothing may grow: the program prints the memory, the
descriptors, the threads, the tasks and the space on the disk after a twentieth of each part
and at the end, and fails if they are not flat or if a time is wrong.

The lifecycle, the registry, the buffers and the log are those of the package. The child
programs are none: an incarnation is an object that writes a line and has ended. The wall
clock is an argument of the buffers, and is replaced in the log.

``--share 0.01`` does a hundredth of the work.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import os
import sys
import tempfile
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from realtalk_async.logs import Logger
from realtalk_async.logs import logger as logger_module
from realtalk_async.supervision import (
    TEMPORARY,
    Command,
    History,
    ProcessManager,
    RestartPolicy,
)
from realtalk_async.supervision.lifecycle.incarnation import Incarnation
from realtalk_async.supervision.lifecycle.process_lifecycle import ProcessLifecycle
from realtalk_async.supervision.output import spill
from realtalk_async.supervision.output.capture import Capture
from realtalk_async.supervision.output.line import Clock, local_time
from realtalk_async.supervision.output.lines import OutputLines

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.supervision.reports.status import CaptureEnd

RESTARTS = NAMES = 100_000
WRITES = 100_000_000
WARM_UP = 0.05
"""The share of the work before the first measurement: it fills what is kept."""

KEPT = History(incarnations=20, names=100)
WRITES_OF_A_LIFE = 1_000_000
PIECE = b"a small piece\n"

HOUR = 3600.0
STEPS = (HOUR, -HOUR, 0.4, -0.4, 8 * HOUR, -8 * HOUR, 86400.0, -86400.0, 60.0, -60.0)
"""Seconds by which the wall clock is set, one after the other."""
SUSPENDS = (8 * HOUR, 60 * HOUR)
"""Seconds that the machine sleeps: the wall clock goes on, the monotonic one does not."""

MOST_GROWTH = 16 * 1024 * 1024
"""Bytes by which memory may grow between the measurements."""
MOST_DISK = 2 * KEPT.incarnations * WRITES_OF_A_LIFE * (len(PIECE) + 32)
"""Bytes on the disk: the output of the newest incarnations, and when it arrived."""


class WallClock:
    """The wall clock of a machine that sleeps, and whose clock is set."""

    def __init__(self) -> None:
        self.offset = 0.0

    def time(self) -> float:
        """Return the seconds since 1970."""
        return time.time() + self.offset

    def difference(self) -> float:
        """Return the wall clock minus the monotonic clock."""
        return self.time() - time.monotonic()


class FakeIncarnation(Incarnation):
    """An incarnation without a program: it writes one line, and has failed."""

    owns_group = False
    takes_input = False

    def __init__(
        self, on_data: Callable[..., None], on_exit: Callable[[], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        self.pid = 4711
        self.started = time.monotonic()
        self._exited: asyncio.Future[None] = loop.create_future()
        self._on_exit = on_exit
        on_data("stderr", b"Connection refused\n", self.started)
        loop.call_soon(self._end)

    def _end(self) -> None:
        if self.exit_status is None:
            self.exit_status = 1
            self.noticed = self.ended = time.monotonic()
            self._exited.set_result(None)
            self._on_exit()

    @property
    def process(self) -> asyncio.subprocess.Process:
        raise NotImplementedError

    @property
    def exited(self) -> asyncio.Future[None]:
        return self._exited

    async def write(self, data: bytes, progress: list[int]) -> None:
        raise BrokenPipeError

    async def drain(self, bound: float) -> CaptureEnd:
        return "end of file"

    def signal_alone(self, number: int) -> None:
        self._end()

    def close_stdin(self) -> None: ...
    def kill_now(self) -> None: ...
    def close(self) -> None: ...
    def pause(self, stream: str) -> None: ...
    def resume(self, stream: str) -> None: ...


def spawn_nothing(
    lifecycle: ProcessLifecycle, source: object, record: object
) -> object:
    """Stand in for the spawn of a program."""
    del source
    return FakeIncarnation(
        lifecycle._capture.append, lambda: lifecycle._on_exit(record)
    )


async def restart(manager: ProcessManager, count: int) -> None:
    """Restart one process *count* times by its policy."""
    always = RestartPolicy("permanent", first_delay=0.0, max_failures=1e12)
    process = await manager.start("restarted", Command("true"), restart=always)
    last = process.incarnation + count
    while process.incarnation < last:
        await process.wait()
        await asyncio.sleep(0)
    await process.stop()


async def use_names(manager: ProcessManager, numbers: range) -> None:
    """Start a process or a coroutine under each of many names, to its end."""

    async def work() -> None:
        raise ValueError("a coroutine that fails")

    for number in numbers:
        if number % 2:
            name, command = f"process {number}", Command("true")
            process = await manager.start(name, command, restart=TEMPORARY)
            await process.wait_until_settled()
        else:
            task = await manager.start_task(f"task {number}", work, restart=TEMPORARY)
            await task.wait_until_settled()


class Output:
    """The output of one process that writes small pieces all the time."""

    def __init__(self, clock: WallClock) -> None:
        self._capture = Capture(
            "writer", max_size=1 << 40, on_error=print, clock=Clock(clock.difference)
        )
        self._written = 0
        self._number = 0

    @property
    def lines(self) -> OutputLines:
        """The lines of its newest incarnation."""
        return OutputLines(self._capture.buffers["stdout"], self._number)

    def begin(self) -> None:
        """Begin a new incarnation; forget the output of the oldest one."""
        self._number += 1
        self._capture.begin(self._number, binary=False)
        oldest = self._number - (KEPT.incarnations or 0) + 1
        self._capture.buffers["stdout"].forget_before(oldest)

    async def write(self, count: int) -> None:
        """Write pieces, with a new incarnation from time to time."""
        buffer, now = self._capture.buffers["stdout"], time.monotonic
        for _ in range(count):
            if self._written % WRITES_OF_A_LIFE == 0:
                self.begin()
            self._written += 1
            self._capture.append("stdout", PIECE, now())
            if self._written % 1000 == 0:
                while buffer.is_full:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0)


async def check_times(output: Output, logger: Logger, clock: WallClock) -> list[str]:
    """Write a piece and an entry; return what is wrong with their times."""
    newest, now = output.lines[-1].at, local_time(clock.time())
    output.begin()  # times that wait for the clock are equal: read few of them
    await output.write(1)
    await logger.info("month", "now")
    wrong = []
    line = output.lines[-1]
    if line.at < newest or line.at < now - timedelta(seconds=1):
        wrong.append(f"a line of {now} is stamped {line.at}, after {newest}")
    if line not in output.lines.between(min(now, line.at) - timedelta(seconds=1)):
        wrong.append(f"between() does not find the line of {now}")
    since = now.replace(microsecond=0) - timedelta(seconds=1)
    entries = await logger.get_logs(component="month", since=since, n=1)
    if not entries or entries[0].timestamp < since:
        wrong.append(f"get_logs(since={since}) finds {entries}")
    return wrong


def measure(folder: Path) -> dict[str, int]:
    """Return what must not grow."""
    for _ in range(3):
        gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    disk = sum(os.fstat(file).st_blocks * 512 for file in spill.FILES)
    logs = sum(file.stat().st_size for file in folder.iterdir())
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE"),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
        "objects": len(gc.get_objects()),
        "disk": disk + logs,
    }


def verdict(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """Return what has grown."""
    wrong = []
    if after["memory"] > before["memory"] + MOST_GROWTH:
        wrong.append("memory has grown")
    if after["disk"] > max(before["disk"], MOST_DISK) + MOST_GROWTH:
        wrong.append("the space on the disk has grown")
    for what in ("descriptors", "threads", "tasks"):
        # The thread that writes to the disk, and its file, come and go.
        if after[what] > before[what] + (4 if what == "descriptors" else 1):
            wrong.append(f"{what} have grown")
    return wrong


async def run(share: float, folder: Path) -> list[str]:
    """Do the work; return what is wrong."""
    clock = WallClock()
    setattr(logger_module, "time", clock.time)  # noqa: B010
    setattr(ProcessLifecycle, "_spawn", spawn_nothing)  # noqa: B010
    logger = Logger(folder / "month.log", max_bytes=4 << 20, backups=2)
    output, wrong = Output(clock), []
    began, before = time.monotonic(), {}
    async with logger, ProcessManager(logger, guard=False, history=KEPT) as manager:
        await output.write(1)
        moves = [*((step, "set") for step in STEPS), *((s, "asleep") for s in SUSPENDS)]
        rounds = len(moves) + 1
        first_name, done = 0, 0.0
        for number in range(-1, rounds):
            part = WARM_UP if number < 0 else (1 - WARM_UP) / rounds
            done += part
            await restart(manager, int(RESTARTS * share * part))
            last_name = int(NAMES * share * done)
            await use_names(manager, range(first_name, last_name))
            first_name = last_name
            await output.write(int(WRITES * share * part))
            if number >= 0 and number < len(moves):
                clock.offset += moves[number][0]
                wrong += await check_times(output, logger, clock)
            if number < 0:
                before = measure(folder)
                show("before", before, began)
        after = measure(folder)
        show("after", after, began)
        history = manager.get_error_history()
        print(json.dumps({"kept names": len(history), "dead names": str(history)[:60]}))
    if share < 0.02:
        print("a share below 0.02 fills too little before the first measurement")
    return wrong + verdict(before, after)


def show(when: str, numbers: dict[str, int], began: float) -> None:
    """Print one measurement as a line of JSON."""
    seconds = round(time.monotonic() - began, 1)
    print(json.dumps({"when": when, "seconds": seconds, **numbers}), flush=True)


def main() -> int:
    """Run for a month; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the work to do")
    arguments = parser.parse_args()
    print(f"{datetime.now().astimezone():%Y-%m-%d %H:%M} share {arguments.share}")
    with tempfile.TemporaryDirectory() as folder:
        wrong = asyncio.run(run(arguments.share, Path(folder)))
    print("\n".join(wrong) or "nothing has grown, and every time is right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
