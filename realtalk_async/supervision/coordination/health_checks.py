"""The periodic checks of all children of a manager."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Protocol

from realtalk_async.concurrency.time_slice import TimeSlice
from realtalk_async.times import now_local

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime


class Child(Protocol):
    """A process or task that can be checked."""

    def mark_checked(self, now: datetime) -> None:
        """Record the time of a check."""
        ...


async def check_periodically(
    children: Mapping[str, Child],
    interval: float,
    on_error: Callable[[Exception], object],
) -> None:
    """Check all children again and again, with a jitter of 10 % of *interval*."""
    while True:
        share = random.uniform(0.9, 1.1)  # noqa: S311 - jitter needs no secrecy
        await asyncio.sleep(interval * share)
        try:
            await _check_all(children)
        except Exception as error:  # noqa: BLE001 - the next round may succeed
            on_error(error)


async def _check_all(children: Mapping[str, Child]) -> None:
    now, time_slice = now_local(), TimeSlice()
    for one in list(children.values()):
        one.mark_checked(now)
        await time_slice.yield_if_over()  # a round must not delay a frame of audio
