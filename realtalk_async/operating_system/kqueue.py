"""kqueue(2) of macOS and BSD: readable descriptors, and the exits of processes."""

from __future__ import annotations

import select
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterable

kq: Any = select
"""The module `select`: its kqueue has types on macOS only."""

MOST = 64
"""Events that one call returns; the rest comes with the next."""


class KqueueReadiness:
    """A `Readiness`: a kqueue."""

    def __init__(
        self, loop: AbstractEventLoop, on_readable: Callable[[], object]
    ) -> None:
        self._queue = kq.kqueue()
        try:
            loop.add_reader(self._queue.fileno(), on_readable)
        except OSError:
            self._queue.close()
            raise
        self._loop = weakref.ref(loop)

    def close(self) -> None:
        """Close the kqueue."""
        if (loop := self._loop()) is not None:
            loop.remove_reader(self._queue.fileno())
        self._queue.close()

    def watch(self, descriptor: int) -> None:
        """Add a descriptor."""
        self._change(descriptor, kq.KQ_EV_ADD)

    def unwatch(self, descriptor: int) -> None:
        """Remove a descriptor."""
        self._change(descriptor, kq.KQ_EV_DELETE)

    def readable(self) -> Iterable[int]:
        """Return the descriptors that are readable now, or at their end."""
        return [event.ident for event in self._queue.control(None, MOST, 0)]

    def _change(self, descriptor: int, flags: int) -> None:
        change = kq.kevent(descriptor, kq.KQ_FILTER_READ, flags)
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
        self._queue = kq.kqueue()
        self.fileno: Callable[[], int] = self._queue.fileno
        self.close: Callable[[], None] = self._queue.close
        flags = kq.KQ_EV_ADD | kq.KQ_EV_ONESHOT
        notice = kq.kevent(pid, kq.KQ_FILTER_PROC, flags, kq.KQ_NOTE_EXIT)
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
