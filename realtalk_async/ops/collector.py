"""
Collects the metrics and the health of one app, for readers in any thread.

Subscribers count events in the app's event loop. A reader asks the loop for everything
else; the loop answers in slices of 2 ms, and the reader waits no longer than the loop may
be late. If the loop hangs, the reader gets the newest values from before.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

from realtalk_async import arguments
from realtalk_async.concurrency.time_slice import TimeSlice
from realtalk_async.ops import health
from realtalk_async.ops import metrics as catalogue
from realtalk_async.ops.registry import Histograms, MetricRegistry, Samples
from realtalk_async.supervision import ManagedProcess, State

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from realtalk_async.supervision import ProcessManager, SupervisedTask
    from realtalk_async.supervision.kernel.pipes import StreamName
    from realtalk_async.voice import Stream

MAX_SLICE = 0.002
"""Seconds that one slice of a snapshot may take: a tenth of an audio frame."""

MAX_COUNTED = 32 * 1024 * 1024
"""Bytes of output in which one snapshot counts lines, at most: 10 ms in all."""

COUNTED_AT_ONCE = 1024 * 1024
"""Bytes of one output stream in which lines are counted without a break: 0.3 ms."""

STREAMS: tuple[StreamName, ...] = ("stdout", "stderr")

MAX_AGE = 0.2
"""Seconds for which a snapshot is returned again instead of a new one."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All metrics of an app at one moment."""

    samples: Samples = field(default_factory=Samples)
    histograms: Histograms = field(default_factory=Histograms)
    taken_at: float = float("-inf")
    """Monotonic seconds."""


