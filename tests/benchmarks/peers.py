"""Capture, wait for and start subprocesses with other libraries, as documented there."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from collections.abc import MutableSequence, Sequence
from functools import partial

import anyio
from anyio.streams.text import TextReceiveStream

PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
SLEEP = ("sleep", "1000")
# The shell ends at once when it is killed; its child holds the pipe for two seconds.
HELD = ("sh", "-c", "sleep 2 & exec sleep 1000")

Argv = Sequence[str]


# ---- capture: each line is appended to a list or a deque with its arrival time

Lines = MutableSequence[tuple[float, bytes | str]]


def thread_lines(argv: Argv, lines: Lines) -> None:
    """Read lines in a thread."""

    def read() -> None:
        with subprocess.Popen(argv, stdout=PIPE) as child:
            for line in child.stdout or ():
                lines.append((time.monotonic(), line))

    reader = threading.Thread(target=read)
    reader.start()
    reader.join()


async def asyncio_lines(argv: Argv, lines: Lines) -> None:
    """Read lines with asyncio's stream reader."""
    child = await asyncio.create_subprocess_exec(*argv, stdout=PIPE)
    async for line in child.stdout or ():
        lines.append((time.monotonic(), line))
    await child.wait()


async def anyio_lines(argv: Argv, lines: Lines) -> None:
    """Read text with anyio and split it into lines."""
    rest = ""
    async with await anyio.open_process(argv) as process:
        async for text in TextReceiveStream(process.stdout):
            *whole, rest = (rest + text).split("\n")
            now = time.monotonic()
            lines.extend([(now, line) for line in whole])


async def shellous_lines(argv: Argv, lines: Lines) -> None:
    """Iterate over the lines of a shellous command."""
    from shellous import sh

    async for line in sh(*argv):
        lines.append((time.monotonic(), line))


async def trio_lines(argv: Argv, lines: Lines) -> None:
    """Read chunks with trio and split them into lines."""
    import trio

    rest = b""
    run = partial(trio.run_process, list(argv), stdout=PIPE, check=False)
    async with trio.open_nursery() as nursery:
        process = await nursery.start(run)
        async for data in process.stdout:
            *whole, rest = (rest + data).split(b"\n")
            now = time.monotonic()
            lines.extend([(now, line) for line in whole])


# ---- exit notice: seconds from SIGKILL to the return of wait()


async def asyncio_exit(argv: Argv) -> float:
    """Wait with asyncio."""
    child = await asyncio.create_subprocess_exec(*argv, stdout=PIPE)
    await asyncio.sleep(0.02)
    began = time.perf_counter()
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    return time.perf_counter() - began


async def anyio_exit(argv: Argv) -> float:
    """Wait with anyio."""
    child = await anyio.open_process(argv)
    await anyio.sleep(0.02)
    began = time.perf_counter()
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    took = time.perf_counter() - began
    await child.aclose()
    return took


async def shellous_exit(argv: Argv) -> float:
    """Leave the block of a shellous command."""
    from shellous import sh

    command = sh(*argv).stdout(sh.CAPTURE).set(exit_codes={-9})
    async with command as run:
        await asyncio.sleep(0.02)
        began = time.perf_counter()
        os.kill(run.pid, signal.SIGKILL)
    return time.perf_counter() - began


async def trio_exit(argv: Argv) -> float:
    """Wait with trio."""
    import trio

    process = await trio.lowlevel.open_process(list(argv), stdout=PIPE)
    await trio.sleep(0.02)
    began = time.perf_counter()
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    took = time.perf_counter() - began
    await process.stdout.aclose()
    return took


# ---- starts: children that exit at once, one after the other


async def asyncio_starts(rounds: int) -> None:
    """Start and end children one by one."""
    for _ in range(rounds):
        child = await asyncio.create_subprocess_exec(
            "true", stdin=DEVNULL, stdout=PIPE, stderr=PIPE
        )
        await child.wait()


async def anyio_starts(rounds: int) -> None:
    """Start and end children one by one."""
    for _ in range(rounds):
        async with await anyio.open_process(["true"], stdin=DEVNULL) as child:
            await child.wait()


async def shellous_starts(rounds: int) -> None:
    """Start and end children one by one."""
    from shellous import sh

    for _ in range(rounds):
        await sh("true")


async def trio_starts(rounds: int) -> None:
    """Start and end children one by one."""
    import trio

    for _ in range(rounds):
        await trio.run_process(["true"], capture_stdout=True, capture_stderr=True)
