"""kqueue(2) of macOS and BSD: readable descriptors, and the exits of processes."""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

assert sys.platform != "linux" or hasattr(select, "kqueue")

MOST = 64
"""Events that one call returns; the rest comes with the next."""


class KqueueReadiness:
    """A `Readiness`: a kqueue."""

    def __init__(self) -> None:
        self._queue = select.kqueue()
        self.fileno = self._queue.fileno
        self.close = self._queue.close

    def watch(self, descriptor: int) -> None:
        """Add a descriptor."""
        self._change(descriptor, select.KQ_EV_ADD)

    def unwatch(self, descriptor: int) -> None:
        """Remove a descriptor."""
        self._change(descriptor, select.KQ_EV_DELETE)

    def readable(self) -> Iterable[int]:
        """Return the descriptors that are readable now, or at their end."""
        return [event.ident for event in self._queue.control(None, MOST, 0)]

    def _change(self, descriptor: int, flags: int) -> None:
        change = select.kevent(descriptor, select.KQ_FILTER_READ, flags)
        self._queue.control([change], 0)


class ExitQueue:
    """
    A kqueue that is readable once a process has exited.

    Its one event is not taken out of it, so that it stays readable. The notice may come
    some microseconds before the exit status can be read.

    Raises:
        ProcessLookupError: If the process has exited already.
        OSError: If no descriptor is left.
    """

    def __init__(self, pid: int) -> None:
        self._queue = select.kqueue()
        self.fileno = self._queue.fileno
        self.close = self._queue.close
        flags = select.KQ_EV_ADD | select.KQ_EV_ONESHOT
        notice = select.kevent(
            pid, select.KQ_FILTER_PROC, flags, select.KQ_NOTE_EXIT
        )
        try:
            self._queue.control([notice], 0)
        except BaseException:
            self._queue.close()
            raise

    def has_exited(self) -> bool:
        """Return whether the notice is there."""
        poller = select.poll()
        poller.register(self._queue.fileno(), select.POLLIN)
        return bool(poller.poll(0))

