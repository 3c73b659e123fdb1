"""
One app seen from outside of its loop: its figures, and what decides whether it is well.

Counting is done in the loop, by its events. Everything else is told when it is asked for,
by the loop itself, in slices of 2 ms; a thread that asks waits for it, but never longer
than the loop may be late. What hangs is told from what was known before.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

from realtalk_async.ops import counters, health
from realtalk_async.ops import metrics as of
from realtalk_async.ops.loop_lag import Pulse
from realtalk_async.supervision import ManagedProcess, State

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from realtalk_async.ops.counters import Distributions, Samples
    from realtalk_async.supervision import ProcessManager, SupervisedTask
    from realtalk_async.supervision.output.buffer import StreamName
    from realtalk_async.voice import Stream

SLICE = 0.002
"""Seconds of one turn of the loop that a look may take: a tenth of a frame of audio."""

LOOKED_THROUGH = 32 * 1024 * 1024
"""Bytes of output in which lines are counted, at most, for one look: 10 ms in all."""

AT_ONCE = 1024 * 1024
"""Bytes of one stream that are looked through in one go: 0.3 ms."""

STREAMS: tuple[StreamName, ...] = ("stdout", "stderr")

FRESH = 0.2
"""Seconds for which a look is told again instead of being taken anew."""


@dataclass(frozen=True, slots=True)
class Look:
    """All figures of an app at one moment."""

    samples: Samples = field(default_factory=dict[of.Metric, dict[of.Labels, float]])
    distributions: Distributions = field(
        default_factory=dict[of.Metric, dict[of.Labels, counters.Distribution]]
    )
    taken: float = float("-inf")
    """Monotonic seconds."""


class Breath:
    """Lets others have their turn of the loop, every 2 ms."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    async def take(self) -> None:
        """Let them, if it is time."""
        if time.monotonic() - self._began > SLICE:
            await asyncio.sleep(0)
            self._began = time.monotonic()


