"""Ending a process and its whole group, step by step. Acts by the `Ladder`'s words."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.supervision.lifecycle.incarnation import Incarnation
    from realtalk_async.supervision.policy.ladder import Ladder, Step


async def run_ladder(
    body: Incarnation, ladder: Ladder, on_step: Callable[[Step, int], None]
) -> tuple[str, ...]:
    """
    Take one step after the other until nothing of the group lives.

    Args:
        body: What is to end.
        ladder: The steps.
        on_step: Called before each step with the number of living members.

    Returns:
        Who still lives although all steps were taken, in words; usually nobody.
    """
    for step in ladder.steps:
        members = await body.members()
        if not body.alive and not members:
            return ()
        on_step(step, len(members))
        if step.signal:
            body.signal(step.signal)
        else:
            body.close_stdin()
        if await _is_gone_within(body, step.wait):
            return ()
    return tuple(map(str, await body.members()))


async def _is_gone_within(body: Incarnation, seconds: float) -> bool:
    """Wait for the group to have no member but zombies."""
    deadline = time.monotonic() + seconds
    if body.alive:
        await asyncio.wait([body.exited], timeout=seconds)
    pause = 0.002
    while not body.alive:
        if body.is_gone() or not await body.members():
            return True
        left = deadline - time.monotonic()
        if left <= 0:
            break
        # The kernel tells nobody when a group becomes empty: it has to be asked.
        await asyncio.sleep(min(pause, left))
        pause = min(0.05, pause * 2)
    return False
