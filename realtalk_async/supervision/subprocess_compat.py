"""
asyncio's own way of starting a process, supervised: for code that exists already.

The process is asyncio's own `Process`, and its streams can be read and written as ever.
What the app reads comes out of the capture, so an app that reads slowly, or never, loses
nothing and does not make the child wait.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import TYPE_CHECKING, Any, Protocol

from realtalk_async.exceptions import (
    InvalidConfiguration,
    ProcessDead,
    SpawnFailed,
)
from realtalk_async.supervision.command import Command
from realtalk_async.supervision.kernel.child import transport_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping

    from realtalk_async.supervision.kernel.child import ChildTransport
    from realtalk_async.supervision.output.buffer import StreamName
    from realtalk_async.supervision.policy.restart import RestartPolicy
    from realtalk_async.supervision.process import ManagedProcess

NEUTRAL: dict[str, object] = {
    "universal_newlines": False,
    "shell": False,
    "bufsize": 0,
    "text": None,
    "encoding": None,
    "errors": None,
}
"""Arguments that asyncio takes with this value only: its streams are bytes."""

Argument = str | bytes | os.PathLike[str] | os.PathLike[bytes]

Streams = tuple[int | None, int | None, int | None]
"""What the caller gave for stdin, stdout and stderr."""


class _Manager(Protocol):
    """What is needed of a `ProcessManager`; named here to import downwards only."""

    async def start(
        self,
        name: str,
        command: Command,
        *,
        restart: RestartPolicy,
        critical: bool,
    ) -> ManagedProcess:
        """Start a command and supervise it."""
        ...

    def run_beside(self, work: Coroutine[None, None, None]) -> None:
        """Run a coroutine that ends no later than the manager."""
        ...


def command_for(
    argv: tuple[Argument, ...], streams: Streams, options: Mapping[str, Any]
) -> Command:
    """
    Return the command that does what asyncio's arguments say.

    Raises:
        InvalidConfiguration: If one of them has a value that asyncio refuses as well.
    """
    rest = dict(options)
    for name, value in NEUTRAL.items():
        if rest.pop(name, value) not in {value, None}:
            raise InvalidConfiguration(f"{name} can only be {value!r}, as in asyncio")
    env, cwd = rest.pop("env", None), rest.pop("cwd", None)
    stdin, stdout, stderr = streams
    captured = {None, subprocess.PIPE}
    outputs = {"stdout": stdout, "stderr": stderr}
    redirect = {name: to for name, to in outputs.items() if to not in captured}
    if stdin != subprocess.PIPE:
        redirect["stdin"] = stdin
    changes: dict[str, str | None] = {}
    if env is not None:  # asyncio's replaces the whole environment
        changes = {**dict.fromkeys(os.environ), **env}
    return Command(
        *map(os.fsdecode, argv),
        env=changes,
        cwd=cwd,
        stdin=stdin == subprocess.PIPE,
        redirect=redirect,
        options=rest,
    )


async def create(
    manager: _Manager,
    name: str,
    command: Command,
    streams: Streams,
    limit: int,
    *,
    restart: RestartPolicy,
    critical: bool,
) -> asyncio.subprocess.Process:
    """
    Start a command and dress its process up with the streams that the caller asked for.

    Raises:
        OSError: If it cannot be started, as asyncio does.
    """
    try:
        managed = await manager.start(name, command, restart=restart, critical=critical)
    except SpawnFailed as exc:
        raise exc.error from exc
    process = managed.process
    assert process is not None
    transport = transport_of(process)
    if streams[0] == subprocess.PIPE:
        process.stdin = await _writer(managed, transport)
    if streams[1] == subprocess.PIPE:
        process.stdout = _reader(manager, managed, transport, "stdout", limit)
    if streams[2] == subprocess.PIPE:
        process.stderr = _reader(manager, managed, transport, "stderr", limit)
    return process


async def _writer(
    managed: ManagedProcess, transport: ChildTransport
) -> asyncio.StreamWriter:
    """Return asyncio's own writer for the child's stdin."""
    loop = asyncio.get_running_loop()
    try:
        descriptor = managed.detach_stdin()
    except ProcessDead:  # already; asyncio would find out when it writes, so do we
        reading, descriptor = os.pipe()
        os.close(reading)
    pipe = os.fdopen(descriptor, "wb", buffering=0)
    # asyncio has no public protocol for writing alone; this one does it as well.
    writing, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), pipe
    )
    transport.attach(0, writing)
    return asyncio.StreamWriter(writing, protocol, None, loop)


def _reader(
    manager: _Manager,
    managed: ManagedProcess,
    transport: ChildTransport,
    stream: StreamName,
    limit: int,
) -> asyncio.StreamReader:
    """Return asyncio's own reader, fed from what was captured."""
    reader = asyncio.StreamReader(limit)
    gate = _Gate()
    reader.set_transport(gate)
    transport.attach(1 if stream == "stdout" else 2, gate)
    manager.run_beside(_feed(reader, gate, managed.follow_bytes(stream)))
    return reader


class _Gate(asyncio.ReadTransport):
    """Lets a `StreamReader` say when it has enough."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()

    def pause_reading(self) -> None:
        """Wait with further data."""
        self.open.clear()

    def resume_reading(self) -> None:
        """Go on."""
        self.open.set()

    def is_closing(self) -> bool:
        """Return False: there is nothing to close, the capture goes on."""
        return False

    def close(self) -> None:
        """Do nothing: the capture goes on."""


async def _feed(
    reader: asyncio.StreamReader,
    gate: _Gate,
    chunks: AsyncIterator[bytes],
) -> None:
    try:
        async for data in chunks:
            await gate.open.wait()
            reader.feed_data(data)
    finally:
        reader.feed_eof()
