"""The live view's end of the control socket. An edge, in the view's own event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from realtalk_async.control import protocol
from realtalk_async.control.sockets import ControlUnavailable, address

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path


class Link:
    """
    Asks one app.

    Args:
        path: Its socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def ask(self, question: protocol.Question) -> AsyncGenerator[object]:
        """
        Yield the parts of the app's answer.

        Raises:
            ControlUnavailable: If the app is not there, or says no.

        Cancellation: The connection is closed; the app stops answering.
        """
        try:
            with address(self._path) as where:
                reader, writer = await asyncio.open_unix_connection(
                    where, limit=protocol.MOST_TOLD
                )
        except OSError as exc:
            raise ControlUnavailable(f"the app has gone: {exc}") from exc
        try:
            writer.write(question.encode())
            while isinstance(told := await _next(reader), protocol.Item):
                yield told.value
        finally:
            writer.close()
        if isinstance(told, protocol.Failed):
            raise ControlUnavailable(told.why)


async def _next(
    reader: asyncio.StreamReader,
) -> protocol.Item | protocol.Failed | protocol.Ended:
    try:
        return protocol.understand(await reader.readuntil(b"\n"))
    except (asyncio.IncompleteReadError, OSError):
        return protocol.Failed("the app has gone")
