"""Events as lines for people, on a pipe or terminal that may be full."""

from __future__ import annotations

import asyncio
import select
import sys
from collections import deque
from typing import TYPE_CHECKING, TextIO

from realtalk_async.supervision.reports.texts import describe_entry

if TYPE_CHECKING:
    from realtalk_async.events.event import Event

MAX_WAITING = 1000
"""Lines that wait while the reader does not read; of more, the newest are dropped."""

RETRY_DELAY = 0.1
"""Seconds between two looks whether the reader reads again."""


class EventPrinter:
    """
    Prints an event as a line, without ever waiting for the reader.

    Args:
        file: Where to print; the `sys.stderr` of that moment if None.
    """

    def __init__(self, file: TextIO | None) -> None:
        self._file = file
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None

    def print(self, event: Event) -> None:
        """Print an event, now or as soon as there is room."""
        entry = None if event.is_detail else event.log_entry()
        if entry is None:
            return
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(describe_entry(entry, event.at))
        else:
            self._dropped += 1
        self._write()

    def _write(self) -> None:
        file = self._file or sys.stderr
        while self._waiting and _has_room(file):
            print(self._waiting.popleft(), file=file, flush=True)
        if self._dropped and not self._waiting and _has_room(file):
            print(f"({self._dropped} events were not printed)", file=file, flush=True)
            self._dropped = 0
        if (self._waiting or self._dropped) and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(RETRY_DELAY, self._retry)

    def _retry(self) -> None:
        self._timer = None
        self._write()


def _has_room(file: TextIO) -> bool:
    """Return whether a line can be written now; True for what is no pipe or terminal."""
    try:
        poller = select.poll()
        poller.register(file.fileno(), select.POLLOUT)
        return bool(poller.poll(0))
    except (AttributeError, OSError, ValueError):  # a file in memory, or a closed one
        return True
