"""
Probes: checks of a running process, how often they run, and when the process is unhealthy.

A check returns None when it passes and a reason when it fails. `Health` counts the
results; a `ProbeRunner` runs the checks.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self, get_args

from realtalk_async import arguments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from realtalk_async.supervision.kernel.pipes import StreamName
    from realtalk_async.supervision.output.line import OutputLine


class Probed(Protocol):
    """The part of a process that a check may use."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    def silent_for(self, stream: StreamName) -> float:
        """Seconds since the current incarnation last wrote to *stream*, or began."""
        ...

    def bytes_received(self, stream: StreamName) -> tuple[int, float]:
        """Return the bytes received from *stream*, and the time of the count (monotonic)."""
        ...

    def last_line(self, stream: StreamName) -> str:
        """Return the text of the newest line of *stream*, or "" if there is none."""
        ...

    async def wait_for_line(self, pattern: str, timeout: float) -> OutputLine:
        """Wait for a line of the current incarnation that matches."""
        ...


Check = Callable[[Probed], Awaitable[str | None]]
Purpose = Literal["readiness", "liveness"]

STREAMS = "stdout", "stderr"

STARTING_PERIOD = 0.2
"""The longest period, in seconds, of a readiness probe until it passes."""

READY_PERIOD = 1.0
"""The shortest period, in seconds, of a readiness probe once it passes."""

MIN_LATENESS = 0.1
"""Seconds by which a check may always be late, however short its period is."""