class Collector:
    """
    Collects from one app while its block runs: ``async with Collector(manager) as c:``.

    Args:
        manager: The manager of the processes to collect from.
        stream: The voice session, if there is one.
        max_lag: Seconds that the loop may be late before it counts as hanging.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """

    def __init__(
        self,
        manager: ProcessManager,
        stream: Stream | None = None,
        *,
        max_lag: float = 1.0,
    ) -> None:
        arguments.a_manager("manager", manager)
        arguments.a_stream("stream", stream, optional=True)
        arguments.number("max_lag", max_lag, of="seconds", more_than=0)
        self._manager = manager
        self._stream = stream
        self.max_lag = max_lag
        self.registry = MetricRegistry()
        self._lag = health.LoopLagMonitor(
            lambda late: self.registry.observe(catalogue.LAG, late)
        )
        self._voice = None
        if stream is not None:
            # Imported here: an app without a voice session does not load that package.
            from realtalk_async.ops.voice_metrics import VoiceMetricsListener

            self._voice = VoiceMetricsListener(self.registry)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._snapshot = Snapshot()
        self._app: health.AppStatus | None = None
        self._request_lock = threading.Lock()
        self._collecting: asyncio.Task[None] | None = None
        self._round = 0
        self._unsubscribes: list[Callable[[], None]] = []

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._unsubscribes.append(self._manager.subscribe(self.registry.on_event))
        if self._stream is not None and self._voice is not None:
            self._unsubscribes.append(self._stream.subscribe(self._voice.on_event))
        self._lag.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop collecting. The last snapshot and status can still be read."""
        self._lag.stop()
        try:
            self._read_status()
            await self._collect()
        finally:
            self._loop = None
            for unsubscribe in self._unsubscribes:
                unsubscribe()
            if self._collecting is not None:
                self._collecting.cancel()
        if self._collecting is not None:
            await asyncio.wait([self._collecting])

    # ---- from any thread; in the loop's own thread these return without waiting

    @property
    def closed(self) -> bool:
        """Whether the block has ended, so that no value changes any more."""
        return self._loop is None

    @property
    def overdue(self) -> float:
        """Seconds by which the loop is late now."""
        return self._lag.overdue

    def check(self, kind: Literal["liveness", "readiness"]) -> health.HealthReport:
        """
        Check liveness or readiness; blocks for *max_lag* at most.

        Raises:
            InvalidConfiguration: If *kind* is neither.
        """
        arguments.choice("kind", kind, ("liveness", "readiness"))
        check = health.check_liveness if kind == "liveness" else health.check_readiness
        if threading.get_ident() == self._loop_thread:
            return check(self._read_status(), self.overdue, self.max_lag)
        answered = self._ask_loop(self._read_status)
        overdue = self.overdue
        if not answered and self._loop is not None:
            overdue = max(overdue, self.max_lag)  # the time that this reader has waited
        return check(self._app, overdue, self.max_lag)

    def snapshot(self) -> Snapshot:
        """Return all metrics, at most 0.2 s old unless the loop hangs."""
        if threading.get_ident() != self._loop_thread:
            with self._request_lock:  # concurrent readers share one snapshot
                if time.monotonic() - self._snapshot.taken_at > MAX_AGE:
                    self._ask_loop(self._begin_collecting)
        newest = self._snapshot
        return Snapshot(
            samples={**newest.samples, catalogue.OVERDUE: {(): self.overdue}},
            histograms=newest.histograms,
            taken_at=newest.taken_at,
        )

    def _ask_loop(self, work: Callable[[Future[None]], object]) -> bool:
        """Run *work* in the loop; return whether it was done within *max_lag*."""
        loop = self._loop
        if loop is None or self.overdue >= self.max_lag:
            return False
        done: Future[None] = Future()
        try:
            loop.call_soon_threadsafe(work, done)
        except RuntimeError:  # the loop has just been closed
            return False
        return bool(wait([done], timeout=self.max_lag).done)

    # ---- in the loop

    def _read_status(self, done: Future[None] | None = None) -> health.AppStatus:
        self._app = health.read_app_status(self._manager, self._stream)
        if done is not None:
            done.set_result(None)
        return self._app

    def _begin_collecting(self, done: Future[None]) -> None:
        """Take a new snapshot, or join the one that is being taken."""
        if self._loop is None:
            return  # closed meanwhile
        if self._collecting is None or self._collecting.done():
            self._collecting = self._loop.create_task(
                self._collect(), name="realtalk-async metrics snapshot"
            )
        self._collecting.add_done_callback(lambda _: done.set_result(None))

    async def _collect(self) -> None:
        samples: Samples = {}
        voice: Samples = {}
        if self._stream is not None and self._voice is not None:
            voice = self._voice.update(self._stream.metrics())
        time_slice = TimeSlice(MAX_SLICE)
        await self._count_lines(time_slice)
        await self._add_processes(samples, time_slice)
        self._add_log(samples)
        samples[catalogue.DEGRADED] = {(): len(self._manager.degraded)}
        registry = self.registry
        counted = {metric: dict(one) for metric, one in registry.samples.items()}
        self._snapshot = Snapshot(
            samples={**counted, **samples, **voice},
            histograms={m: dict(one) for m, one in registry.histograms.items()},
            taken_at=time.monotonic(),
        )

    def _add_log(self, samples: Samples) -> None:
        log = self._manager.logger.statistics()
        samples[catalogue.LOG_LINES] = {(str(one),): n for one, n in log.logged.items()}
        samples[catalogue.LOG_DROPPED] = {(): log.dropped}
        samples[catalogue.LOG_WAITING] = {(): log.waiting}

    async def _count_lines(self, time_slice: TimeSlice) -> None:
        """Count new lines, up to `MAX_COUNTED` bytes, starting with another process."""
        processes = list(self._manager.processes.values())
        first = self._round % max(1, len(processes))
        self._round += 1
        left = MAX_COUNTED
        for process in (*processes[first:], *processes[:first]):
            for stream in STREAMS:
                counted = COUNTED_AT_ONCE
                while counted >= COUNTED_AT_ONCE and left > 0:
                    most = min(COUNTED_AT_ONCE, left)
                    counted = process.get_volume(stream, most=most).scanned
                    left -= counted
                    await time_slice.yield_if_over()

    async def _add_processes(self, samples: Samples, time_slice: TimeSlice) -> None:
        """Add the state and the output volume of each process and task."""
        supervised: dict[str, ManagedProcess | SupervisedTask]
        supervised = {**self._manager.processes, **self._manager.tasks}
        for name, one in supervised.items():
            label = self.registry.names.label(name)
            self.registry.add(catalogue.RESTARTS, (label,), 0)  # a series begins at 0
            _add_state(samples, label, one)
            if isinstance(one, ManagedProcess):
                _add_volume(samples, label, one)
            await time_slice.yield_if_over()


def _add_state(
    samples: Samples, name: str, one: ManagedProcess | SupervisedTask
) -> None:
    series = samples.setdefault(catalogue.STATE, {})
    for state in State:
        labels = name, str(state)
        series[labels] = series.get(labels, 0) + (one.state is state)


def _add_volume(samples: Samples, name: str, process: ManagedProcess) -> None:
    for stream in STREAMS:
        volume = process.get_volume(stream, most=0)
        for metric, count in (
            (catalogue.OUTPUT, volume.size),
            (catalogue.LINES, volume.lines),
            (catalogue.DROPPED, volume.dropped),
        ):
            series = samples.setdefault(metric, {})
            series[name, stream] = series.get((name, stream), 0) + count
