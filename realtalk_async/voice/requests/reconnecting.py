"""A connection that the app asks to replace."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from realtalk_async.exceptions import WaitExpired

if TYPE_CHECKING:
    from realtalk_async.voice.connection import Connection
    from realtalk_async.voice.supervisor import SessionSupervisor


async def reconnect(
    connection: Connection, supervisor: SessionSupervisor, timeout: float | None
) -> None:
    """
    Replace the connection, and wait until the session is ready on the new one.

    Raises:
        WaitExpired: If that takes longer than *timeout* seconds.
        ClosedStream: If the session ends before.
    """
    session = connection.session
    before = session.connection.number if session.connection.is_open else -1
    connection.request_reconnect()

    def is_new() -> bool:
        return session.ready and session.connection.number != before

    try:
        async with asyncio.timeout(timeout):
            await supervisor.wait_for(lambda: is_new() or None)
    except TimeoutError:
        raise WaitExpired(f"not connected again within {timeout:g} s") from None