@dataclass(frozen=True, slots=True)
class Probe:
    """
    A periodic check of a process.

    A process is ``starting`` until its *readiness* probes pass; until then they run each
    0.2 s, or each period if that is shorter, and one failure a period counts. They run
    on, by their period, once a second at most: if one of them fails, the process is
    ``starting`` again. A *liveness*
    probe runs once its grace is over. If a probe of either kind fails
    `failure_threshold` times in a row, the process is unhealthy: it is ended, and the
    restart policy decides what follows.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """

    name: str
    check: Check
    purpose: Purpose = "liveness"
    period: float = 1.0
    """Seconds between two checks."""
    timeout: float = 5.0
    """Seconds that one check may take; a longer one is cancelled and counts as a failure."""
    grace: float = 0.0
    """Seconds after the spawn in which a liveness probe does not run."""
    failure_threshold: int = 1
    """Failures in a row after which the process is unhealthy."""
    last_sign: Callable[[Probed], float] | None = None
    """Returns the seconds since the last sign of health; default: since the last pass."""
    once: bool = False
    """Whether the probe ends when it passes: its condition cannot be lost."""
    make_check: Callable[[], Check] | None = None
    """Makes a check for each incarnation, if a check has state."""

    def begin(self) -> Check:
        """Return the check for one incarnation."""
        return self.check if self.make_check is None else self.make_check()

    def __post_init__(self) -> None:
        arguments.words("name", self.name)
        arguments.function("check", self.check)
        arguments.choice("purpose", self.purpose, get_args(Purpose))
        of_it = f" of probe {self.name!r}"
        for name in ("period", "timeout"):
            value = getattr(self, name)
            arguments.number(f"{name}{of_it}", value, of="seconds", more_than=0)
        arguments.seconds(f"grace{of_it}", self.grace)
        failures = self.failure_threshold
        arguments.integer(f"failure_threshold{of_it}", failures, minimum=1)
        arguments.function("last_sign", self.last_sign, optional=True)
        arguments.flag("once", self.once)
        arguments.function("make_check", self.make_check, optional=True)

    @classmethod
    def silence(
        cls, seconds: float, stream: StreamName = "stdout", *, grace: float = 3.0
    ) -> Self:
        """
        Return a liveness probe for output freshness: a silent process is unhealthy.

        Args:
            seconds: The longest silence of *stream*.
            stream: The stream.
            grace: Seconds after the spawn in which silence is allowed. Audio programs
                need up to 3 s until the first byte if a sound server has to start.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.number("seconds", seconds, of="seconds", more_than=0)
        arguments.choice("stream", stream, STREAMS)

        async def check(process: Probed) -> str | None:
            silent = process.silent_for(stream)
            if silent <= seconds:
                return None
            last = process.last_line(stream) if stream == "stderr" else ""
            quote = f"; its last line was {last!r}" if last else ""
            return f"silent on {stream} for {silent:.2f} s, {seconds:g} allowed{quote}"

        return cls(
            "silence",
            check,
            period=max(0.02, min(1.0, seconds / 4)),
            timeout=1.0,
            grace=grace,
            last_sign=lambda process: process.silent_for(stream),
        )

    @classmethod
    def rate(
        cls,
        bytes_per_second: float,
        stream: StreamName = "stdout",
        *,
        window: float = 1.0,
        grace: float = 3.0,
        failure_threshold: int = 2,
    ) -> Self:
        """
        Return a liveness probe for a constant stream: a slow process is unhealthy.

        A microphone always yields 48,000 bytes a second (24 kHz, 16 bit, mono):
        ``Probe.rate(0.9 * 48_000)``. Binary streams are measured as well; bytes that are
        not read because their consumer is slow do not count.

        Args:
            bytes_per_second: The lowest rate of a healthy process.
            stream: The stream.
            window: Seconds over which the rate is measured.
            grace: Seconds after the spawn in which it is not measured.
            failure_threshold: Failures in a row, a quarter of a window apart, after which
                the process is unhealthy.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.number("bytes_per_second", bytes_per_second, more_than=0)
        arguments.choice("stream", stream, STREAMS)
        arguments.number("window", window, of="seconds", more_than=0)
        period = max(0.02, window / 4)

        def make_check() -> Check:
            meter = RateMeter(window, period)

            async def check(process: Probed) -> str | None:
                rate = meter.read(*process.bytes_received(stream))
                if rate is None or rate >= bytes_per_second:
                    return None
                return (
                    f"{rate:.0f} bytes/s on {stream} over the last {window:g} s, "
                    f"at least {bytes_per_second:g} expected"
                )

            return check

        return cls(
            "rate",
            make_check(),
            period=period,
            timeout=1.0,
            grace=grace,
            failure_threshold=failure_threshold,
            make_check=make_check,
        )

    @classmethod
    def line(cls, pattern: str, *, timeout: float = 10.0) -> Self:
        """
        Return a readiness probe that passes when the process prints a matching line.

        Args:
            pattern: A regular expression, searched in each line of both streams.
            timeout: Seconds after which the process is unhealthy.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.text("pattern", pattern)
        arguments.pattern("pattern", pattern)
        arguments.number("timeout", timeout, of="seconds", more_than=0)

        async def check(process: Probed) -> str | None:
            await process.wait_for_line(pattern, timeout)
            return None

        name = f"line {pattern!r}"
        return cls(name, check, "readiness", timeout=timeout + 1.0, once=True)

    @classmethod
    def call(
        cls,
        function: Callable[[], object],
        *,
        purpose: Purpose = "liveness",
        period: float = 1.0,
        timeout: float = 5.0,
        grace: float = 0.0,
        failure_threshold: int = 3,
    ) -> Self:
        """
        Return a probe that calls a function of the app.

        Args:
            function: Sync and quick, or async. The probe passes when it returns True or
                None; False or an exception is a failure.
            purpose: ``readiness`` or ``liveness``.
            period: Seconds between two checks.
            timeout: Seconds that a check may take.
            grace: Seconds after the spawn without a check.
            failure_threshold: Failures in a row after which the process is unhealthy.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.function("function", function)
        name = getattr(function, "__name__", "call")

        async def check(_process: Probed) -> str | None:
            answer = function()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer is None or answer is True:
                return None
            return f"{name} returned {answer!r}"

        return cls(name, check, purpose, period, timeout, grace, failure_threshold)


