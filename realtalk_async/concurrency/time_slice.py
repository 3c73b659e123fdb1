"""Long answers, a little at a time: the app's loop is the app's. An edge: the clock."""

from __future__ import annotations

import asyncio
import time

LONGEST = 0.0005
"""Seconds of one turn of the app's loop: an audio frame is 0.02."""


class Breath:
    """Lets others run when one task has held the loop for long."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    async def taken(self) -> None:
        """Let others run if it is time."""
        if time.monotonic() - self._since > LONGEST:
            await asyncio.sleep(0)
            self._since = time.monotonic()
