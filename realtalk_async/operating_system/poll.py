"""poll(2), for systems with neither epoll nor kqueue: the event loop watches each descriptor."""

from __future__ import annotations

import errno
import os
import select
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable


class PollReadiness:
    """A `Readiness`: one system call for each descriptor in each turn of the loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_readable: Callable[[], object]
    ) -> None:
        self._weak_loop = weakref.ref(loop)
        self._on_readable = on_readable
        self._poll = select.poll()
        self._watched: set[int] = set()

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = self._weak_loop()
        assert loop is not None
        return loop

    def watch(self, descriptor: int) -> None:
        """Add a descriptor."""
        self._loop.add_reader(descriptor, self._on_readable)
        self._poll.register(descriptor, select.POLLIN)
        self._watched.add(descriptor)

    def unwatch(self, descriptor: int) -> None:
        """Remove a descriptor."""
        if descriptor not in self._watched:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._watched.remove(descriptor)
        self._poll.unregister(descriptor)
        self._loop.remove_reader(descriptor)

    def readable(self) -> Iterable[int]:
        """Return the descriptors that are readable now, or at their end."""
        return [descriptor for descriptor, _ in self._poll.poll(0)]

    def close(self) -> None:
        """Stop watching all descriptors."""
        for descriptor in list(self._watched):
            self.unwatch(descriptor)
