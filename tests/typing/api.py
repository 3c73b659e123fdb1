"""Typical uses of the public names: type checkers check this file, nothing runs it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Mapping
from typing import assert_type

from realtalk_async import (
    CLOSE_STDIN,
    PERMANENT,
    Command,
    ErrorHistory,
    Explanation,
    IncarnationReport,
    Ladder,
    LeakReport,
    LogEntry,
    Logger,
    ManagedProcess,
    OutputLine,
    OutputLines,
    Probe,
    ProcessManager,
    ProcessStatus,
    RestartPolicy,
    Stream,
    Summary,
    SupervisedTask,
)
from realtalk_async.ops import export_metrics, notify_systemd, serve_metrics
from realtalk_async.testing.virtual_time import VirtualTimeLoop
from realtalk_async.voice import Outcome


async def supervise(logger: Logger) -> None:
    """Start, inspect and stop processes."""
    async with ProcessManager(logger, shutdown_timeout=5) as manager:
        process = await manager.start(
            "mic",
            Command("sox", "-d", env={"AUDIODEV": None}, stdout="binary"),
            restart=RestartPolicy("permanent", max_failures=3),
            critical=True,
            depends_on=["server"],
            binds_to=("bus",),
            oneshot=False,
            devices=["hw:0"],
            probes=[Probe.silence(0.5), Probe.line("ready"), Probe.rate(48_000)],
            recover=resume,
            ladder=Ladder((CLOSE_STDIN, 0.5), (signal.SIGTERM, 2.0)),
        )
        assert_type(process, ManagedProcess)
        assert_type(await process.check(), ProcessStatus)
        assert_type(process.get_stdout(), OutputLines)
        assert_type(process.get_stdout()[0], OutputLine)
        assert_type(process.get_stdout()[-3:], list[OutputLine])
        assert_type(await process.restart(resume), bool)
        assert_type(await process.receive(), bytes)
        assert_type(await manager.check_processes(), dict[str, ProcessStatus])
        assert_type(manager.get_error_history("mic"), ErrorHistory)
        assert_type(manager.explain("mic"), Explanation)
        assert_type(await manager.leak_report(), LeakReport)
        assert_type(await process.wait_until_settled(), ProcessStatus)
        assert_type(await process.kill(), ProcessStatus)
        assert_type(manager.degraded, Mapping[str, str])
        task = await manager.start_task("net", connect, restart=PERMANENT)
        assert_type(task, SupervisedTask)
        spawned = await manager.create_subprocess_exec(
            "cat", stdin=asyncio.subprocess.PIPE, name="cat"
        )
        assert_type(spawned, asyncio.subprocess.Process)
        assert_type(manager.register_process(spawned, "again"), ManagedProcess)
        async for line in process.follow("stderr", history=True):
            assert_type(line, OutputLine)


async def resume(report: IncarnationReport) -> Command | None:
    """Continue where the last incarnation stopped."""
    return Command("play", report.stdout[-1].text) if report.failed else None


async def connect() -> None:
    """A supervised coroutine."""


async def log() -> None:
    """Write and query the log."""
    async with Logger("app.log") as logger:
        logger.info("app", "Started")
        logger.log("WARNING", "app", "Slow", {"ms": 12})
        await logger.error("app", "Lost", {"code": 1006})
        entries = await logger.get_logs("ERROR", component="app", pattern="Lo", n=3)
        assert_type(entries, list[LogEntry])


async def samples() -> AsyncGenerator[bytes, None]:
    """An async microphone callback."""
    yield bytes(960)


async def play(pcm: bytes) -> None:
    """A speaker callback."""


def read() -> bytes:
    """A microphone callback that blocks."""
    return bytes(960)


async def talk() -> None:
    """Run a session."""
    received = bytearray()
    for stream in (
        Stream(microphone=samples, speaker=play),
        Stream(microphone=samples(), speaker=received.extend),
        Stream(microphone=read, speaker="out.wav"),
        Stream(microphone=["parec"], speaker=None),
    ):
        assert_type(stream.is_ready(), bool)
    async with Stream(url="ws://127.0.0.1:1/v1/realtime", microphone=None) as stream:
        assert_type(stream, Stream)
        request = stream.send_text("hello", "user", trigger_response=True)
        print((await stream.wait_for_response(timeout=5)).text)
        assert_type(await request, Outcome)
        assert_type(stream.process_status(), dict[str, ProcessStatus])
        assert_type(stream.error_history(), ErrorHistory)
    assert_type(await Stream().start_streaming("key", "model", "voice"), Summary)


async def serve(manager: ProcessManager, stream: Stream) -> None:
    """Export metrics and notify systemd."""
    async with (
        serve_metrics(manager, stream=stream, host="0.0.0.0", port=0) as endpoint,
        export_metrics(manager) as collector,
        notify_systemd(manager) as has_socket,
    ):
        assert_type(endpoint.url, str)
        assert_type(endpoint.port, int)
        assert_type(collector.check("readiness").ok, bool)
        assert_type(has_socket, bool)


def jump() -> None:
    """Make a loop with virtual time."""
    assert_type(VirtualTimeLoop(real_wait=0.01).time(), float)
