"""
asyncio's `create_subprocess_exec` and `create_subprocess_shell`, with supervision.

The result is asyncio's own `Process`; its streams are read and written as usual. The
reader gets its bytes from the capture: an app that reads slowly, or not at all, loses no
output and does not block the child.
"""

from __future__ import annotations

import abc
import asyncio
import errno
import os
import subprocess
from typing import TYPE_CHECKING, Any, cast

from realtalk_async import arguments
from realtalk_async.exceptions import (
    InvalidConfiguration,
    ProcessDead,
    SpawnFailed,
)
from realtalk_async.supervision.command import Command
from realtalk_async.supervision.kernel.child_process import transport_of
from realtalk_async.supervision.kernel.spawning.mistakes import is_shell_line
from realtalk_async.supervision.manager_block import ManagerBlock
from realtalk_async.supervision.policy.restart import TEMPORARY, RestartPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence

    from realtalk_async.supervision.kernel.child_process import ChildTransport
    from realtalk_async.supervision.kernel.pipes import StreamName
    from realtalk_async.supervision.kernel.spawning.command_checks import Word
    from realtalk_async.supervision.lifecycle.app_callbacks import Process
    from realtalk_async.supervision.policy.restart import Mode
    from realtalk_async.supervision.process import ManagedProcess

FIXED_OPTIONS: dict[str, object] = {
    "universal_newlines": False,
    "shell": False,
    "bufsize": 0,
    "text": None,
    "encoding": None,
    "errors": None,
}
"""Options that asyncio accepts only with these values, because its streams are bytes."""

Argument = str | bytes | os.PathLike[str] | os.PathLike[bytes]

STREAM_NAMES = "stdin", "stdout", "stderr"

Streams = tuple[int | None, int | None, int | None]
"""The caller's arguments stdin, stdout and stderr."""


