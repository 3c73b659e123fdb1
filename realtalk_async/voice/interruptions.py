"""Asks a function of the app whether speech interrupts a response."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from realtalk_async.concurrency.daemon_thread import call_function
from realtalk_async.voice.events import SESSION, InterruptionPending

if TYPE_CHECKING:
    from realtalk_async.logs import Logger
    from realtalk_async.voice.connection import Connection
    from realtalk_async.voice.events import VoiceEvent
    from realtalk_async.voice.protocol.hearing.barge_in import Decide, InterruptWhen


_THREAD = "realtalk interruption"


class InterruptionDecider:
    """
    Calls the function; one that raises, hangs or returns no truth value has interrupted.

    A function that is not async runs in a thread.

    Args:
        when: Has the function and the time that it may take.
        connection: Is told the decision.
        logger: Gets an entry for each call that failed.
    """

    def __init__(
        self, when: InterruptWhen | None, connection: Connection, logger: Logger
    ) -> None:
        self._when = when
        self._connection = connection
        self._logger = logger
        self._tasks: set[asyncio.Task[None]] = set()

    def on_event(self, event: VoiceEvent) -> None:
        """Begin a call for an `InterruptionPending`."""
        if isinstance(event, InterruptionPending) and self._when is not None:
            decide = self._when.decide
            if decide is not None:
                task = asyncio.create_task(self._ask(decide, event))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _ask(self, decide: Decide, event: InterruptionPending) -> None:
        assert self._when is not None
        interrupts = True
        try:
            async with asyncio.timeout(self._when.timeout):
                interrupts = bool(await call_function(decide, event, _THREAD))
        except TimeoutError:
            self._report(f"no decision within {self._when.timeout:g} s")
        except Exception as error:  # noqa: BLE001 - the app's own mistake ends no session
            self._report(repr(error))
        self._connection.interruption_decided(interrupts=interrupts)

    def _report(self, reason: str) -> None:
        message = "The function that decides about interruptions failed: it interrupts"
        self._logger.warning(SESSION, message, {"reason": reason})

    async def aclose(self) -> None:
        """Cancel all calls."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
