"""Probes that check a TCP port, a web page or the exit status of a program."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import signal
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from realtalk_async import arguments
from realtalk_async.concurrency.daemon_thread import call_in_thread
from realtalk_async.supervision.command import Command, spawn
from realtalk_async.supervision.kernel import process_groups
from realtalk_async.supervision.kernel.exit_status import describe_exit
from realtalk_async.supervision.kernel.spawn import current_guard
from realtalk_async.supervision.policy.probes import Probe as BaseProbe
from realtalk_async.supervision.policy.probes import Probed, Purpose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtalk_async.supervision.kernel.child_process import ChildProcess
    from realtalk_async.supervision.kernel.pipes import StreamName
    from realtalk_async.supervision.kernel.spawning.command_checks import Word

PERIOD = 10.0
"""Seconds between two checks of a server: each may be a line in its log for ever."""

UNHEALTHY_AFTER = 10.0
"""Seconds in which a server may fail all checks, by default."""

KILL_TIMEOUT = 1.0
"""Seconds that a killed program may take to exit."""

QUOTED = 200
"""Bytes of a program's newest output that the reason of a failure quotes."""


def tcp_probe(
    port: int,
    host: str = "127.0.0.1",
    *,
    purpose: Purpose = "readiness",
    period: float = PERIOD,
    timeout: float = 1.0,
    grace: float = 0.0,
    failure_threshold: int | None = None,
) -> Probe:
    """
    Return a probe that passes when a server listens at a TCP port.

    Args:
        port: The port.
        host: A name or an address.
        purpose: ``readiness`` or ``liveness``.
        period: Seconds between two checks. Until the process is ready, it is checked each
            0.2 s, see `Probe`.
        timeout: Seconds that the connection may take.
        grace: Seconds after the spawn without a check.
        failure_threshold: Failures in a row, one a period, after which the process is
            unhealthy; by default those of 10 s.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """
    arguments.port("port", port)
    arguments.one_line("host", host)

    async def check(_process: Probed) -> str | None:
        _, writer = await _connect(host, port)
        await _close(writer)
        return None

    name = f"tcp {host}:{port}"
    most = _failures_in_time(period, failure_threshold)
    return Probe(name, check, purpose, period, timeout, grace, most)


def http_probe(
    url: str,
    *,
    purpose: Purpose = "readiness",
    period: float = PERIOD,
    timeout: float = 1.0,
    grace: float = 0.0,
    failure_threshold: int | None = None,
) -> Probe:
    """
    Return a probe that passes when a page answers with a status of 200 to 399.

    Args:
        url: ``http://…`` or ``https://…``.
        purpose: As for `tcp_probe`, like the other arguments.
        period: Seconds; one line of an access log each.
        timeout: Seconds.
        grace: Seconds.
        failure_threshold: In a row.

    Raises:
        InvalidConfiguration: If *url* is not a URL of that kind, or another argument is
            invalid.
    """
    parts, host, port = _split(url)
    secure = parts.scheme == "https"
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    request = f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode()

    async def check(_process: Probed) -> str | None:
        context = ssl.create_default_context() if secure else None
        reader, writer = await _connect(host, port, context)
        try:
            writer.write(request)
            return _check_status(await reader.readline())
        finally:
            await _close(writer)

    name = f"http {url}"
    most = _failures_in_time(period, failure_threshold)
    return Probe(name, check, purpose, period, timeout, grace, most)


def _failures_in_time(period: float, failure_threshold: int | None) -> int:
    """Return the threshold of failures, one a period; by default for `UNHEALTHY_AFTER`."""
    arguments.number("period", period, of="seconds", more_than=0)
    if failure_threshold is not None:
        return failure_threshold
    return 1 + math.ceil(UNHEALTHY_AFTER / period)


async def _connect(
    host: str, port: int, context: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """
    Connect to the first address of a host that accepts.

    Raises:
        OSError: If none accepts, or the host is unknown; the error of the first address.
    """
    errors: list[OSError] = []
    for address in await _addresses(host, port):
        try:
            return await asyncio.open_connection(
                address, port, ssl=context, server_hostname=host if context else None
            )
        except OSError as exc:
            errors.append(exc)
    raise errors[0]


async def _addresses(host: str, port: int) -> list[str]:
    """
    Return the addresses of a host.

    Raises:
        OSError: If it is unknown.
    """
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    # The loop would search in its default executor, which the app may have filled.
    search = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await call_in_thread(search, f"realtalk-async searches {host}")
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _split(url: str) -> tuple[SplitResult, str, int]:
    """Return a URL in parts, its host and its port."""
    allowed = "an http:// or https:// URL"
    try:
        arguments.one_line("url", url)
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # also of `urlsplit`, for a port that is no number
        raise arguments.refused("url", allowed, url) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or " " in url:
        raise arguments.refused("url", allowed, url)
    return parts, parts.hostname, port


def _check_status(line: bytes) -> str | None:
    """Return None if an HTTP status line reports success, otherwise the status."""
    words = line.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return f"the answer is not HTTP: {line[:QUOTED]!r}"
    if 200 <= int(words[1]) < 400:
        return None
    return b" ".join(words[1:]).decode(errors="replace").strip()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def exec_probe(
    command: Command | Sequence[Word],
    *,
    purpose: Purpose = "liveness",
    period: float = 10.0,
    timeout: float = 5.0,
    grace: float = 0.0,
    failure_threshold: int = 3,
) -> Probe:
    """
    Return a probe that passes when a program exits with status 0.

    A program that exceeds the timeout is killed with its whole group. The guard of the
    manager ends it if the app is killed.

    Args:
        command: The program, also as a list of words; the reason of a failure quotes its
            newest output.
        purpose: As for `tcp_probe`, like the other arguments.
        period: Seconds.
        timeout: Seconds.
        grace: Seconds.
        failure_threshold: In a row.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """
    program = Command.of(command)

    async def check(_process: Probed) -> str | None:
        output = bytearray()
        errors: list[BaseException] = []

        def keep_end(
            _stream: StreamName, data: bytes | memoryview, _now: float
        ) -> None:
            output.extend(data)
            del output[:-QUOTED]

        running = spawn(
            program,
            extra_env={},
            on_data=keep_end,
            get_memory=_no_memory,
            on_exit=_do_nothing,
            on_error=errors.append,
        )
        guard = current_guard.get()
        if guard is not None:
            guard.group_started(running.child.pid)
        try:
            await asyncio.shield(running.child.exited)
            for reader in running.readers.values():
                reader.read_available()
        finally:
            if running.child.exit_status is None:
                process_groups.send_signal(running.child.pid, signal.SIGKILL)
                await asyncio.wait([running.child.exited], timeout=KILL_TIMEOUT)
            if guard is not None and running.child.exit_status is not None:
                guard.group_ended(running.child.pid)
            running.close()
        if errors:
            raise errors[0]
        if running.child.exit_status == 0:
            return None
        last = output.decode(errors="replace").strip()
        how = describe_exit(running.child.exit_status)
        return f"{how}: {last}" if last else how

    name = f"exec {program}"
    return Probe(name, check, purpose, period, timeout, grace, failure_threshold)


class Probe(BaseProbe):
    """
    A periodic check of a process.

    The class methods and functions `silence`, `rate`, `line`, `call`, `tcp`, `http` and
    `exec` return the usual probes.
    """

    __slots__ = ()

    tcp = staticmethod(tcp_probe)
    http = staticmethod(http_probe)
    exec = staticmethod(exec_probe)


def _no_memory(_stream: StreamName) -> None:
    """Have the reader provide its own bytes."""


def _do_nothing(_child: ChildProcess) -> None:
    pass
