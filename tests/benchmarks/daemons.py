"""Run supervisors as separate programs, each with one script to keep running."""

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
"""The environment variable that marks a supervisor and its descendants."""

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


# ---- configuration and command line of each supervisor


def supervisord(folder: Path, more: str = "") -> Argv:
    """Configure supervisord, which adds no time to a line."""
    config = folder / "supervisord.conf"
    config.write_text(SUPERVISORD.format(folder=folder, more=more))
    return [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]


def quick_supervisord(folder: Path) -> Argv:
    """Configure supervisord to count a child as started at once."""
    return supervisord(folder, "startsecs = 0")


def circus(folder: Path, more: str = "") -> Argv:
    """Configure circusd, which adds a time to each chunk that it reads."""
    config = folder / "circus.ini"
    config.write_text(CIRCUS.format(folder=folder, more=more))
    return [sys.executable, "-m", "circus.circusd", str(config)]


def quick_circus(folder: Path) -> Argv:
    """Configure circusd to check its children a hundred times a second."""
    return circus(folder, "check_delay = 0.01")


def honcho(folder: Path) -> Argv:
    """Configure honcho, which does not restart."""
    (folder / "Procfile").write_text(f"one: sh {folder}/script\n")
    return [sys.executable, "-m", "honcho", "-f", f"{folder}/Procfile", "start"]


def shell(folder: Path) -> Argv:
    """Restart in a shell loop, the simplest supervisor."""
    return ["sh", "-c", f"while :; do sh {folder}/script; done"]


def asyncio_app(folder: Path) -> Argv:
    """Run an app that uses only asyncio and does not restart."""
    return [sys.executable, "-c", ASYNCIO, str(folder)]


def our_app(folder: Path) -> Argv:
    """Run an app that uses this package with the default restart policy."""
    return [sys.executable, "-c", OURS, str(folder)]


def quick_app(folder: Path) -> Argv:
    """Run an app that uses this package and restarts without delay or limit."""
    return [*our_app(folder), "at once"]


# ---- a running supervisor


@dataclass(frozen=True, slots=True)
class Running:
    """A running supervisor and the folder of its script."""

    process: subprocess.Popen[bytes]
    folder: Path
    messages: int
    """The descriptor of the named pipe ``{folder}/messages`` that the script writes to."""

    @property
    def cpu(self) -> float:
        """The CPU seconds of the supervisor itself, without its children."""
        return time.clock_gettime(~self.process.pid << 3 | 2)  # clock_getcpuclockid(3)

    def children(self, name: str) -> list[int]:
        """Return the descendants that run the program *name*."""
        return [pid for pid in marked(self.folder.name) if program(pid) == name]


@contextlib.contextmanager
def running(configure: Callable[[Path], Argv], script: str) -> Iterator[Running]:
    """Supervise *script* in a temporary folder; kill all descendants at the end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "script").write_text(script.format(folder=folder))
        os.mkfifo(folder / "messages")
        messages = os.open(folder / "messages", os.O_RDWR)
        process = subprocess.Popen(
            configure(folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, MARK: folder.name},
        )
        try:
            yield Running(process, folder, messages)
        finally:
            process.kill()
            process.wait()
            end(folder.name)
            os.close(messages)


def marked(mark: str) -> list[int]:
    """Return the processes whose environment has the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def program(pid: int) -> str:
    """Return the name of the program that a process runs."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def end(mark: str) -> None:
    """Kill the processes with the mark until there are none."""
    while pids := marked(mark):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


# ---- measurements

WRITES = """\
read go < {folder}/go
COMMAND
echo done > {folder}/messages
exec sleep 1000
"""
APPEARS = """\
echo $$ > {folder}/messages
exec sleep 1000
"""
FAMILY = """\
setsid sleep 1000 &
sleep 1000 &
echo ready > {folder}/messages
exec sleep 1000
"""


def capture(configure: Callable[[Path], Argv], command: str, size: int) -> float:
    """Return the CPU seconds to store *size* bytes of output of *command*."""
    with running(configure, WRITES.replace("COMMAND", command)) as supervisor:
        os.mkfifo(supervisor.folder / "go")
        with (supervisor.folder / "go").open("w") as go:  # waits until the script runs
            began = supervisor.cpu
            go.write("\n")
        os.read(supervisor.messages, 100)
        output = supervisor.folder / "output"
        while output.stat().st_size < size or modified_recently(output):
            time.sleep(0.05)
        return supervisor.cpu - began


def modified_recently(output: Path) -> bool:
    """Return whether a file was modified in the last quarter of a second."""
    return time.time() - output.stat().st_mtime < 0.25


def restarts(configure: Callable[[Path], Argv], pauses: list[float]) -> list[float]:
    """Kill the script after each pause; return the seconds until it runs again."""
    times = []
    with running(configure, APPEARS) as supervisor:
        pid = int(os.read(supervisor.messages, 100))
        for pause in pauses:
            time.sleep(pause)
            began = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            pid = int(os.read(supervisor.messages, 100))
            times.append(time.perf_counter() - began)
    return times


def survivors(configure: Callable[[Path], Argv]) -> int:
    """Kill a supervisor with SIGKILL; count its descendants alive a second later."""
    with running(configure, FAMILY) as supervisor:
        os.read(supervisor.messages, 100)
        time.sleep(0.1)
        supervisor.process.kill()
        supervisor.process.wait()
        deadline = time.monotonic() + 1.0
        while (left := supervisor.children("sleep")) and time.monotonic() < deadline:
            time.sleep(0.01)
        return len(left)
