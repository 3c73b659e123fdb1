"""Supervisors that are programs of their own: each is told to keep one script running."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MARK = "BENCHMARK_MARK"
"""A variable in the environment of a supervisor and of all that it starts."""

SUPERVISORD = """\
[supervisord]
nodaemon = true
logfile = {folder}/supervisord.log
pidfile = {folder}/supervisord.pid
childlogdir = {folder}

[program:one]
command = sh {folder}/script
stdout_logfile = {folder}/output
stdout_logfile_maxbytes = 0
{more}
"""
CIRCUS = """\
[circus]
endpoint = ipc://{folder}/endpoint
pubsub_endpoint = ipc://{folder}/pubsub
{more}

[watcher:one]
cmd = sh {folder}/script
copy_env = True
stdout_stream.class = FileStream
stdout_stream.filename = {folder}/output
stdout_stream.time_format = %Y-%m-%d %H:%M:%S
"""
OURS = """
import asyncio, sys
from realtalk_async import Command, Logger, ProcessManager, RestartPolicy

async def main(folder, *at_once):
    quick = {"first_delay": 0.0, "max_failures": 1e9} if at_once else {}
    async with Logger(f"{folder}/app.log") as logger, ProcessManager(logger) as manager:
        policy = RestartPolicy("permanent", **quick)
        await manager.start("one", Command("sh", f"{folder}/script"), restart=policy)
        await asyncio.sleep(1000)

asyncio.run(main(*sys.argv[1:]))
"""
ASYNCIO = """
import asyncio, sys

async def main(folder):
    child = await asyncio.create_subprocess_exec("sh", f"{folder}/script")
    await child.wait()

asyncio.run(main(*sys.argv[1:]))
"""

Argv = list[str]


# ---- how each is configured and run


def supervisord(folder: Path, more: str = "") -> Argv:
    """Supervisord, which stamps no line."""
    config = folder / "supervisord.conf"
    config.write_text(SUPERVISORD.format(folder=folder, more=more))
    return [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]


def eager_supervisord(folder: Path) -> Argv:
    """Supervisord for which a child has started at once."""
    return supervisord(folder, "startsecs = 0")


def circus(folder: Path, more: str = "") -> Argv:
    """Circusd, which stamps what it has read at a time."""
    config = folder / "circus.ini"
    config.write_text(CIRCUS.format(folder=folder, more=more))
    return [sys.executable, "-m", "circus.circusd", str(config)]


def eager_circus(folder: Path) -> Argv:
    """Circusd that looks a hundred times a second."""
    return circus(folder, "check_delay = 0.01")


def honcho(folder: Path) -> Argv:
    """Honcho, which restarts nothing."""
    (folder / "Procfile").write_text(f"one: sh {folder}/script\n")
    return [sys.executable, "-m", "honcho", "-f", f"{folder}/Procfile", "start"]


def shell(folder: Path) -> Argv:
    """Run a loop of the shell, the least there is."""
    return ["sh", "-c", f"while :; do sh {folder}/script; done"]


def asyncio_app(folder: Path) -> Argv:
    """Run an app of asyncio alone, which restarts nothing."""
    return [sys.executable, "-c", ASYNCIO, str(folder)]


def our_app(folder: Path) -> Argv:
    """Run an app of ours, with the policy as it is by default."""
    return [sys.executable, "-c", OURS, str(folder)]


def eager_app(folder: Path) -> Argv:
    """Run an app of ours that restarts without a delay, for ever."""
    return [*our_app(folder), "at once"]


# ---- running one


@dataclass(frozen=True, slots=True)
class Running:
    """A supervisor at work."""

    process: subprocess.Popen[bytes]
    folder: Path
    told: int
    """Reads what the script writes to ``{folder}/told``."""

    @property
    def cpu(self) -> float:
        """The seconds that the supervisor itself has computed."""
        return time.clock_gettime(~self.process.pid << 3 | 2)  # clock_getcpuclockid(3)

    def children(self, name: str) -> list[int]:
        """Return those of its processes that live and run the program *name*."""
        return [pid for pid in marked(self.folder.name) if program(pid) == name]


@contextlib.contextmanager
def running(configure: Callable[[Path], Argv], script: str) -> Iterator[Running]:
    """Have *script* supervised in a folder of its own; leave nothing of it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "script").write_text(script.format(folder=folder))
        os.mkfifo(folder / "told")
        told = os.open(folder / "told", os.O_RDWR)
        process = subprocess.Popen(
            configure(folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, MARK: folder.name},
        )
        try:
            yield Running(process, folder, told)
        finally:
            process.kill()
            process.wait()
            end(folder.name)
            os.close(told)


def marked(mark: str) -> list[int]:
    """Return the processes that live and carry the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def program(pid: int) -> str:
    """Return the name of what a process runs."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def end(mark: str) -> None:
    """Kill all that carry the mark, also what is born meanwhile."""
    while pids := marked(mark):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


# ---- what is asked of it

WRITES = """\
read go < {folder}/go
COMMAND
echo done > {folder}/told
exec sleep 1000
"""
APPEARS = """\
echo $$ > {folder}/told
exec sleep 1000
"""
FAMILY = """\
setsid sleep 1000 &
sleep 1000 &
echo ready > {folder}/told
exec sleep 1000
"""


def capture(configure: Callable[[Path], Argv], command: str, size: int) -> float:
    """Return the CPU of a supervisor that keeps *size* bytes which *command* writes."""
    with running(configure, WRITES.replace("COMMAND", command)) as one:
        os.mkfifo(one.folder / "go")
        with (one.folder / "go").open("w") as go:  # waits until the script runs
            began = one.cpu
            go.write("\n")
        os.read(one.told, 100)
        output = one.folder / "output"
        while output.stat().st_size < size or fresh(output):
            time.sleep(0.05)
        return one.cpu - began


def fresh(output: Path) -> bool:
    """Tell whether a file was written to in the last quarter of a second."""
    return time.time() - output.stat().st_mtime < 0.25


def revival(configure: Callable[[Path], Argv], pauses: list[float]) -> list[float]:
    """Kill the script after each pause; return the seconds until it runs again."""
    times = []
    with running(configure, APPEARS) as one:
        pid = int(os.read(one.told, 100))
        for pause in pauses:
            time.sleep(pause)
            began = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            pid = int(os.read(one.told, 100))
            times.append(time.perf_counter() - began)
    return times


def survivors(configure: Callable[[Path], Argv]) -> int:
    """Kill the supervisor of a child, a grandchild and a daemon; count who lives on."""
    with running(configure, FAMILY) as one:
        os.read(one.told, 100)
        time.sleep(0.1)
        one.process.kill()
        one.process.wait()
        deadline = time.monotonic() + 1.0
        while (left := one.children("sleep")) and time.monotonic() < deadline:
            time.sleep(0.01)
        return len(left)
