"""Ends a session for a tool, once the user has heard the last response."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from realtalk_async.exceptions import ClosedStream, WaitExpired

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from realtalk_async.voice.protocol.session import Session
    from realtalk_async.voice.supervisor import SessionSupervisor

LIMIT = 60.0
"""Seconds after which the session ends although the last response was not heard."""


async def end_session(
    session: Session,
    supervisor: SessionSupervisor,
    wait_until_played: Callable[[], Awaitable[None]],
    why: str,
) -> None:
    """
    Request the end of the session when nothing is left to be said, or after `LIMIT`.

    Args:
        session: Tells when no response is under way, nor still to come.
        supervisor: Ends the session.
        wait_until_played: Waits until the audio was heard.
        why: What the session is ended by.
    """
    with contextlib.suppress(ClosedStream, TimeoutError, WaitExpired):
        async with asyncio.timeout(LIMIT):
            await supervisor.wait_for(lambda: session.is_quiet or None)
            await wait_until_played()
    supervisor.request_stop(why)
