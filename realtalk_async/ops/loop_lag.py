"""Whether an event loop turns, felt from any thread. An edge: a timer of that loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PERIOD = 0.1
"""Seconds between two beats."""


class Pulse:
    """
    A timer that comes late when the loop does.

    Args:
        on_beat: Called in the loop with the seconds by which each beat came late.
    """

    def __init__(self, on_beat: Callable[[float], object]) -> None:
        self._on_beat = on_beat
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to beat in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._arm()

    def stop(self) -> None:
        """Beat no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._due = None

    @property
    def overdue(self) -> float:
        """Seconds by which the next beat is late by now; from any thread."""
        due = self._due  # read once: the loop may change it meanwhile
        return 0.0 if due is None else max(0.0, time.monotonic() - due)

    def _arm(self) -> None:
        assert self._loop is not None  # start was called
        # The clock of all threads; the loop's own may be a virtual one.
        self._due = time.monotonic() + PERIOD
        self._timer = self._loop.call_later(PERIOD, self._beat)

    def _beat(self) -> None:
        late = self.overdue
        self._arm()
        self._on_beat(late)
