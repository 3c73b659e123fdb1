"""
A window into a running app: who runs, what they say, why they died; restart, stop.

::

    async with ProcessManager(logger) as manager, control(manager):
        ...  # realtalk-async ps, tail, logs, explain, history, restart, stop

It is a Unix socket that only the user of the app (and root) may use: the file has mode
0600, in a folder with mode 0700, and the kernel is asked who is at the other end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import socket
import struct
import sys
from typing import TYPE_CHECKING

from realtalk_async.concurrency.time_slice import TimeSlice
from realtalk_async.control import protocol
from realtalk_async.control.handlers import Answers
from realtalk_async.control.sockets import ControlUnavailable, address, new_door
from realtalk_async.exceptions import RealtalkError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from realtalk_async.supervision import ProcessManager

MOST_VISITORS = 64
"""Connections at a time; a further one is told so and sent away."""
PATIENCE = 10.0
"""Seconds in which a visitor must have asked."""

_CREDENTIALS = struct.Struct("3i")
"""As the kernel tells them: pid, uid, gid."""


@contextlib.asynccontextmanager
async def control(
    manager: ProcessManager, path: Path | None = None
) -> AsyncGenerator[Path]:
    """
    Open a window into the app for as long as the block runs.

    Args:
        manager: Whose processes are seen.
        path: Where the socket is; without one, a path where ``realtalk-async ps`` and
            its like find it by themselves.

    Yields:
        The socket's path.

    Raises:
        ControlUnavailable: If the socket cannot be made.

    Cancellation: The socket is closed and removed, and whoever is connected is sent
    away.
    """
    door = new_door() if path is None else path
    listening = _listen(door)
    window = Window(manager)
    try:
        server = await asyncio.start_unix_server(
            window.enter, sock=listening, limit=protocol.MOST_ASKED
        )
    except BaseException:
        listening.close()
        door.unlink(missing_ok=True)
        raise
    try:
        yield door
    finally:
        server.close()
        door.unlink(missing_ok=True)
        await window.aclose()


def _listen(path: Path) -> socket.socket:
    """Return the socket, listening; nobody can connect before its mode is 0600."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address(path) as where:
            one.bind(where)
        os.chmod(path, 0o600)
        one.listen(MOST_VISITORS)
        one.setblocking(False)  # noqa: FBT003 - the socket's own
    except OSError as exc:
        one.close()
        raise ControlUnavailable(
            f"cannot open the control socket {path}: {exc}"
        ) from exc
    return one


class Window:
    """
    Answers those who come, each in a task of its own.

    Args:
        manager: Whose processes they ask about.
    """

    def __init__(self, manager: ProcessManager) -> None:
        self._answers = Answers(manager, _about_us())
        self._visits: set[asyncio.Task[None]] = set()

    def enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take in a visitor."""
        visit = asyncio.get_running_loop().create_task(self._visit(reader, writer))
        self._visits.add(visit)
        visit.add_done_callback(self._visits.discard)

    async def aclose(self) -> None:
        """Send all visitors away. Idempotent."""
        visits = list(self._visits)
        for visit in visits:
            visit.cancel()
        if visits:
            await asyncio.wait(visits)

    async def _visit(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer one question; a visitor who goes, or talks nonsense, harms nobody."""
        with contextlib.suppress(OSError):
            try:
                await self._attend(reader, writer)
                await writer.drain()
            finally:
                writer.close()
                await writer.wait_closed()

    def _refuses(self, writer: asyncio.StreamWriter) -> str:
        """Return why a visitor is not let in; "" if he is."""
        if not may_enter(_uid_of(writer), os.getuid()):
            return "only the user of the app may look in"
        if len(self._visits) > MOST_VISITORS:
            return f"{MOST_VISITORS} others look in already: try again later"
        return ""

    async def _attend(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Hear the question, and answer until all is said or the visitor has gone."""
        refused = self._refuses(writer)
        try:
            async with asyncio.timeout(PATIENCE):
                # Heard in any case: who is cut off while speaking hears no reason.
                line = await reader.readuntil(b"\n")
            question = None if refused else protocol.Question.decode(line)
        except (TimeoutError, asyncio.IncompleteReadError):
            return
        except (asyncio.LimitOverrunError, RealtalkError) as exc:
            question, refused = None, str(exc)
        if question is None:
            writer.write(protocol.error(refused))
        else:
            await self._answer_while_there(question, reader, writer)

    async def _answer_while_there(
        self,
        question: protocol.Question,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        answer = asyncio.create_task(self._answer(question, writer))
        gone = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (answer, gone):
                one.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)

    async def _answer(
        self, question: protocol.Question, writer: asyncio.StreamWriter
    ) -> None:
        try:
            async with contextlib.aclosing(self._answers.to(question)) as parts:
                time_slice = TimeSlice()
                async for part in parts:
                    writer.write(protocol.item(part))
                    await writer.drain()
                    await time_slice.yield_if_over()
            writer.write(protocol.END)
        except (RealtalkError, OSError) as exc:
            writer.write(protocol.error(str(exc)))


def may_enter(uid: int, ours: int) -> bool:
    """Return whether a user may look in: the app's own, and root, who may do anything."""
    return uid in {ours, 0}


def _uid_of(writer: asyncio.StreamWriter) -> int:
    """Ask the kernel who is at the other end."""
    one: socket.socket = writer.get_extra_info("socket")
    told = one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(told)[1])


def _about_us() -> protocol.JsonObject:
    """Return what tells this app from others."""
    program, *rest = sys.argv or [""]
    if program in {"", "-c"}:
        program = sys.executable
    words = [os.path.basename(program), *rest]
    return {"pid": os.getpid(), "command": shlex.join(words), "cwd": os.getcwd()}
