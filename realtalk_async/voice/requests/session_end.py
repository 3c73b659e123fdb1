"""Ends a session for a tool or a limit, once the user has heard the last response."""

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


LIMIT_REACHED = 30.0
"""Likewise, when a bound of `SessionLimits` was reached."""


async def end_session(
    session: Session,
    supervisor: SessionSupervisor,
    wait_until_played: Callable[[], Awaitable[None]],
    why: str,
    *,
    limit: float = LIMIT,
) -> None:
    """
    Request the end of the session when nothing is left to be said, or after *limit*.

    Args:
        session: Tells when no response is under way, nor still to come; after a limit
            only those under way count.
        supervisor: Ends the session.
        wait_until_played: Waits until the audio was heard.
        why: What the session is ended by.
        limit: Seconds.
    """
    with contextlib.suppress(ClosedStream, TimeoutError, WaitExpired):
        async with asyncio.timeout(limit):
            await supervisor.wait_for(lambda: _is_over(session) or None)
            await wait_until_played()
    supervisor.request_stop(why)


def _is_over(session: Session) -> bool:
    if session.limit_reached:
        return not list(session.responses)
    return session.is_quiet
