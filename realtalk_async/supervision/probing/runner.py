"""Putting the questions of a `Probe`, again and again, until it comes to a verdict."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

from realtalk_async.supervision.policy.probes import (
    Check,
    Health,
    Probe,
    Probed,
    too_late_to_judge,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 0.5
"""Seconds that a question which was cancelled may take to end."""

NAP = 0.1
"""Seconds; the host was not suspended if its two clocks differ by no more."""

AWAKENING = 3
"""Periods without a question after the host was suspended, if the grace is no longer."""


class Asking:
    """
    One probe that is put to one life of a process, until it comes to its verdict.

    Args:
        probe: What to ask.
        process: Of whom.
        on_ready: Called when a readiness probe is content, each time anew.
        on_unready: Called with the reason when it is not content any more.
        on_unwell: Called when the process is found not to be well, with the reason and
            the seconds since the last sign that it was.
    """

    def __init__(
        self,
        probe: Probe,
        process: Probed,
        *,
        on_ready: Callable[[], object],
        on_unready: Callable[[str], object],
        on_unwell: Callable[[str, float], object],
    ) -> None:
        self.health = Health(probe)
        self.due: float | None = None
        """When the next question is put, in seconds of the loop's clock."""
        self._process = process
        self._on_ready = on_ready
        self._on_unready = on_unready
        self._on_unwell = on_unwell
        self._well = 0.0
        self._asleep = 0.0

    async def run(self) -> None:
        """Ask again and again."""
        probe, loop = self.health.probe, asyncio.get_running_loop()
        check = probe.begin()
        # Probes of many processes must not fall on the same moment.
        phase = probe.period * random.random()  # noqa: S311 - a phase needs no secrecy
        self.due = self._well = loop.time()
        self._asleep = _asleep()
        if probe.purpose == "liveness":
            self.due += probe.grace + phase
        while not self.health.is_over:
            await asyncio.sleep(self.due - loop.time())
            asked = loop.time()
            late, self.due = asked - self.due, asked + self.health.pause
            if self._host_was_suspended():
                self.health = self.health.begin_anew()
                self.due = asked + max(probe.grace, AWAKENING * probe.period)
                continue  # programs and devices wake up as slowly as they start
            if self._can_wait and too_late_to_judge(probe, late):
                continue
            reason = await _put_question(check, self._process, probe.timeout)
            if _was_told_to_stop():
                return
            took_too_long = loop.time() - asked - probe.timeout
            if reason is not None and too_late_to_judge(probe, took_too_long):
                continue  # our loop stood still while it was being answered
            self._hear(reason, loop.time())
            self.due = asked + self.health.pause
        self.due = None

    def _host_was_suspended(self) -> bool:
        """Return whether that was so since this was asked last."""
        before, self._asleep = self._asleep, _asleep()
        return self._asleep - before > NAP

    @property
    def _can_wait(self) -> bool:
        """Whether a question may be left out: not while somebody waits for readiness."""
        return self.health.is_content or self.health.probe.purpose == "liveness"

    def _hear(self, reason: str | None, now: float) -> None:
        """Take an answer, and tell what it changes."""
        before, self.health = self.health, self.health.hear(reason)
        if reason is None:
            self._well = now
            if before.probe.purpose == "readiness" and not before.is_content:
                self._on_ready()
            return
        if before.probe.purpose == "readiness" and before.is_content:
            self._on_unready(reason)
        if self.health.failed:
            sign = before.probe.last_sign
            self._on_unwell(reason, sign(self._process) if sign else now - self._well)


def _asleep() -> float:
    """Return the seconds that the host has been suspended since it was booted."""
    try:
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    except (AttributeError, OSError):  # not on Linux
        return 0.0
    return since_boot - time.clock_gettime(time.CLOCK_MONOTONIC)


def _was_told_to_stop() -> bool:
    """Return whether we were cancelled and the app's own code has swallowed it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _put_question(check: Check, process: Probed, timeout: float) -> str | None:
    """Return None if all is well, otherwise the reason."""
    try:
        async with asyncio.timeout(timeout):
            return await check(process)
    except TimeoutError as exc:
        return str(exc) or f"no answer within {timeout:g} s"
    except Exception as exc:  # noqa: BLE001 - whatever the app's own code raises
        return f"{type(exc).__name__}: {exc}"


async def stop_asking(
    questions: list[asyncio.Task[None]],
) -> set[asyncio.Task[None]]:
    """
    Cancel all that is being asked.

    Returns:
        Those that did not end within `PATIENCE`: they swallow cancellations, and nothing
        can end them.
    """
    for task in questions:
        task.cancel()
    if not questions:
        return set()
    _, deaf = await asyncio.wait(questions, timeout=PATIENCE)
    return deaf
