"""Probes that ask the world: does a port answer, does a page, does a program. An edge."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision.command import Command, spawn
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.supervision.kernel.exit_status import describe_exit
from realtalk_async.supervision.policy.probes import Probe, Probed, Purpose

if TYPE_CHECKING:
    from realtalk_async.supervision.kernel.child_process import ChildProcess
    from realtalk_async.supervision.kernel.pipes import StreamName

PATIENT = 100
"""Failures in a row that a readiness probe forgives, every 0.1 s: ten seconds."""

DYING = 1.0
"""Seconds that a program which was killed may take to be gone."""

LAST = 200
"""Bytes of a program's last words that a verdict quotes."""


def tcp_probe(
    port: int,
    host: str = "127.0.0.1",
    *,
    purpose: Purpose = "readiness",
    period: float = 0.1,
    timeout: float = 1.0,
    grace: float = 0.0,
    failure_threshold: int = PATIENT,
) -> Probe:
    """
    Return a probe that is content when somebody listens at a TCP port.

    Args:
        port: The port.
        host: A name or an address.
        purpose: ``readiness`` or ``liveness``.
        period: Seconds between two questions; one that is ready is asked once a second.
        timeout: Seconds that the connection may take.
        grace: Seconds after the spawn without a question.
        failure_threshold: So many failures in a row are a verdict.
    """

    async def check(_process: Probed) -> str | None:
        _, writer = await asyncio.open_connection(host, port)
        await _close(writer)
        return None

    name = f"tcp {host}:{port}"
    return Probe(name, check, purpose, period, timeout, grace, failure_threshold)


def http_probe(
    url: str,
    *,
    purpose: Purpose = "readiness",
    period: float = 0.1,
    timeout: float = 1.0,
    grace: float = 0.0,
    failure_threshold: int = PATIENT,
) -> Probe:
    """
    Return a probe that is content when a page answers with a status of 200 to 399.

    Args:
        url: ``http://…`` or ``https://…``.
        purpose: As for `tcp_probe`, like all that follow.
        period: Seconds.
        timeout: Seconds.
        grace: Seconds.
        failure_threshold: In a row.

    Raises:
        InvalidConfiguration: If it is no such URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidConfiguration(f"an http:// or https:// URL is needed, not {url!r}")
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    host = parts.hostname
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    request = f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode()

    async def check(_process: Probed) -> str | None:
        context = ssl.create_default_context() if secure else None
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
        try:
            writer.write(request)
            return _judge_status(await reader.readline())
        finally:
            await _close(writer)

    name = f"http {url}"
    return Probe(name, check, purpose, period, timeout, grace, failure_threshold)


def _judge_status(line: bytes) -> str | None:
    """Return None if an HTTP status line tells of success, else what it tells."""
    words = line.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return f"it does not speak HTTP: {line[:LAST]!r}"
    if 200 <= int(words[1]) < 400:
        return None
    return b" ".join(words[1:]).decode(errors="replace").strip()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def exec_probe(
    command: Command,
    *,
    purpose: Purpose = "liveness",
    period: float = 10.0,
    timeout: float = 5.0,
    grace: float = 0.0,
    failure_threshold: int = 3,
) -> Probe:
    """
    Return a probe that is content when a program exits with 0.

    One that hangs past its timeout is killed, with its whole group.

    Args:
        command: The program; what it says last is quoted when it fails.
        purpose: As for `tcp_probe`, like all that follow.
        period: Seconds.
        timeout: Seconds.
        grace: Seconds.
        failure_threshold: In a row.
    """

    async def check(_process: Probed) -> str | None:
        said = bytearray()

        def hear(_stream: StreamName, data: bytes | memoryview, _now: float) -> None:
            said.extend(data)
            del said[:-LAST]

        running = spawn(
            command,
            extra_env={},
            on_data=hear,
            get_memory=_no_memory,
            on_exit=_do_nothing,
        )
        try:
            await asyncio.shield(running.child.exited)
            for reader in running.readers.values():
                reader.read_available()
        finally:
            if running.child.exit_status is None:
                process_groups.send_signal(running.child.pid, signal.SIGKILL)
                await asyncio.wait([running.child.exited], timeout=DYING)
            running.close()
        if running.child.exit_status == 0:
            return None
        last = said.decode(errors="replace").strip()
        how = describe_exit(running.child.exit_status)
        return f"{how}: {last}" if last else how

    name = f"exec {command}"
    return Probe(name, check, purpose, period, timeout, grace, failure_threshold)


def _no_memory(_stream: StreamName) -> None:
    """Have the reader provide its own bytes."""


def _do_nothing(_child: ChildProcess) -> None:
    pass
