"""
Whether a living process does its work: what is asked, how often, and the verdict. Pure.

A probe answers with None when all is well and with a reason when it is not. `Health`
counts answers and comes to a verdict; who asks, and when, is the process's own task.
"""

from __future__ import annotations

import inspect
import re
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from realtalk_async.exceptions import InvalidConfiguration

if TYPE_CHECKING:
    from realtalk_async.supervision.kernel.pipes import StreamName
    from realtalk_async.supervision.output.line import OutputLine


class Probed(Protocol):
    """What a probe may ask of the process that it looks at."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    def silent_for(self, stream: StreamName) -> float:
        """Seconds since the current incarnation last wrote to *stream*, or began."""
        ...

    def bytes_heard(self, stream: StreamName) -> tuple[int, float]:
        """Return the bytes that *stream* has brought, and until when (monotonic)."""
        ...

    def last_line(self, stream: StreamName) -> str:
        """Return the text of the newest line of *stream*, or "" if there is none."""
        ...

    async def wait_for_line(self, pattern: str, timeout: float) -> OutputLine:
        """Wait for a line of the current incarnation that matches."""
        ...


Check = Callable[[Probed], Awaitable[str | None]]
Purpose = Literal["readiness", "liveness"]

CALM = 1.0
"""Seconds, at least, between two questions to a process that is ready."""


@dataclass(frozen=True, slots=True)
class Probe:
    """
    A question asked of a process again and again.

    Until its *readiness* probes are content a process is ``starting``. They are asked on,
    once a second at most: if one is not content any more the process is ``starting``
    again. A *liveness* probe is asked once its grace is over. A verdict of either kind
    ends the process, and the restart policy decides what follows.
    """

    name: str
    check: Check
    purpose: Purpose = "liveness"
    period: float = 1.0
    """Seconds between two questions."""
    timeout: float = 5.0
    """Seconds that one answer may take; a hung one is cancelled and counts as a failure."""
    grace: float = 0.0
    """Seconds after the spawn in which a liveness probe is not asked."""
    failure_threshold: int = 1
    """So many failures in a row are a verdict."""
    last_sign: Callable[[Probed], float] | None = None
    """Tells the seconds since the last sign of health, if that is not a good answer."""
    once: bool = False
    """Whether it is not asked again once it is content: what it asks cannot be lost."""
    anew: Callable[[], Check] | None = None
    """Makes the check for each incarnation, where a check has to remember something."""

    def begin(self) -> Check:
        """Return what to ask of one incarnation."""
        return self.check if self.anew is None else self.anew()

    def __post_init__(self) -> None:
        for name in ("period", "timeout"):
            if not getattr(self, name) > 0:
                raise InvalidConfiguration(
                    f"{name} of probe {self.name!r} must be more than 0 s, "
                    f"not {getattr(self, name)}"
                )
        if self.grace < 0 or self.failure_threshold < 1:
            raise InvalidConfiguration(
                f"probe {self.name!r} needs a grace of 0 s or more and a failure "
                f"threshold of 1 or more"
            )

    @classmethod
    def silence(
        cls, seconds: float, stream: StreamName = "stdout", *, grace: float = 3.0
    ) -> Probe:
        """
        Return a liveness probe for output freshness: alive but silent is not well.

        Args:
            seconds: So long may *stream* be silent.
            stream: Which one is to be heard.
            grace: Seconds after the spawn in which silence is forgiven: 3 s until the
                first byte, as audio programs need when a sound server has to start.
        """

        async def check(process: Probed) -> str | None:
            silent = process.silent_for(stream)
            if silent <= seconds:
                return None
            last = process.last_line(stream) if stream == "stderr" else ""
            said = f"; its last line was {last!r}" if last else ""
            return f"silent on {stream} for {silent:.2f} s, {seconds:g} allowed{said}"

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
    ) -> Probe:
        """
        Return a liveness probe for a stream that has to flow: alive but slow is not well.

        A microphone brings 48,000 bytes a second (24 kHz, 16 bit, mono), whatever is
        said: ``Probe.rate(0.9 * 48_000)``. Binary streams are measured as well; what is
        not read because its consumer is slow counts as not flowing.

        Args:
            bytes_per_second: The least that is well.
            stream: Which one is to flow.
            window: Seconds over which it is measured.
            grace: Seconds after the spawn in which it is not measured.
            failure_threshold: So many failures in a row, a quarter of a window apart,
                are a verdict.

        Raises:
            InvalidConfiguration: If a number makes no sense.
        """
        if not (bytes_per_second > 0 and window > 0):
            raise InvalidConfiguration(
                f"a rate is more than 0 bytes/s over more than 0 s, not "
                f"{bytes_per_second} bytes/s over {window} s"
            )
        period = max(0.02, window / 4)

        def anew() -> Check:
            meter = Meter(window, gap=2 * period)

            async def check(process: Probed) -> str | None:
                rate = meter.read(*process.bytes_heard(stream))
                if rate is None or rate >= bytes_per_second:
                    return None
                return (
                    f"{rate:.0f} bytes/s on {stream} over the last {window:g} s, "
                    f"at least {bytes_per_second:g} expected"
                )

            return check

        return cls(
            "rate",
            anew(),
            period=period,
            timeout=1.0,
            grace=grace,
            failure_threshold=failure_threshold,
            anew=anew,
        )

    @classmethod
    def line(cls, pattern: str, *, timeout: float = 10.0) -> Probe:
        """
        Return a readiness probe: ready when it has printed a line that matches.

        Args:
            pattern: A regular expression, searched in each line of both streams.
            timeout: Seconds after which the process counts as failed.
        """
        re.compile(pattern)

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
    ) -> Probe:
        """
        Return a probe that asks the app itself.

        Args:
            function: Sync and quick, or async. All is well when it returns True or None;
                False, or raising, is a failure.
            purpose: ``readiness`` or ``liveness``.
            period: Seconds between two questions.
            timeout: Seconds that an answer may take.
            grace: Seconds after the spawn without a question.
            failure_threshold: So many failures in a row are a verdict.
        """
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
    """The answers of one probe so far."""

    probe: Probe
    failures: int = 0
    """In a row."""
    reason: str = ""
    """Why the last answer was a failure; "" if it was none."""
    is_content: bool = False
    """Whether the last answer was that all is well."""

    def hear(self, reason: str | None) -> Health:
        """Return the health after one more answer."""
        if reason is None:
            return Health(self.probe, is_content=True)
        return Health(self.probe, self.failures + 1, reason)

    def begin_anew(self) -> Health:
        """Return the health without the failures so far: the host was suspended."""
        return Health(self.probe, is_content=self.is_content)

    @property
    def pause(self) -> float:
        """Seconds until the next question."""
        ready = self.is_content and self.probe.purpose == "readiness"
        return max(self.probe.period, CALM) if ready else self.probe.period

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be asked."""
        return self.failed or (self.is_content and self.probe.once)

    @property
    def failed(self) -> bool:
        """Whether the verdict is that the process is not well."""
        return self.failures >= self.probe.failure_threshold


