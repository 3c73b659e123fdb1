"""Run the check of a `Probe` periodically until the process is found unhealthy."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from realtalk_async.concurrency.waiting import error_of
from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision.policy.probes import (
    Check,
    Health,
    Probe,
    Probed,
    is_too_late,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CANCEL_TIMEOUT = 0.5
"""Seconds that a cancelled check may take to end."""

SUSPEND_THRESHOLD = 0.1
"""Seconds by which the two clocks of a host that was not suspended may differ."""

RESUME_PERIODS = 3
"""Periods without a check after the host was suspended, unless the grace is longer."""


class ProbeRunner:
    """
    Runs one probe against one incarnation of a process.

    Args:
        probe: The probe.
        process: The process.
        on_ready: Called each time that a readiness probe begins to pass.
        on_unready: Called with the reason when a readiness probe no longer passes.
        on_unhealthy: Called when the process is found unhealthy, with the reason and the
            seconds since the last sign of health.
        on_error: Called with an error of this package that has ended the probe.
    """

    def __init__(
        self,
        probe: Probe,
        process: Probed,
        *,
        on_ready: Callable[[], object],
        on_unready: Callable[[str], object],
        on_unhealthy: Callable[[str, float], object],
        on_error: Callable[[BaseException], object],
    ) -> None:
        self.health = Health(probe)
        self.due: float | None = None
        """When the next check runs, in seconds of the loop's clock."""
        self._process = process
        self._on_ready = on_ready
        self._on_unready = on_unready
        self._on_unhealthy = on_unhealthy
        self._on_error = on_error
        self._last_healthy = 0.0
        self._suspended = 0.0
        self._counts_from = 0.0
        """When the failure of a readiness probe counts again, by the loop's clock."""

    def start(self, task_name: str) -> asyncio.Task[None]:
        """Run the check in a task until the process needs no further check."""
        task = asyncio.get_running_loop().create_task(self.run(), name=task_name)
        task.add_done_callback(self._report_error)
        return task

    def _report_error(self, task: asyncio.Task[None]) -> None:
        error = error_of(task)
        if error is not None:
            self._on_error(error)

    async def run(self) -> None:
        """Run the check until the process is unhealthy, or needs no further check."""
        probe, loop = self.health.probe, asyncio.get_running_loop()
        check = probe.begin()
        # Probes of many processes must not fall on the same moment.
        phase = probe.period * random.random()  # noqa: S311 - a phase needs no secrecy
        self.due = self._last_healthy = loop.time()
        self._suspended = _suspended_time()
        if probe.purpose == "liveness":
            self.due += probe.grace + phase
        while not self.health.is_over:
            await asyncio.sleep(self.due - loop.time())
            started = loop.time()
            late, self.due = started - self.due, started + self.health.pause
            if self._host_was_suspended():
                self.health = self.health.without_failures()
                check = probe.begin()  # without what it measured before
                self.due = started + max(probe.grace, RESUME_PERIODS * probe.period)
                continue  # programs and devices resume as slowly as they start
            if self._may_skip and is_too_late(probe, late):
                continue
            reason = await _run_check(check, self._process, probe.timeout)
            if _is_cancelling():
                return
            overrun = loop.time() - started - probe.timeout
            if reason is not None and is_too_late(probe, overrun):
                continue  # the loop was blocked while the check ran
            if reason is None or self._counts(started):
                self._record(reason, loop.time())
            self.due = started + self.health.pause
        self.due = None

    def _counts(self, started: float) -> bool:
        """Return whether a failure counts: once a period, however often it is checked."""
        if started < self._counts_from:
            return False
        is_often = self.health.pause < self.health.probe.period
        self._counts_from = started + self.health.probe.period if is_often else 0.0
        return True

    def _host_was_suspended(self) -> bool:
        """Return whether the host was suspended since the last call."""
        before, self._suspended = self._suspended, _suspended_time()
        return self._suspended - before > SUSPEND_THRESHOLD

    @property
    def _may_skip(self) -> bool:
        """Whether a check may be skipped: not while the app waits for readiness."""
        return self.health.is_passing or self.health.probe.purpose == "liveness"

    def _record(self, reason: str | None, now: float) -> None:
        """Record a result, and report the changes that it brings."""
        before, self.health = self.health, self.health.record(reason)
        if reason is None:
            self._last_healthy = now
            if before.probe.purpose == "readiness" and not before.is_passing:
                self._on_ready()
            return
        if before.probe.purpose == "readiness" and before.is_passing:
            self._on_unready(reason)
        if self.health.failed:
            sign = before.probe.last_sign
            self._on_unhealthy(
                reason, sign(self._process) if sign else now - self._last_healthy
            )


_paused = [0.0]
"""The seconds that the app and its children have been stopped together, as by Ctrl-Z."""


def note_pause(seconds: float) -> None:
    """Record that the app and its children were stopped: no probe judges that time."""
    _paused[0] += seconds


def _suspended_time() -> float:
    """Return the seconds that the host has been suspended since it booted, or the app."""
    return SYSTEM.suspended_time() + _paused[0]


def _is_cancelling() -> bool:
    """Return whether this task was cancelled and the app's check has swallowed that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _run_check(check: Check, process: Probed, timeout: float) -> str | None:
    """Return None if the check passes, otherwise the reason."""
    try:
        async with asyncio.timeout(timeout):
            return await check(process)
    except TimeoutError as exc:
        return str(exc) or f"no answer within {timeout:g} s"
    # The app's check may raise anything; a CancelledError of its own cancels nothing.
    except (Exception, asyncio.CancelledError) as exc:
        if _is_cancelling():
            raise
        return f"{type(exc).__name__}: {exc}"


async def stop_probes(
    probe_tasks: list[asyncio.Task[None]],
) -> set[asyncio.Task[None]]:
    """
    Cancel the tasks of all probes.

    Returns:
        The tasks that did not end within `CANCEL_TIMEOUT`: their checks swallow
        cancellations, and nothing can end them.
    """
    for task in probe_tasks:
        task.cancel()
    if not probe_tasks:
        return set()
    _, stuck_probes = await asyncio.wait(probe_tasks, timeout=CANCEL_TIMEOUT)
    return stuck_probes