@dataclass(frozen=True, slots=True)
class Health:
    """The results of one probe so far."""

    probe: Probe
    failures: int = 0
    """In a row."""
    reason: str = ""
    """Why the last check failed; "" if it passed."""
    is_passing: bool = False
    """Whether the last check passed."""

    def record(self, reason: str | None) -> Health:
        """Return the health after one more result."""
        if reason is None:
            return Health(self.probe, is_passing=True)
        return Health(self.probe, self.failures + 1, reason)

    def without_failures(self) -> Health:
        """Return the health without the failures so far: the host was suspended."""
        return Health(self.probe, is_passing=self.is_passing)

    @property
    def pause(self) -> float:
        """Seconds until the next check."""
        if self.probe.purpose == "liveness":
            return self.probe.period
        if self.is_passing:
            return max(self.probe.period, READY_PERIOD)
        return min(self.probe.period, STARTING_PERIOD)

    @property
    def is_over(self) -> bool:
        """Whether the probe needs no further check."""
        return self.failed or (self.is_passing and self.probe.once)

    @property
    def failed(self) -> bool:
        """Whether the process is unhealthy."""
        return self.failures >= self.probe.failure_threshold


def checked_probes(probes: Iterable[Probe]) -> tuple[Probe, ...]:
    """
    Return the probes of a process; an iterator is read once.

    Raises:
        InvalidConfiguration: If one of them is no `Probe`.
    """

    def check(argument: str, value: object) -> None:
        arguments.instance(
            argument, value, Probe, "a Probe, such as Probe.line('ready')"
        )

    return arguments.several("probes", probes, check, "Probes")


@dataclass(slots=True)
class _Gap:
    """The time between two readings of a `RateMeter`."""

    seconds: float
    units: int
    is_late: bool
    on_time: float
    """The part of its seconds in which the event loop was certainly on time."""


class RateMeter:
    """
    The rate of a counter over a moving window.

    A late event loop leaves bytes unread, and may hold up the process that writes them.
    So the window consists of as many gaps between two readings as are needed to cover it
    with time in which the loop was on time; the late gaps among them only lengthen it. A
    rate counts as low only if it is low both over all of these gaps and over those
    without the late ones.

    Args:
        window: Seconds over which the rate is measured.
        period: Seconds between two readings of a loop that is on time.
    """

    def __init__(self, window: float, period: float) -> None:
        self._window = window
        self._period = period
        self._late = period + max(period, MIN_LATENESS)
        self._gaps: deque[_Gap] = deque()
        self._last: tuple[int, float] | None = None

    def read(self, total: int, now: float) -> float | None:
        """
        Return the units a second over the last window; None during the first window.

        Args:
            total: Units so far.
            now: Monotonic seconds.
        """
        last, self._last = self._last, (total, now)
        if last is not None:
            self._add(total - last[0], now - last[1])
        gaps = self._gaps
        on_time = sum(gap.on_time for gap in gaps)
        if on_time < self._window:
            return None
        while on_time - gaps[0].on_time >= self._window:
            on_time -= gaps.popleft().on_time
        units = sum(gap.units for gap in gaps if not gap.is_late)
        units_of_all = sum(gap.units for gap in gaps)
        return max(units / on_time, units_of_all / sum(gap.seconds for gap in gaps))

    def _add(self, units: int, seconds: float) -> None:
        if seconds <= self._late:
            self._gaps.append(_Gap(seconds, units, is_late=False, on_time=seconds))
            return
        if not self._gaps:
            return
        before = self._gaps[-1]
        if before.is_late:
            before.units += units
            before.seconds += seconds
            return
        # The reading before this one may have been a little late; this gap then has the
        # bytes that it left unread.
        before.on_time = min(before.on_time, self._period)
        self._gaps.append(_Gap(seconds, units, is_late=True, on_time=0.0))


def is_too_late(probe: Probe, late: float) -> bool:
    """
    Return whether a check was so late that its result means nothing.

    If the event loop was blocked, the output of the process may be unread in the pipe.
    The next check runs one period later.

    Args:
        probe: The probe.
        late: Seconds by which the check was late.
    """
    return late > max(MIN_LATENESS, min(probe.period, probe.timeout) / 2)
