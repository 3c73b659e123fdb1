"""systemd as the one who watches the watcher: READY, STATUS, WATCHDOG, STOPPING."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.ops import health
from realtalk_async.ops.collector import gather_facts
from realtalk_async.ops.sd_notify import Manners, NotifySocket
from realtalk_async.supervision import State

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from realtalk_async.supervision import ProcessManager
    from realtalk_async.voice import Stream

COMPONENT = "systemd"
"""Who speaks in the log."""

PERIOD = 1.0
"""Seconds, at most, between two looks at what is to be told."""

MOST_NAMED = 5
"""Processes that do not run and are named in a status."""


@contextlib.asynccontextmanager
async def notify_systemd(
    manager: ProcessManager, *, stream: Stream | None = None
) -> AsyncGenerator[bool]:
    """
    Tell systemd how the app is, for as long as the block runs; for ``Type=notify``.

    Enter it when everything has been started. ``READY=1`` is sent when all critical
    processes (and the voice session) are ready. ``WATCHDOG=1`` is sent twice in
    ``WatchdogSec``, by the event loop, and only while nothing critical is lost: a loop
    that hangs says nothing, and systemd restarts the app. ``STATUS=`` says in a line what
    runs and what does not. ``STOPPING=1`` is sent when the block ends, or at once when a
    critical process is lost.

    Without ``NOTIFY_SOCKET`` in the environment it does nothing.

    Args:
        manager: Whose processes are told of.
        stream: The voice session, if there is one.

    Yields:
        Whether systemd listens.

    Raises:
        InvalidConfiguration: If the environment asks for what cannot be done.

    Cancellation: Nothing is left behind.
    """
    manners = Manners.of(os.environ, os.getpid())
    if not manners.address:
        yield False
        return
    herald = Herald(manager, stream, manners)
    beating = asyncio.get_running_loop().create_task(
        herald.beat_for_ever(), name="realtalk-async systemd"
    )
    unsubscribe = manager.subscribe(herald.hear)
    try:
        yield True
    finally:
        unsubscribe()
        beating.cancel()
        await asyncio.wait([beating])
        herald.say_goodbye("stopping")
        herald.close()


class Herald:
    """
    Tells systemd what there is to tell.

    Args:
        manager: Whose processes are told of.
        stream: The voice session, if there is one.
        manners: What systemd asks for.
    """

    def __init__(
        self, manager: ProcessManager, stream: Stream | None, manners: Manners
    ) -> None:
        self._manager = manager
        self._stream = stream
        self._watchdog = manners.watchdog
        self._socket = NotifySocket(manners.address)
        self._is_ready = False
        self._is_stopping = False
        self._told = ""
        self._complained = ""

    async def beat_for_ever(self) -> None:
        """Tell of what has changed, and give a sign of life, again and again."""
        # Half the time is what sd_watchdog_enabled(3) advises.
        period = min(PERIOD, (self._watchdog or 2 * PERIOD) / 2)
        while True:
            self.beat()
            await asyncio.sleep(period)

    def beat(self) -> None:
        """Tell what is to be told now."""
        if self._is_stopping:
            return
        facts = gather_facts(self._manager, self._stream)
        alive = health.liveness(facts, 0.0, 1.0)
        words: dict[str, str | int] = {}
        if alive.good and self._watchdog is not None:
            words["WATCHDOG"] = 1
        if not self._is_ready and health.readiness(facts, 0.0, 1.0).good:
            words["READY"] = 1
        status = "; ".join(alive.reasons) or self._describe()
        if status != self._told:
            words["STATUS"] = status
        if words and self._send(words):
            self._told = status
            self._is_ready = self._is_ready or "READY" in words

    def hear(self, event: events.Event) -> None:
        """Say at once that the app is about to end."""
        if isinstance(event, events.ShutdownStarted):
            self.say_goodbye(str(event))

    def say_goodbye(self, why: str) -> None:
        """Say that the app ends. Idempotent."""
        if not self._is_stopping:
            self._is_stopping = True
            self._send({"STOPPING": 1, "STATUS": why})

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def _describe(self) -> str:
        manager = self._manager
        states = {name: one.state for name, one in manager.processes.items()}
        states |= {name: one.state for name, one in manager.tasks.items()}
        return describe(manager.status, states)

    def _send(self, words: Mapping[str, str | int]) -> bool:
        try:
            return self._socket.send(**words)
        except OSError as exc:
            if str(exc) != self._complained:
                self._complained = str(exc)
                self._manager.logger.warning(
                    COMPONENT, "systemd cannot be told", {"error": str(exc)}
                )
            return False


def describe(status: str, states: Mapping[str, State]) -> str:
    """Return in a line how many run, and who does not: ``running: 2 of 3 run; …``."""
    running = sum(state is State.RUNNING for state in states.values())
    others = [n for n, state in states.items() if state is not State.RUNNING]
    line = f"{status}: {running} of {len(states)} run"
    if not others:
        return line
    named = ", ".join(f"{name} ({states[name]})" for name in others[:MOST_NAMED])
    more = len(others) - MOST_NAMED
    return f"{line}; {named}" + (f" and {more} more" if more > 0 else "")
