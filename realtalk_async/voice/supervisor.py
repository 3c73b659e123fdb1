"""
One run of a session: brings up connection, player and recorder, keeps them, ends them.

They are started in this order, each when the one before it works, and ended in reverse.
In between each is revived alone: a microphone that went down with a lost connection
would miss what the user says meanwhile, and a player what has already come.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from realtalk_async import events
from realtalk_async.concurrency.waiting import first_of, settled, to_the_end
from realtalk_async.exceptions import (
    ClosedStream,
    CriticalProcessFailed,
    InvalidConfiguration,
)
from realtalk_async.supervision import RestartPolicy
from realtalk_async.voice.audio import recorder as recording
from realtalk_async.voice.connection import FATAL
from realtalk_async.voice.events import CONNECTION, SESSION
from realtalk_async.voice.timeline.marks import write_down_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.logs import Logger
    from realtalk_async.supervision import ProcessManager, SupervisedTask
    from realtalk_async.voice.audio.diagnostics import RateWatch
    from realtalk_async.voice.connection import Link
    from realtalk_async.voice.engine import Engine
    from realtalk_async.voice.event_bus import SessionEventBus

State: TypeAlias = Literal["new", "running", "over"]

RECONNECT = RestartPolicy(
    "permanent", max_failures=30, decay=60.0, first_delay=0.1, max_delay=15.0
)
"""
An outage of any length is waited out: at most 15 s between two tries. One that follows a
connection that has worked begins with 0.1 s.
"""


class Microphone(Protocol):
    """What records: a program, or a function of the app."""

    watch: RateWatch

    @property
    def heard(self) -> bool:
        """Whether it has ever delivered something."""
        ...

    async def start(self, manager: ProcessManager, *, critical: bool) -> None:
        """Start it, under the name of the recorder."""
        ...

    async def pump(self, on_first: Callable[[], None]) -> None:
        """Have it heard until it is dead for good."""
        ...

    def failure(self) -> Exception:
        """Return the error that says why it is."""
        ...


class Speaker(Protocol):
    """What plays: a program, or a function of the app."""

    names: tuple[str, ...]

    async def start(self, manager: ProcessManager) -> None:
        """Start it, under these names."""
        ...

    async def play(self) -> None:
        """Play what is due until it is dead for good."""
        ...

    async def finish_file(self) -> None:
        """Make the file valid that it wrote, if it did."""
        ...


class Run:
    """
    All that lives while a session runs, and why it ended.

    Args:
        engine: The session's hands.
        bus: The event bus of the session.
        logger: Where everything is logged.
        manager: Who supervises.
        owns_logger: Whether the logger begins and ends with us.
        owns_manager: Likewise; a manager that is not ours outlives what we lose.
    """

    def __init__(
        self,
        engine: Engine,
        bus: SessionEventBus,
        logger: Logger,
        manager: ProcessManager,
        *,
        owns_logger: bool,
        owns_manager: bool,
    ) -> None:
        self._engine = engine
        self._bus = bus
        self._logger = logger
        self._manager = manager
        self._owns_logger = owns_logger
        self._owns_manager = owns_manager
        self.state: State = "new"
        self.is_closed = False
        """Whether no response will end any more."""
        self.ended_by = ""
        """``stop_streaming``, a signal's name, or what went wrong."""
        self.names: list[str] = []
        """What was started, in this order."""
        self.recorder: Microphone | None = None
        self.player: Speaker | None = None
        self.started_at = datetime.now(UTC).astimezone()
        self._started = self._ended = time.monotonic()
        self._failure: BaseException | None = None
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._over = asyncio.Event()

    # --- What others ask of it ----------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether all three have worked, and its end has not begun."""
        running = self.state == "running" and not self.is_stopping
        return running and self._ready.is_set()

    @property
    def is_stopping(self) -> bool:
        """Whether its end was asked for, or has begun."""
        return self.is_closed or self._stop.is_set()

    @property
    def duration(self) -> float:
        """Seconds from its start to its end, or until now."""
        running = self.state == "running"
        return (time.monotonic() if running else self._ended) - self._started

    def ask_to_stop(self, why: str) -> None:
        """Begin the end; whoever holds the session carries it out."""
        if not self._stop.is_set():
            self.ended_by = why
            self._stop.set()
            self._bus.notify()

    async def wait_until_over(self) -> None:
        """Wait until nothing of it lives any more."""
        await self._over.wait()

    async def join(self) -> None:
        """
        Wait for the end with the one who holds it.

        Raises:
            BaseException: What the session failed with.
        """
        await self._over.wait()
        if self._failure is not None:
            raise self._failure

    def closed(self) -> ClosedStream:
        """Return the error for what comes too late."""
        return ClosedStream(f"the session has ended: {self.ended_by}")

    # --- From the first child to the last -----------------------------------------

    async def hold(
        self,
        link: Link,
        recorder: Microphone | None,
        player: Speaker | None,
        when_ready: Callable[[], None],
    ) -> None:
        """
        Run the session until it is asked to stop, or fails.

        Raises:
            RealtalkError: What it failed with.

        Cancellation: All children are ended first, within 3 s.
        """
        self.recorder, self.player = recorder, player
        self._begin()
        try:
            await self._live(link, when_ready)
        finally:
            self._conclude()

    def _begin(self) -> None:
        self.state = "running"
        self.started_at = datetime.now(UTC).astimezone()
        self._started = self._engine.chronicle.began_at = time.monotonic()
        model = self._engine.session.config.model
        context = {"model": model, "log": str(self._logger.path)}
        self._logger.info(SESSION, "Session started", context)

    async def _live(self, link: Link, when_ready: Callable[[], None]) -> None:
        try:
            async with AsyncExitStack() as stack:
                if self._owns_logger:
                    await stack.enter_async_context(self._logger)
                if self._owns_manager:
                    await stack.enter_async_context(self._manager)
                stack.callback(self._watch(link))
                try:
                    await self._host(link, when_ready)
                except Exception as error:
                    self._note_end(str(error))
                    raise
                finally:
                    await to_the_end(self._wind_up())
        except BaseException as error:
            reason = self._explain(error)
            if not isinstance(reason, asyncio.CancelledError):
                self._failure = reason
            if reason is error:
                raise
            raise reason from error
        if self._failure is not None:
            raise self._failure

    def _watch(self, link: Link) -> Callable[[], None]:
        """End the session when the connection is given up; note what happens to all."""

        def look(event: events.Event) -> None:
            write_down_process(self._engine.chronicle, event, time.monotonic())
            if isinstance(event, events.ProcessGivenUp) and event.process == CONNECTION:
                lost = CriticalProcessFailed(CONNECTION, event.reason)
                self._failure = link.error if isinstance(link.error, FATAL) else lost
                self.ask_to_stop(str(self._failure))
            elif isinstance(event, events.ShutdownStarted):
                self._note_end(str(CriticalProcessFailed(event.process, event.reason)))

        return self._manager.subscribe(look)

    async def _host(self, link: Link, when_ready: Callable[[], None]) -> None:
        """Run the session in a task of its own until it fails or is to stop."""
        session = asyncio.create_task(self._converse(link))
        session.add_done_callback(lambda _: self._bus.notify())

        def ends() -> bool:
            return session.done() or self._stop.is_set()

        try:
            await self._bus.wait_until(lambda: self._ready.is_set() or ends())
            if not ends():
                self._logger.info(SESSION, "Session is ready")
                when_ready()
            await self._bus.wait_until(ends)
        finally:
            session.cancel()
            await to_the_end(settled(session))
        if not session.cancelled():
            session.result()

    # --- The three ----------------------------------------------------------------

    async def _converse(self, link: Link) -> None:
        """Start all three, and keep them going until cancelled."""
        self._claim(CONNECTION)
        connection = await self._manager.start_task(
            CONNECTION,
            link.run,
            restart=RECONNECT,
            critical=self._owns_manager,
            fatal=FATAL,
        )
        link.on_proven = connection.reset
        await first_of(self._bring_up(), self._keep(connection))

    async def _keep(self, connection: SupervisedTask) -> None:
        """Have the session end with its connection, whoever stopped that."""
        status = await connection.wait_until_settled()
        raise self._failure or CriticalProcessFailed(CONNECTION, status.reason)

    async def _bring_up(self) -> None:
        """Start player and recorder once there is a session, and keep them going."""
        await self._bus.wait_until(lambda: self._engine.was_ready)
        if self.player is not None:
            self._claim(*self.player.names)
            await self.player.start(self._manager)
        if self.recorder is not None:
            self._claim(recording.NAME)
            await self.recorder.start(self._manager, critical=self._owns_manager)
        await first_of(self._play(), self._record(), self._record_both_sides())

    def _claim(self, *names: str) -> None:
        """
        Note what we are about to start.

        Raises:
            InvalidConfiguration: If another session has it, in the same manager.
        """
        statuses = self._manager.get_statuses()
        for name in names:
            if name in statuses and statuses[name].status == "running":
                raise InvalidConfiguration(
                    f"this manager has a {name!r} that runs already: give each of two "
                    f"streams at once a manager of its own, or none"
                )
            self.names.append(name)

    async def _play(self) -> None:
        """Play for ever; without a player the conversation goes on in writing."""
        if self.player is not None:
            await self.player.play()
        await asyncio.Event().wait()

    async def _record(self) -> None:
        """Record until the recorder is lost for good, which ends the session."""
        recorder = self.recorder
        if recorder is None:
            self._announce_ready()
            await asyncio.Event().wait()
            return
        await recorder.pump(self._announce_ready)
        raise recorder.failure()

    async def _record_both_sides(self) -> None:
        """Write the tape for ever; without one, or a disk, the session goes on."""
        if self._engine.tape is not None:
            await self._engine.tape.run()
        await asyncio.Event().wait()

    def _announce_ready(self) -> None:
        self._ready.set()
        self._bus.notify()

    # --- The end ------------------------------------------------------------------

    def _note_end(self, why: str) -> None:
        """Note why the session ends, if that is not known yet."""
        self.ended_by = self.ended_by or why

    def _explain(self, error: BaseException) -> BaseException:
        """Return the error that tells the user most of why the session ended."""
        if not isinstance(error, CriticalProcessFailed):
            return error
        recorder = self.recorder
        if error.name == recording.NAME and recorder and not recorder.heard:
            return recorder.failure()
        return self._failure or error

    async def _wind_up(self) -> None:
        """End the three, the latest first, and all waiting for them."""
        self._note_end("its task was cancelled")
        self._engine.end(self.ended_by)
        self.is_closed = True
        self._bus.notify()
        tools = asyncio.create_task(self._engine.toolbox.aclose())
        known = self._manager.get_statuses()
        for name in reversed(self.names):
            if name in known:
                await self._manager.stop(name)
        if self.player is not None:
            await self.player.finish_file()
        if self._engine.tape is not None:
            await self._engine.tape.finish()
        await tools

    def _conclude(self) -> None:
        self.state = "over"
        self._ended = time.monotonic()
        self._note_end(str(self._failure or "its task was cancelled"))
        self._over.set()
        self._bus.close()
        log = self._logger.error if self._failure else self._logger.info
        log(SESSION, "Session ended", {"by": self.ended_by})