class Watch:
    """
    Watches one app for as long as its block runs: ``async with Watch(manager) as watch:``.

    Args:
        manager: Whose processes are watched.
        stream: The voice session, if there is one.
        bound: Seconds that the loop may be late before it counts as hanging.
    """

    def __init__(
        self,
        manager: ProcessManager,
        stream: Stream | None = None,
        *,
        bound: float = 1.0,
    ) -> None:
        self._manager = manager
        self._stream = stream
        self.bound = bound
        self.tally = counters.Tally()
        self._pulse = Pulse(lambda late: self.tally.observe(of.LAG, late))
        self._ear = None
        if stream is not None:
            from realtalk_async.ops.voice_metrics import (
                Ear,  # here, for those who have no voice session
            )

            self._ear = Ear(self.tally)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._last = Look()
        self._facts: health.Facts | None = None
        self._asking = threading.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._turn = 0
        self._unsubscribes: list[Callable[[], None]] = []

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._unsubscribes.append(self._manager.subscribe(self.tally.hear))
        if self._stream is not None and self._ear is not None:
            self._unsubscribes.append(self._stream.subscribe(self._ear.hear))
        self._pulse.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Watch no more. What was known last can still be asked for."""
        self._pulse.stop()
        try:
            self._tell_facts()
            await self._take_look()
        finally:
            self._loop = None
            for unsubscribe in self._unsubscribes:
                unsubscribe()
            if self._looking is not None:
                self._looking.cancel()
        if self._looking is not None:
            await asyncio.wait([self._looking])

    # ---- from any thread; the loop's own is told what is known without waiting

    @property
    def is_over(self) -> bool:
        """Whether nothing new will be told."""
        return self._loop is None

    @property
    def overdue(self) -> float:
        """Seconds by which the loop is late by now."""
        return self._pulse.overdue

    def verdict(self, kind: Literal["liveness", "readiness"]) -> health.Verdict:
        """Return whether the app is alive, or can serve; within the bound."""
        judge = health.liveness if kind == "liveness" else health.readiness
        if threading.get_ident() == self._thread:
            return judge(self._tell_facts(), self.overdue, self.bound)
        has_answered = self._ask(self._tell_facts)
        overdue = self.overdue
        if not has_answered and self._loop is not None:
            overdue = max(overdue, self.bound)  # so long has it kept us waiting
        return judge(self._facts, overdue, self.bound)

    def look(self) -> Look:
        """Return all figures, not older than 0.2 s as long as the loop turns."""
        if threading.get_ident() != self._thread:
            with self._asking:  # whoever comes meanwhile is told the same
                if time.monotonic() - self._last.taken > FRESH:
                    self._ask(self._begin_look)
        last = self._last
        return Look(
            {**last.samples, of.OVERDUE: {(): self.overdue}},
            last.distributions,
            last.taken,
        )

    def _ask(self, work: Callable[[Future[None]], object]) -> bool:
        """Have the loop do some work; return whether it did in time."""
        loop = self._loop
        if loop is None or self.overdue >= self.bound:
            return False
        done: Future[None] = Future()
        try:
            loop.call_soon_threadsafe(work, done)
        except RuntimeError:  # it has just been closed
            return False
        return bool(wait([done], timeout=self.bound).done)

    # ---- in the loop

    def _tell_facts(self, done: Future[None] | None = None) -> health.Facts:
        self._facts = gather_facts(self._manager, self._stream)
        if done is not None:
            done.set_result(None)
        return self._facts

    def _begin_look(self, done: Future[None]) -> None:
        """Take a look, or wait for the one that is being taken."""
        if self._loop is None:
            return  # nobody watches any more
        if self._looking is None or self._looking.done():
            look = self._take_look()
            self._looking = self._loop.create_task(look, name="realtalk-async look")
        self._looking.add_done_callback(lambda _: done.set_result(None))

    async def _take_look(self) -> None:
        samples: Samples = {}
        voice = self._look_at_voice()
        breath = Breath()
        await self._count_lines(breath)
        await self._look_at_processes(samples, breath)
        self._look_at_log(samples)
        samples[of.DEGRADED] = {(): len(self._manager.degraded)}
        self._last = Look(
            {**counters.copied(self.tally.samples), **samples, **voice},
            {metric: dict(one) for metric, one in self.tally.distributions.items()},
            time.monotonic(),
        )

    def _look_at_voice(self) -> Samples:
        if self._stream is None or self._ear is None:
            return {}
        return self._ear.look(self._stream.metrics())

    def _look_at_log(self, samples: Samples) -> None:
        """Tell what the log has done."""
        log = self._manager.logger.statistics()
        samples[of.LOG_LINES] = {(str(one),): n for one, n in log.logged.items()}
        samples[of.LOG_DROPPED] = {(): log.dropped}
        samples[of.LOG_WAITING] = {(): log.waiting}

    async def _count_lines(self, breath: Breath) -> None:
        """Have lines counted, beginning with another process every time."""
        everyone = list(self._manager.processes.values())
        first = self._turn % max(1, len(everyone))
        self._turn += 1
        left = LOOKED_THROUGH
        for process in (*everyone[first:], *everyone[:first]):
            for stream in STREAMS:
                looked = AT_ONCE
                while looked >= AT_ONCE and left > 0:
                    most = min(AT_ONCE, left)
                    looked = process.get_volume(stream, most=most).looked
                    left -= looked
                    await breath.take()

    async def _look_at_processes(self, samples: Samples, breath: Breath) -> None:
        """Add what is known of each."""
        everyone: dict[str, ManagedProcess | SupervisedTask]
        everyone = {**self._manager.processes, **self._manager.tasks}
        for name, one in everyone.items():
            label = self.tally.names.label(name)
            self.tally.add(of.RESTARTS, (label,), 0)  # a series begins with its zero
            _add_state(samples, label, one)
            if isinstance(one, ManagedProcess):
                _add_volume(samples, label, one)
            await breath.take()


def gather_facts(manager: ProcessManager, stream: Stream | None) -> health.Facts:
    """Return what decides whether an app is well; call it in its loop."""
    return health.Facts(
        manager.status,
        manager.closing,
        manager.critical,
        manager.degraded,
        None if stream is None else stream.is_ready(),
    )


def _add_state(
    samples: Samples, label: str, one: ManagedProcess | SupervisedTask
) -> None:
    series = samples.setdefault(of.STATE, {})
    for state in State:
        which = label, str(state)
        series[which] = series.get(which, 0) + (one.state is state)


def _add_volume(samples: Samples, label: str, process: ManagedProcess) -> None:
    for stream in STREAMS:
        volume = process.get_volume(stream, most=0)
        for metric, count in (
            (of.OUTPUT, volume.size),
            (of.LINES, volume.lines),
            (of.DROPPED, volume.dropped),
        ):
            series = samples.setdefault(metric, {})
            series[label, stream] = series.get((label, stream), 0) + count
