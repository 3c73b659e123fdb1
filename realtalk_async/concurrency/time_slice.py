"""Long work in the event loop, cut into slices: other tasks run in between."""

from __future__ import annotations

import asyncio
import time

MAX_SLICE = 0.0005
"""Seconds that one slice may take: an audio frame is 0.02."""


class TimeSlice:
    """
    Yields to the event loop when one task has run for long enough.

    Args:
        seconds: How long the task may run before it yields.
    """

    def __init__(self, seconds: float = MAX_SLICE) -> None:
        self._seconds = seconds
        self._began = time.monotonic()

    async def yield_if_over(self) -> None:
        """Let other tasks run if the slice is over, and begin a new slice."""
        if time.monotonic() - self._began > self._seconds:
            await asyncio.sleep(0)
            self._began = time.monotonic()
