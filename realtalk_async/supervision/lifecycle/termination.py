"""The stop ladder in action: it sends the signals that end a process and its group."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.supervision.lifecycle.incarnation import Incarnation
    from realtalk_async.supervision.policy.ladder import Ladder, Step

GROUP_SIGNALS = frozenset(
    status
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
    for status in (-number, 128 + number)
)
"""
Exit statuses after a signal that service managers and terminals send to the app and to its
children at the same time; a program that handles it often exits with 128 and its number.
"""

SAME_EVENT = 0.25
"""Seconds that a stop of the app may come later than the end of a child by such a signal."""


async def run_ladder(
    incarnation: Incarnation, ladder: Ladder, on_step: Callable[[Step, int], None]
) -> tuple[str, ...]:
    """
    Run one step after the other until the whole group has ended.

    Args:
        incarnation: The process to end.
        ladder: The steps.
        on_step: Called before each step with the number of live members of the group.

    Returns:
        The members that are alive after the last step, for people; usually empty.
    """
    for step in ladder.steps:
        members = await incarnation.members()
        if not incarnation.alive and not members:
            return ()
        on_step(step, len(members))
        if step.signal:
            incarnation.signal(step.signal)
        else:
            incarnation.close_stdin()
        if await _ends_within(incarnation, step):
            return ()
    return tuple(map(str, await incarnation.members()))


async def _ends_within(incarnation: Incarnation, step: Step) -> bool:
    """Wait until the group contains only zombies; return whether that happened in time."""
    deadline = time.monotonic() + step.wait
    left = step.wait
    while incarnation.alive and left > 0:
        await asyncio.wait([incarnation.exited], timeout=left)
        # A loop of virtual time returns at once. Nothing can ignore SIGKILL, but its
        # effect takes real time.
        is_kill = step.signal == signal.SIGKILL
        left = deadline - time.monotonic() if is_kill else 0.0
    pause = 0.002
    while not incarnation.alive:
        if incarnation.is_gone() or not await incarnation.members():
            return True
        left = deadline - time.monotonic()
        if left <= 0:
            break
        # The kernel sends no notice when a group becomes empty: it has to be polled.
        await asyncio.sleep(min(pause, left))
        pause = min(0.05, pause * 2)
    return False