class Meter:
    """
    How fast something flows, read again and again.

    Args:
        window: Seconds over which it is measured.
        gap: If so many seconds pass between two readings, our own loop was late: what was
            not read meanwhile may be our own fault, and measuring begins anew.
    """

    def __init__(self, window: float, gap: float) -> None:
        self._window = window
        self._gap = gap
        self._readings: deque[tuple[float, int]] = deque()

    def read(self, total: int, now: float) -> float | None:
        """
        Return the units a second over the last window; None before there was a whole one.

        Args:
            total: Units so far.
            now: Monotonic seconds.
        """
        readings = self._readings
        if readings and now - readings[-1][0] > self._gap:
            readings.clear()
        readings.append((now, total))
        while len(readings) > 1 and readings[1][0] <= now - self._window:
            readings.popleft()
        began, before = readings[0]
        if now - began < self._window:
            return None
        return (total - before) / (now - began)


def too_late_to_judge(probe: Probe, late: float) -> bool:
    """
    Return whether a question came so late that its answer says nothing.

    If our own loop stood still, output may lie unread in the pipe: the silence may be
    ours. The next question, one period later, is asked as usual.

    Args:
        probe: Which probe.
        late: Seconds by which the question came after its time.
    """
    return late > max(0.1, probe.period / 2)
