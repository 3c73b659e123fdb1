"""Putting the questions of a `Probe`, again and again, until it comes to a verdict."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from .probe import Health, Probe, Probed, too_late_to_judge

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 0.5
"""Seconds that a question which was cancelled may take to end."""


async def keep_asking(
    probe: Probe,
    process: Probed,
    on_ready: Callable[[], object],
    on_unwell: Callable[[str, float], object],
) -> None:
    """
    Ask one probe until it has come to its verdict.

    Args:
        probe: What to ask.
        process: Of whom.
        on_ready: Called when a readiness probe is content.
        on_unwell: Called when the process is found not to be well, with the reason and
            the seconds since the last sign that it was.
    """
    health = Health(probe)
    loop = asyncio.get_running_loop()
    well = loop.time()
    readiness = probe.purpose == "readiness"
    # Probes of many processes must not fall on the same moment.
    phase = probe.period * random.random()  # noqa: S311 - a phase needs no secrecy
    due = loop.time() + (0.0 if readiness else probe.grace + phase)
    while True:
        await asyncio.sleep(due - loop.time())
        late, due = loop.time() - due, loop.time() + probe.period
        if not readiness and too_late_to_judge(probe, late):
            continue
        reason = await _put_question(probe, process)
        if _was_told_to_stop():
            return
        took_too_long = loop.time() - (due - probe.period) - probe.timeout
        if reason is not None and too_late_to_judge(probe, took_too_long):
            continue  # our loop stood still while it was being answered
        if readiness and reason is None:
            on_ready()
            return
        health = health.hear(reason)
        if reason is None:
            well = loop.time()
        elif health.failed:
            sign = probe.last_sign
            on_unwell(reason, sign(process) if sign else loop.time() - well)
            return


def _was_told_to_stop() -> bool:
    """Return whether we were cancelled and the app's own code has swallowed it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _put_question(probe: Probe, process: Probed) -> str | None:
    """Return None if all is well, otherwise the reason."""
    try:
        async with asyncio.timeout(probe.timeout):
            return await probe.check(process)
    except TimeoutError as exc:
        return str(exc) or f"no answer within {probe.timeout:g} s"
    except Exception as exc:  # noqa: BLE001 - whatever the app's own code raises
        return f"{type(exc).__name__}: {exc}"


async def stop_asking(questions: list[asyncio.Task[None]]) -> int:
    """
    Cancel all that is being asked.

    Returns:
        How many questions did not end within `PATIENCE`: they swallow cancellations, and
        nothing can end them.
    """
    for task in questions:
        task.cancel()
    if not questions:
        return 0
    _, deaf = await asyncio.wait(questions, timeout=PATIENCE)
    return len(deaf)