class SubprocessMethods(ManagerBlock, abc.ABC):
    """asyncio's functions for subprocesses, as methods of `ProcessManager`."""

    @abc.abstractmethod
    async def start(
        self,
        name: str,
        command: Command | Sequence[Word],
        *,
        restart: RestartPolicy | Mode = TEMPORARY,
        critical: bool = False,
    ) -> ManagedProcess:
        """Start a command and supervise it."""

    @abc.abstractmethod
    def run_in_background(self, work: Coroutine[None, None, None]) -> None:
        """Run a coroutine that is cancelled, at the latest, when the manager closes."""

    async def create_subprocess_exec(
        self,
        program: Argument,
        *args: Argument,
        name: str | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        limit: int = 1 << 16,
        restart: RestartPolicy | Mode = TEMPORARY,
        critical: bool = False,
        **options: Any,  # noqa: ANN401 - asyncio's own
    ) -> Process:
        """
        Run `asyncio.create_subprocess_exec`, and supervise the process.

        Args:
            program: As asyncio's.
            *args: As asyncio's.
            name: The name to register; the program's name if omitted, with a number if
                that is taken.
            stdin: As asyncio's.
            stdout: As asyncio's, except that output which would go to the app's own
                stdout is captured. With ``PIPE`` it is captured and can be read as well.
            stderr: As *stdout*; ``STDOUT`` mixes it into stdout.
            limit: As asyncio's.
            restart: The restart policy; by default the process is never restarted.
            critical: Whether the loss of the process shuts the manager down.
            options: As asyncio's.

        Returns:
            asyncio's own `Process`.

        Raises:
            OSError: As asyncio's, if the program cannot be started.
            ProcessStillRunning: If a running process has that name.
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.integer("limit", limit, of="bytes", minimum=1)
        arguments.flag("critical", critical)
        policy = RestartPolicy.of(restart)
        streams = stdin, stdout, stderr
        command = command_for((program, *args), streams, options)
        chosen = self._choose_name(name, command.program_name)
        return await create(
            self, chosen, command, streams, limit, restart=policy, critical=critical
        )

    async def create_subprocess_shell(
        self,
        cmd: str | bytes,
        *,
        name: str | None = None,
        **options: Any,  # noqa: ANN401 - those of create_subprocess_exec
    ) -> Process:
        """
        Run `asyncio.create_subprocess_shell`, and supervise the process.

        Arguments, result and errors are those of `create_subprocess_exec`. The default
        name is the first word of *cmd*.
        """
        arguments.instance("cmd", cmd, (str, bytes), "text or bytes")
        words = os.fsdecode(cmd).split()
        chosen = self._choose_name(name, words[0].rpartition("/")[2] if words else "sh")
        return await self.create_subprocess_exec(
            "/bin/sh", "-c", cmd, name=chosen, **options
        )

    def _choose_name(self, name: str | None, program: str) -> str:
        self._must_be_open()
        if name is None:
            return self._registry.free_name(program)
        self._registry.check_free(name)
        return name


def command_for(
    argv: tuple[Argument, ...], streams: Streams, options: Mapping[str, Any]
) -> Command:
    """
    Return the `Command` that corresponds to asyncio's arguments.

    Raises:
        InvalidConfiguration: If an argument has a value that asyncio refuses as well.
        FileNotFoundError: If the program is a line for a shell, as with asyncio.
    """
    for number, word in enumerate(argv):
        what = f"args[{number - 1}]" if number else "program"
        kinds = str, bytes, os.PathLike
        arguments.instance(what, word, kinds, "text, bytes or a path")
    for name, to in zip(STREAM_NAMES, streams, strict=True):
        is_number = isinstance(to, int)
        if not (to is None or is_number or hasattr(to, "fileno")):
            raise arguments.refused(name, "PIPE, DEVNULL, a file or a descriptor", to)
    rest = dict(options)
    for name, value in FIXED_OPTIONS.items():
        if rest.pop(name, value) not in {value, None}:
            raise InvalidConfiguration(f"{name} must be {value!r}, as in asyncio")
    env, cwd = rest.pop("env", None), rest.pop("cwd", None)
    cwd = os.fsdecode(cwd) if isinstance(cwd, bytes) else cwd
    arguments.mapping("env", env, "a dict of variables", optional=True)
    stdin, stdout, stderr = streams
    captured = {None, subprocess.PIPE}
    outputs = {"stdout": stdout, "stderr": stderr}
    redirect = {name: to for name, to in outputs.items() if to not in captured}
    if stdin != subprocess.PIPE:
        redirect["stdin"] = stdin
    changes: dict[str, str | None] = {}
    if env is not None:  # as in asyncio, env replaces the whole environment
        changes = {**dict.fromkeys(os.environ), **env}
    program = os.fsdecode(argv[0])
    own_path = cast("Mapping[str, object]", env or {}).get("PATH")
    if is_shell_line(program, cwd, own_path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
    return Command(
        *map(os.fsdecode, argv),
        env=changes,
        cwd=cwd,
        stdin=stdin == subprocess.PIPE,
        redirect=redirect,
        options=rest,
    )


async def create(
    manager: SubprocessMethods,
    name: str,
    command: Command,
    streams: Streams,
    limit: int,
    *,
    restart: RestartPolicy,
    critical: bool,
) -> asyncio.subprocess.Process:
    """
    Start a command, and give its `Process` the stream objects that the caller asked for.

    Raises:
        OSError: If the program cannot be started, as with asyncio.
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
    except ProcessDead:  # as with asyncio, the next write reports it
        reading, descriptor = os.pipe()
        os.close(reading)
    pipe = os.fdopen(descriptor, "wb", buffering=0)
    # asyncio has no public protocol only for writing; this one works in both directions.
    writing, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), pipe
    )
    transport.attach(0, writing)
    return asyncio.StreamWriter(writing, protocol, None, loop)


def _reader(
    manager: SubprocessMethods,
    managed: ManagedProcess,
    transport: ChildTransport,
    stream: StreamName,
    limit: int,
) -> asyncio.StreamReader:
    """Return asyncio's own reader, fed from the capture."""
    reader = asyncio.StreamReader(limit)
    flow = _FlowControl()
    reader.set_transport(flow)
    transport.attach(1 if stream == "stdout" else 2, flow)
    manager.run_in_background(_feed(reader, flow, managed.follow_bytes(stream)))
    return reader


class _FlowControl(asyncio.ReadTransport):
    """The flow control between a `StreamReader` and the capture."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = asyncio.Event()
        self.allowed.set()

    def pause_reading(self) -> None:
        """Stop feeding the reader."""
        self.allowed.clear()

    def resume_reading(self) -> None:
        """Feed the reader again."""
        self.allowed.set()

    def is_closing(self) -> bool:
        """Return False: the capture continues after the reader."""
        return False

    def close(self) -> None:
        """Do nothing: the capture continues."""


async def _feed(
    reader: asyncio.StreamReader,
    flow: _FlowControl,
    chunks: AsyncIterator[bytes],
) -> None:
    try:
        async for data in chunks:
            await flow.allowed.wait()
            reader.feed_data(data)
    finally:
        reader.feed_eof()
