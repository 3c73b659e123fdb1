"""
Measure what the command line and the live view cost.

    import         seconds of an interpreter that imports asyncio; the package; the
                   package, and uses its names
    run true       seconds for `realtalk-async run -- true`, and for `honcho run true`
    live view      200 children, ten of them floods, beside `realtalk-async top`: percent
                   of a processor that the view takes; lateness of a 20 ms ticker in the
                   app, in ms
    observed       CPU seconds to capture a million lines of 100 bytes, watched or not
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Benchmark, Figures, Goal, main

from realtalk_async import Command, Logger, ProcessManager
from realtalk_async.control.server import control

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

STARTS = 7
"""Starts of a program within one measurement; the median counts."""
CHILDREN, FLOODS = 200, 10
SECONDS = 10.0
"""How long the live view is measured, after it has come up."""
SETTLED = 3.0
"""Seconds in which it comes up."""
TICK = 0.02
SIZE = (60, 200)
"""Rows and columns of the terminal."""
BATCHES = 20
"""Times a million lines."""

TOP = [sys.executable, "-m", "realtalk_async.cli", "top", "--read-only", "--app"]
LINES = "import sys\nfor _ in range(1000): sys.stdout.write(('x' * 99 + '\\n') * 1000)"
NAMES = "from realtalk_async import Logger, ProcessManager; Logger, ProcessManager"


def started(*argv: str) -> Callable[[], Figures]:
    """Return a subject: seconds from the start of a program to its end."""

    def measure() -> Figures:
        places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        program = shutil.which(argv[0], path=places)
        if program is None:
            raise RuntimeError(f"{argv[0]} is not installed")
        return {"seconds": statistics.median(_takes([program, *argv[1:]]))}

    return measure


def _takes(argv: Sequence[str]) -> Iterator[float]:
    subprocess.run(argv, check=True, capture_output=True)  # compiles what is not yet
    for _ in range(STARTS):
        began = time.perf_counter()
        subprocess.run(argv, check=True, capture_output=True)
        yield time.perf_counter() - began


def importing(code: str) -> Callable[[], Figures]:
    """Return a subject: seconds of an interpreter that does no more than this."""
    return started(sys.executable, "-c", code)


# ---- the live view


@contextlib.contextmanager
def watched(socket: Path) -> Iterator[int]:
    """Have the live view look at an app, in a terminal of its own; give its pid."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", *SIZE, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    view = subprocess.Popen(
        [*TOP, str(socket)], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    reader = threading.Thread(target=_drain, args=(ours,))
    reader.start()
    try:
        yield view.pid
        if view.poll() is not None:
            raise RuntimeError(f"the view ended with status {view.returncode}")
    finally:
        view.kill()
        view.wait()
        reader.join()
        os.close(ours)


def _drain(terminal: int) -> None:
    with contextlib.suppress(OSError):  # EIO: the other side is gone
        while os.read(terminal, 1 << 16):
            pass


def _used(pid: int) -> float:
    """Return the CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _crowd(manager: ProcessManager) -> None:
    """Start the floods and those who say something twice a second."""
    calm = Command("sh", "-c", "while sleep 0.5; do echo tick; done")
    for number in range(CHILDREN):
        command = Command("yes") if number < FLOODS else calm
        await manager.start(f"child-{number}", command)


async def _lateness(seconds: float) -> list[float]:
    """Return how late each tick was, in ms, sorted."""
    late: list[float] = []
    due = time.perf_counter()
    for _ in range(int(seconds / TICK)):
        due += TICK
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        late.append((time.perf_counter() - due) * 1000)
        due = max(due, time.perf_counter() - TICK)
    return sorted(late)


def _in_an_app(
    measure: Callable[[ProcessManager, Path], Awaitable[Figures]],
) -> Callable[[], Figures]:
    """Return a subject that is measured within an app that can be looked into."""

    async def run(folder: Path) -> Figures:
        async with (
            Logger(folder / "app.log") as logger,
            ProcessManager(logger) as manager,
            control(manager, folder / "app.sock") as socket,
        ):
            return await measure(manager, socket)

    def subject() -> Figures:
        with tempfile.TemporaryDirectory() as folder:
            return asyncio.run(run(Path(folder)))

    return subject


def live_view(*, is_watched: bool) -> Callable[[], Figures]:
    """Return a subject: the crowd, beside the view or not."""

    async def measure(manager: ProcessManager, socket: Path) -> Figures:
        await _crowd(manager)
        with watched(socket) if is_watched else contextlib.nullcontext() as view:
            await asyncio.sleep(SETTLED)
            before = _used(view) if view else 0.0
            late = await _lateness(SECONDS)
            used = _used(view) - before if view else 0.0
        p99 = late[int(len(late) * 0.99)]
        return {"view": used / SECONDS * 100, "p99": p99, "max": late[-1]}

    return _in_an_app(measure)


def observed(*, is_watched: bool) -> Callable[[], Figures]:
    """Return a subject: lines captured, beside the view or not."""

    async def measure(manager: ProcessManager, socket: Path) -> Figures:
        with watched(socket) if is_watched else contextlib.nullcontext():
            await asyncio.sleep(SETTLED)
            before = _own()
            for number in range(BATCHES):
                command = Command(sys.executable, "-c", LINES)
                child = await manager.start(f"lines-{number}", command)
                await child.wait()
            return {"CPU": (_own() - before) / BATCHES}

    return _in_an_app(measure)


def _own() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


BENCHMARKS = [
    Benchmark(
        "import",
        {
            "asyncio": importing("import asyncio"),
            "ours": importing("import realtalk_async"),
            "ours, names used": importing(NAMES),
        },
        [
            Goal("seconds", at_most=2.0, of="asyncio"),
            Goal("seconds", at_most=2.0, of="asyncio", subject="ours, names used"),
        ],
    ),
    Benchmark(
        "run true",
        {
            "honcho": started("honcho", "run", "true"),
            "ours": started("realtalk-async", "run", "--", "true"),
        },
        [Goal("seconds", at_most=1.0, of="honcho")],
    ),
    Benchmark(
        "live view",
        {
            "nobody looks": live_view(is_watched=False),
            "ours": live_view(is_watched=True),
        },
        [Goal("view", at_most=15.0), Goal("p99", at_most=3.0)],
        warm_up=False,
    ),
    Benchmark(
        "observed",
        {
            "nobody looks": observed(is_watched=False),
            "ours": observed(is_watched=True),
        },
        [Goal("CPU", at_most=1.05, of="nobody looks")],
    ),
]

if __name__ == "__main__":
    main(__doc__ or "", BENCHMARKS)
