"""
Supervises one session: starts connection, player and recorder, and stops them.

They start in this order, each when the one before works, and stop in reverse. Each is
restarted alone: a microphone that was restarted with a lost connection would miss what
the user says meanwhile, and a player would drop the audio that it has.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol, Self, TypeAlias, TypeVar

from realtalk_async import events
from realtalk_async.concurrency.waiting import first_of, settled, to_the_end
from realtalk_async.exceptions import (
    ClosedStream,
    CriticalProcessFailed,
    InvalidConfiguration,
)
from realtalk_async.voice.audio import player as playing
from realtalk_async.voice.audio import recorder as recording
from realtalk_async.voice.connection import FATAL, RECONNECT
from realtalk_async.voice.events import CONNECTION, SESSION

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType

    from realtalk_async.logs import Logger
    from realtalk_async.supervision import ProcessManager, SupervisedTask
    from realtalk_async.voice.audio.default_devices import DeviceFollower
    from realtalk_async.voice.audio.diagnostics import RateMonitor
    from realtalk_async.voice.audio.hearing import Hearing
    from realtalk_async.voice.audio.recording import Recording
    from realtalk_async.voice.connection import Connection
    from realtalk_async.voice.dialing.endpoint_list import EndpointList
    from realtalk_async.voice.timeline.recorder import TimelineRecorder
    from realtalk_async.voice.tools import Toolbox

Found = TypeVar("Found")
SessionState: TypeAlias = Literal["new", "running", "over"]


class Microphone(Protocol):
    """A program or a function of the app that records."""

    rate_monitor: RateMonitor

    @property
    def has_delivered(self) -> bool:
        """Whether it has ever delivered audio."""
        ...

    async def start(self, manager: ProcessManager, *, critical: bool) -> None:
        """Start it, under the name of the recorder."""
        ...

    async def deliver(self, on_first_audio: Callable[[], None]) -> None:
        """Pass its audio on until it is given up."""
        ...

    def failure(self) -> Exception:
        """Return the error that says why it was given up."""
        ...


class Speaker(Protocol):
    """A program or a function of the app that plays."""

    names: tuple[str, ...]

    async def start(self, manager: ProcessManager) -> None:
        """Start it, under these names."""
        ...

    async def play(self) -> None:
        """Play the audio that is due until it is given up."""
        ...

    async def finish_file(self) -> None:
        """Make the file valid that it wrote, if it wrote one."""
        ...


class SessionSupervisor:
    """
    Supervises one session, and knows why it ended.

    Args:
        connection: Drives the session.
        timeline: Gets the events of the processes.
        toolbox: Its calls are cancelled at the end.
        hearing: Listens to the sound; tells about recorder and player.
        logger: The log.
        manager: The manager that supervises connection, player and recorder.
        owns_logger: Whether the logger starts and ends with the session.
        owns_manager: Whether the manager does; another one continues when the session
            fails.
    """

    def __init__(
        self,
        connection: Connection,
        timeline: TimelineRecorder,
        toolbox: Toolbox,
        hearing: Hearing,
        logger: Logger,
        manager: ProcessManager,
        *,
        owns_logger: bool,
        owns_manager: bool,
    ) -> None:
        self._connection = connection
        self._bus = connection.bus
        self.timeline = timeline
        """What happened when."""
        self._toolbox = toolbox
        self.hearing = hearing
        """The levels of the sound, and the problems of the microphone."""
        self._logger = logger
        self._manager = manager
        self._owns_logger = owns_logger
        self._owns_manager = owns_manager
        self.state: SessionState = "new"
        self.is_closed = False
        """Whether no response can end any more."""
        self.ended_by = ""
        """``stop_streaming``, the name of a signal, or the error."""
        self.names: list[str] = []
        """The names of connection, player and recorder, in the order of their start."""
        self.recorder: Microphone | None = None
        self.player: Speaker | None = None
        self.follower: DeviceFollower | None = None
        """Lets recorder and player follow the default devices."""
        self.recording: Recording | None = None
        """The recording of both sides, if there is one."""
        self.started_at = datetime.now(UTC).astimezone()
        self._started = self._ended = time.monotonic()
        self._failure: BaseException | None = None
        self._start_error = ""
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """Whether connection, player and recorder work, and the end has not begun."""
        running = self.state == "running" and not self.is_stopping
        return running and self._ready.is_set()

    @property
    def is_stopping(self) -> bool:
        """Whether the end was requested or has begun."""
        return self.is_closed or self._stop.is_set()

    @property
    def duration(self) -> float:
        """Seconds from the start to the end, or until now."""
        running = self.state == "running"
        return (time.monotonic() if running else self._ended) - self._started

    def request_stop(self, why: str) -> None:
        """Have `run` end the session."""
        if not self._stop.is_set():
            self.ended_by = why
            self._stop.set()
            self._bus.notify()

    async def wait_until_over(self) -> None:
        """Wait until all processes of the session have ended."""
        await self._over.wait()

    async def join(self) -> None:
        """
        Wait for the end of a session that another task runs.

        Raises:
            BaseException: The error that ended the session.
        """
        await self._over.wait()
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def telling_failed_start(self) -> Generator[None, None, None]:
        """Tell all tasks that wait for the session if the block fails to start it."""
        self._start_error = ""
        try:
            yield
        except Exception as error:
            self._start_error = str(error)
            self._bus.notify()
            raise

    async def wait_for(self, find: Callable[[], Found | None]) -> Found:
        """
        Wait until *find* returns something; it is called after each change.

        Raises:
            ClosedStream: If the session has ended, ends before, or cannot start.
        """
        while (found := find()) is None:
            if self.is_closed:
                raise self.closed()
            if self._start_error:
                raise ClosedStream(f"the session did not start: {self._start_error}")
            await self._bus.wait_for_change()
        return found

    def closed(self) -> ClosedStream:
        """Return the error for a call after the end."""
        return ClosedStream(f"the session has ended: {self.ended_by}")

    # --- From start to end --------------------------------------------------------

    async def run(
        self,
        endpoints: EndpointList,
        recorder: Microphone | None,
        player: Speaker | None,
        when_ready: Callable[[], None],
    ) -> None:
        """
        Run the session until it is asked to stop, or fails.

        Raises:
            RealtalkError: Why it failed.

        Cancellation: All processes are ended first, within 3 s.
        """
        self.recorder, self.player = recorder, player
        self._note_start()
        try:
            await self._run_in_manager(endpoints, when_ready)
        except BaseException as error:
            reason = self._explain(error)
            if not isinstance(reason, asyncio.CancelledError):
                self._failure = reason
            if reason is error:
                raise
            raise reason from error
        finally:
            self._finish()
        if self._failure is not None:
            raise self._failure

    def _note_start(self) -> None:
        self.state = "running"
        self.started_at = datetime.now(UTC).astimezone()
        self._started = self.timeline.began_at = time.monotonic()
        model = self._connection.session.config.model
        context = {"model": model, "log": str(self._logger.path)}
        self._logger.info(SESSION, "Session started", context)

    async def _run_in_manager(
        self, endpoints: EndpointList, when_ready: Callable[[], None]
    ) -> None:
        async with AsyncExitStack() as stack:
            if self._owns_logger:
                await stack.enter_async_context(self._logger)
            if self._owns_manager:
                await stack.enter_async_context(self._manager)
            stack.callback(self._manager.subscribe(self._on_process_event))
            try:
                await self._run_until_stopped(endpoints, when_ready)
            except Exception as error:
                self._note_end(str(error))
                raise
            finally:
                await to_the_end(self._stop_all())

    def _on_process_event(self, event: events.Event) -> None:
        """End the session when the connection is given up or the manager shuts down."""
        self.timeline.on_process_event(event)
        if isinstance(event, events.ProcessGivenUp) and event.process == CONNECTION:
            error = self._connection.error
            given_up = self._critical_loss(CONNECTION, event.reason)
            self._failure = error if isinstance(error, FATAL) else given_up
            self.request_stop(str(self._failure))
        elif isinstance(event, events.ShutdownStarted):
            self._note_end(str(self._critical_loss(event.process, event.reason)))

    def _critical_loss(self, name: str, reason: str) -> CriticalProcessFailed:
        return CriticalProcessFailed(name, reason, log=str(self._logger.path))

    async def _run_until_stopped(
        self, endpoints: EndpointList, when_ready: Callable[[], None]
    ) -> None:
        """Run the three in a task of its own until it fails or a stop is requested."""
        task = asyncio.create_task(self._run_all(endpoints))
        task.add_done_callback(lambda _: self._bus.notify())

        def ends() -> bool:
            return task.done() or self._stop.is_set()

        try:
            await self._bus.wait_until(lambda: self._ready.is_set() or ends())
            if not ends():
                self._logger.info(SESSION, "Session is ready")
                when_ready()
            await self._bus.wait_until(ends)
        finally:
            task.cancel()
            await to_the_end(settled(task))
        if not task.cancelled():
            task.result()

    # --- Connection, player, recorder ---------------------------------------------

    async def _run_all(self, endpoints: EndpointList) -> None:
        self._claim(CONNECTION)
        connection = await self._manager.start_task(
            CONNECTION,
            partial(self._connection.run, endpoints),
            restart=RECONNECT,
            critical=self._owns_manager,
            fatal=FATAL,
        )
        self._connection.on_proven = connection.reset
        await first_of(self._run_audio(), self._fail_with(connection))

    async def _fail_with(self, connection: SupervisedTask) -> None:
        """End the session when its connection ends."""
        status = await connection.wait_until_settled()
        raise self._failure or self._critical_loss(CONNECTION, status.reason)

    async def _run_audio(self) -> None:
        """Start player and recorder once the session is configured; run them."""
        state = self._connection.session.connection
        await self._bus.wait_until(lambda: state.was_ready)
        if self.player is not None:
            self._claim(*self.player.names)
            self._manager.set_details(playing.NAME, self.hearing.speaker_details)
            await self.player.start(self._manager)
        if self.recorder is not None:
            self._claim(recording.NAME)
            self._manager.set_details(recording.NAME, self.hearing.microphone_details)
            await self.recorder.start(self._manager, critical=self._owns_manager)
        await first_of(
            self._play(),
            self._record(),
            self._record_both_sides(),
            self._follow_devices(),
        )

    def _claim(self, *names: str) -> None:
        """
        Note the names of processes that are started next.

        Raises:
            InvalidConfiguration: If another session of the manager uses a name.
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
        """Play until cancelled; without a player the conversation continues as text."""
        if self.player is not None:
            await self.player.play()
        await asyncio.Event().wait()

    async def _record(self) -> None:
        """Record until the recorder is given up, which ends the session."""
        recorder = self.recorder
        if recorder is None:
            self._announce_ready()
            await asyncio.Event().wait()
            return
        await recorder.deliver(self._announce_ready)
        raise recorder.failure()

    async def _record_both_sides(self) -> None:
        """Write the recording until cancelled; it may fail without ending the session."""
        if self.recording is not None:
            await self.recording.run()
        await asyncio.Event().wait()

    async def _follow_devices(self) -> None:
        if self.follower is not None:
            await self.follower.run()
        await asyncio.Event().wait()

    def _announce_ready(self) -> None:
        self._ready.set()
        self._bus.notify()

    # --- The end ------------------------------------------------------------------

    def _note_end(self, why: str) -> None:
        """Note why the session ends; the first reason counts."""
        self.ended_by = self.ended_by or why

    def _explain(self, error: BaseException) -> BaseException:
        """Return the error that tells the user most about the end of the session."""
        if not isinstance(error, CriticalProcessFailed):
            return error
        recorder = self.recorder
        if error.name == recording.NAME and recorder and not recorder.has_delivered:
            return recorder.failure()
        return self._failure or error

    async def _stop_all(self) -> None:
        """Stop recorder, player and connection, in this order, and all waiting calls."""
        self._note_end("its task was cancelled")
        self._connection.end(self.ended_by)
        self.is_closed = True
        self._bus.notify()
        tools = asyncio.create_task(self._toolbox.aclose())
        known = self._manager.get_statuses()
        for name in reversed(self.names):
            if name in known:
                await self._manager.stop(name)
        if self.player is not None:
            await self.player.finish_file()
        if self.recording is not None:
            await self.recording.finish()
        await tools

    def _finish(self) -> None:
        self.state = "over"
        self._ended = time.monotonic()
        self._note_end(str(self._failure or "its task was cancelled"))
        self._over.set()
        self._bus.close()
        log = self._logger.error if self._failure else self._logger.info
        log(SESSION, "Session ended", {"by": self.ended_by})


