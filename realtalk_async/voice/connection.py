"""
The task that holds the connection: dial, set up, send and receive until it breaks.

It is supervised like a child: raising is how it fails, and the policy of the one who
supervises decides whether and when it is called again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from realtalk_async.concurrency.waiting import first_of
from realtalk_async.exceptions import (
    AuthenticationRefused,
    ServiceRefused,
    ServiceUnreachable,
    StreamError,
)
from realtalk_async.voice.engine import Recycled
from realtalk_async.voice.protocol import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.voice.endpoint import Target
    from realtalk_async.voice.engine import Engine
    from realtalk_async.voice.websocket import Connection


class NeverReached(ServiceUnreachable):
    """The very first connection failed: more likely a mistake than an outage."""


PROVEN = 5.0
"""Seconds after which a connection that was set up has worked."""

FATAL = (AuthenticationRefused, NeverReached, ServiceRefused)
"""After these it is of no use to dial again."""


class Link:
    """The connection of one session, over all its lives."""

    def __init__(self, target: Target, engine: Engine) -> None:
        # It brings in websockets, a third of all imports: only who dials pays for it.
        from realtalk_async.voice.websocket import dial

        self._dial = dial
        self._target = target
        self._engine = engine
        self.error: StreamError | None = None
        """What ended the last life."""
        self.on_proven: Callable[[], object] = _nothing
        """Called when one that has worked breaks: that is not a further failure."""

    async def run(self) -> None:
        """
        Hold one connection after the other, until one ends that we did not leave.

        Raises:
            ServiceUnreachable: If it broke; dial again.
            NeverReached: If the session was never set up at all.
            AuthenticationRefused, ServiceRefused: If it is of no use to dial again.

        Cancellation: The connection is closed, within a second.
        """
        try:
            while True:
                await self._hold()
        except StreamError as error:
            self.error = error
            if isinstance(error, ServiceUnreachable) and not self._engine.was_ready:
                self.error = NeverReached(str(error))
                raise self.error from error
            raise

    async def _hold(self) -> None:
        """Hold one connection until it breaks, or we leave it."""
        async with self._dial(self._target) as connection:
            self._engine.connected()
            began = time.monotonic()
            try:
                await first_of(self._read(connection), self._write(connection))
            except Recycled:
                return
            except ServiceRefused:
                raise  # the session ends, and with it all that is under way
            except Exception as error:
                lasted = time.monotonic() - began
                if self._engine.session.ready and lasted >= PROVEN:
                    self.on_proven()
                self._engine.lost(str(error))
                raise

    async def _read(self, connection: Connection) -> None:
        while True:
            self._engine.receive(await connection.receive())

    async def _write(self, connection: Connection) -> None:
        engine = self._engine
        while True:
            await engine.to_send.wait()
            engine.to_send.clear()
            while (message := engine.next_message()) is not None:
                await connection.send(messages.encode(message))


def _nothing() -> None:
    return
