"""
Serve the control socket of a `ProcessManager`.

Only the user of the app and root can connect: the socket has mode 0600, its folder mode
0700, and the kernel names the user at the other end of each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from realtalk_async import arguments
from realtalk_async.concurrency.time_slice import TimeSlice
from realtalk_async.control import protocol
from realtalk_async.control.handlers import RequestHandlers
from realtalk_async.control.sockets import (
    ControlUnavailable,
    address_of,
    new_socket_path,
)
from realtalk_async.events.base import acting_as, user
from realtalk_async.exceptions import InvalidConfiguration, RealtalkError
from realtalk_async.operating_system import SYSTEM

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from realtalk_async.control.handlers import ReloadFunction
    from realtalk_async.supervision import ProcessManager

MAX_CLIENTS = 64
"""Connections at a time; a further client gets an error."""
REQUEST_TIMEOUT = 10.0
"""Seconds within which a client must send its request."""

_CREDENTIALS = struct.Struct("3i")
"""The kernel's ``struct ucred``: pid, uid, gid."""


@contextlib.asynccontextmanager
async def serve_control(
    manager: ProcessManager,
    path: str | os.PathLike[str] | None = None,
    *,
    on_reload: ReloadFunction | None = None,
) -> AsyncGenerator[Path]:
    """
    Serve the control socket of a manager inside the block.

    Args:
        manager: Its processes can be seen, restarted and stopped.
        path: The path of the socket; without it a path that `find_apps` and
            ``realtalk-async ps`` find.
        on_reload: Called, and awaited, for ``realtalk-async reload``: an async function
            that reads the configuration of the app again, applies it, as by
            `ProcessManager.apply`, and returns what has happened to each process, as
            `Difference.lines` does. `InvalidConfiguration` is told to who asked.

    Yields:
        The path of the socket.

    Raises:
        ControlUnavailable: If the socket cannot be created.
        InvalidConfiguration: If an argument is invalid.

    Cancellation: The socket is removed, and all connections are closed.
    """
    arguments.a_manager("manager", manager)
    arguments.path("path", path, optional=True)
    arguments.function("on_reload", on_reload, optional=True)
    path = new_socket_path() if path is None else Path(path)
    listener = _listen(path)
    connections = Connections(manager, on_reload)
    try:
        server = await asyncio.start_unix_server(
            connections.accept, sock=listener, limit=protocol.MAX_REQUEST
        )
    except BaseException:
        listener.close()
        path.unlink(missing_ok=True)
        raise
    try:
        yield path
    finally:
        server.close()
        path.unlink(missing_ok=True)
        await connections.aclose()


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address_of(path) as address:
            listener.bind(address)
        # Before `listen`: until then no client can connect.
        os.chmod(path, 0o600)
        listener.listen(MAX_CLIENTS)
        listener.setblocking(False)  # noqa: FBT003 - the socket's own
    except OSError as exc:
        listener.close()
        raise ControlUnavailable(
            f"cannot create the control socket {path}: {exc}"
        ) from exc
    return listener


class Connections:
    """
    The connections of all clients, each with a task of its own.

    Args:
        manager: The manager that the requests are about.
        on_reload: See `serve_control`.
    """

    def __init__(
        self, manager: ProcessManager, on_reload: ReloadFunction | None = None
    ) -> None:
        self._handlers = RequestHandlers(manager, _describe_app(), on_reload)
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve a new connection."""
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):  # the client may be gone at any moment
            try:
                request = await self._receive(reader, writer)
                if request is not None:
                    await self._respond_while_connected(request, reader, writer)
                await writer.drain()
            finally:
                writer.close()
                await writer.wait_closed()

    async def _receive(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> protocol.Request | None:
        """Return the request; None, with an error written, if there is no valid one."""
        refusal = self._refusal(writer)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                # Also from a refused client: it would get no error while it still sends.
                line = await reader.readuntil(b"\n")
            if not refusal:
                return protocol.Request.decode(line)
        except (TimeoutError, asyncio.IncompleteReadError):
            return None
        except (asyncio.LimitOverrunError, RealtalkError) as exc:
            refusal = refusal or str(exc)
        writer.write(protocol.encode_failure(refusal))
        return None

    def _refusal(self, writer: asyncio.StreamWriter) -> str:
        """Return why a client is refused; "" if it is accepted."""
        if not may_connect(_uid_of_client(writer), os.getuid()):
            return "only the user of the app and root may connect"
        if len(self._tasks) > MAX_CLIENTS:
            return f"{MAX_CLIENTS} clients are connected already: try again later"
        return ""

    async def _respond_while_connected(
        self,
        request: protocol.Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        response = asyncio.create_task(self._respond(request, writer))
        # A client sends nothing after its request: this read ends with the connection.
        disconnect = asyncio.create_task(reader.read(1))
        tasks = response, disconnect
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _respond(
        self, request: protocol.Request, writer: asyncio.StreamWriter
    ) -> None:
        try:
            # The events that the request leads to name the user.
            with acting_as(user(_uid_of_client(writer))):
                await self._send_items(request, writer)
            writer.write(protocol.END)
        except (RealtalkError, OSError) as exc:
            is_invalid = isinstance(exc, InvalidConfiguration)
            failure = protocol.encode_failure(str(exc), is_invalid=is_invalid)
            writer.write(failure)

    async def _send_items(
        self, request: protocol.Request, writer: asyncio.StreamWriter
    ) -> None:
        async with contextlib.aclosing(self._handlers.handle(request)) as items:
            time_slice = TimeSlice()
            async for item in items:
                writer.write(protocol.encode_item(item))
                await writer.drain()
                await time_slice.yield_if_over()


def may_connect(uid: int, own_uid: int) -> bool:
    """Return whether a user may connect: the app's own user, and root."""
    return uid in {own_uid, 0}


def _uid_of_client(writer: asyncio.StreamWriter) -> int:
    connection: socket.socket = writer.get_extra_info("socket")
    # A system that does not tell has checked the mode of the folder: only this user enters.
    uid = SYSTEM.peer(connection).uid
    return os.getuid() if uid is None else uid


def _describe_app() -> protocol.JsonObject:
    program, *rest = sys.argv or [""]
    if program in {"", "-c"}:
        program = sys.executable
    words = [os.path.basename(program), *rest]
    return {"pid": os.getpid(), "command": shlex.join(words), "cwd": os.getcwd()}