# --- Ctrl-C and SIGTERM -----------------------------------------------------------

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """
    While the block runs, the first SIGINT or SIGTERM calls *callback* with its name.

    The second signal has its usual effect, in case the end hangs. Nothing is changed
    outside the main thread, nor where the app has a handler of its own; the block
    restores the former handlers.
    """

    def __init__(self, callback: Callable[[str], None], *, enabled: bool) -> None:
        self._callback = callback
        self._enabled = enabled
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        """Install the handlers."""
        in_main = threading.current_thread() is threading.main_thread()
        if self._enabled and in_main:
            loop = asyncio.get_running_loop()
            for number in _SIGNALS:
                before = signal.getsignal(number)
                if _is_default(before):
                    loop.add_signal_handler(number, self._caught, number)
                    self._before[number] = before
        return self

    def _caught(self, number: signal.Signals) -> None:
        self._restore()
        self._callback(number.name)

    def _restore(self) -> None:
        loop = asyncio.get_running_loop()
        for number, before in self._before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, before)  # type: ignore[arg-type]  # what getsignal gave
        self._before.clear()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Restore the former handlers."""
        self._restore()


def _is_default(handler: object) -> bool:
    """Return whether *handler* is Python's own or that of `asyncio.run`."""
    if handler in (signal.SIG_DFL, signal.default_int_handler):
        return True
    runner = getattr(getattr(handler, "func", None), "__self__", None)
    return isinstance(runner, asyncio.Runner)
