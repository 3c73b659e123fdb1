"""
Measure the command line and the live view: ``python tests/benchmarks/bench_cli.py [NAME …]``.

Benchmarks:
    import         seconds of an interpreter that imports asyncio, this package, or this
                   package and two of its names
    run true       seconds of `realtalk-async run -- true` and of `honcho run true`
    live view      an app with 200 children, ten of them floods, with and without
                   `realtalk-async top`: CPU % of the view; lateness in ms of a 20 ms
                   ticker in the app
    observed       CPU seconds of an app to capture a million lines of 100 bytes, with
                   and without the live view
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

from measure import Benchmark, Figures, Goal, lateness, main

from realtalk_async import Command, Logger, ProcessManager
from realtalk_async.control import serve_control

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

STARTS = 7
"""Runs of a program within one measurement; their median is the figure."""
CHILDREN, FLOODS = 200, 10
SECONDS = 10.0
"""Seconds for which the live view is measured."""
WARM_UP = 3.0
"""Seconds before, in which the live view starts."""
SIZE = (60, 200)
"""Rows and columns of the terminal."""
BATCHES = 20
"""How often a million lines are captured."""

TOP = [sys.executable, "-m", "realtalk_async.cli", "top", "--read-only", "--app"]
LINES = "import sys\nfor _ in range(1000): sys.stdout.write(('x' * 99 + '\\n') * 1000)"
NAMES = "from realtalk_async import Logger, ProcessManager; Logger, ProcessManager"


def running(*argv: str) -> Callable[[], Figures]:
    """Return a subject that measures the seconds from a program's start to its exit."""

    def measure() -> Figures:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        program = shutil.which(argv[0], path=path)
        if program is None:
            raise RuntimeError(f"{argv[0]} is not installed")
        return {"seconds": statistics.median(_durations([program, *argv[1:]]))}

    return measure


def _durations(argv: Sequence[str]) -> Iterator[float]:
    subprocess.run(argv, check=True, capture_output=True)  # compiles the modules
    for _ in range(STARTS):
        began = time.perf_counter()
        subprocess.run(argv, check=True, capture_output=True)
        yield time.perf_counter() - began


def importing(code: str) -> Callable[[], Figures]:
    """Return a subject that measures an interpreter that runs *code* alone."""
    return running(sys.executable, "-c", code)


# ---- the live view


@contextlib.contextmanager
def running_view(socket: Path) -> Iterator[int]:
    """Run the live view of an app in a new terminal; yield the pid of the view."""
    main_end, view_end = pty.openpty()
    fcntl.ioctl(view_end, termios.TIOCSWINSZ, struct.pack("4H", *SIZE, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    view = subprocess.Popen(
        [*TOP, str(socket)],
        stdin=view_end,
        stdout=view_end,
        stderr=view_end,
        env=environment,
    )
    os.close(view_end)
    reader = threading.Thread(target=_drain, args=(main_end,))
    reader.start()
    try:
        yield view.pid
        if view.poll() is not None:
            raise RuntimeError(f"the live view exited with status {view.returncode}")
    finally:
        view.kill()
        view.wait()
        reader.join()
        os.close(main_end)


def _drain(terminal: int) -> None:
    with contextlib.suppress(OSError):  # EIO: the view has closed its end
        while os.read(terminal, 1 << 16):
            pass


def _cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _start_children(manager: ProcessManager) -> None:
    """Start FLOODS floods; all other children print one line every half second."""
    calm = Command("sh", "-c", "while sleep 0.5; do echo tick; done")
    for number in range(CHILDREN):
        command = Command("yes") if number < FLOODS else calm
        await manager.start(f"child-{number}", command)


def _in_an_app(
    measure: Callable[[ProcessManager, Path], Awaitable[Figures]],
) -> Callable[[], Figures]:
    """Return a subject that is measured in an app with a control socket."""

    async def run(folder: Path) -> Figures:
        async with (
            Logger(folder / "app.log") as logger,
            ProcessManager(logger) as manager,
            serve_control(manager, folder / "app.sock") as socket,
        ):
            return await measure(manager, socket)

    def subject() -> Figures:
        with tempfile.TemporaryDirectory() as folder:
            return asyncio.run(run(Path(folder)))

    return subject


def live_view(*, with_view: bool) -> Callable[[], Figures]:
    """Return a subject that measures the view and the app, or the app alone."""

    async def measure(manager: ProcessManager, socket: Path) -> Figures:
        await _start_children(manager)
        with running_view(socket) if with_view else contextlib.nullcontext() as view:
            await asyncio.sleep(WARM_UP)
            before = _cpu_of(view) if view else 0.0
            late = await lateness(SECONDS)
            used = _cpu_of(view) - before if view else 0.0
        return {"view CPU %": used / SECONDS * 100, **late}

    return _in_an_app(measure)


def observed(*, with_view: bool) -> Callable[[], Figures]:
    """Return a subject that captures lines, with the view or without it."""

    async def measure(manager: ProcessManager, socket: Path) -> Figures:
        with running_view(socket) if with_view else contextlib.nullcontext():
            await asyncio.sleep(WARM_UP)
            before = _own_cpu()
            for number in range(BATCHES):
                command = Command(sys.executable, "-c", LINES)
                child = await manager.start(f"lines-{number}", command)
                await child.wait()
            return {"CPU s": (_own_cpu() - before) / BATCHES}

    return _in_an_app(measure)


def _own_cpu() -> float:
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
            "honcho": running("honcho", "run", "true"),
            "ours": running("realtalk-async", "run", "--", "true"),
        },
        [Goal("seconds", at_most=1.0, of="honcho")],
    ),
    Benchmark(
        "live view",
        {
            "no view": live_view(with_view=False),
            "ours": live_view(with_view=True),
        },
        [Goal("view CPU %", at_most=15.0), Goal("p99 ms", at_most=3.0)],
        warm_up=False,
    ),
    Benchmark(
        "observed",
        {
            "no view": observed(with_view=False),
            "ours": observed(with_view=True),
        },
        [Goal("CPU s", at_most=1.05, of="no view")],
    ),
]

if __name__ == "__main__":
    main(__doc__ or "", BENCHMARKS)
