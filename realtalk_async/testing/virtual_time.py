"""
Virtual time: an event loop that does not wait for its timers, but jumps to the next one.

An hour of backoff or grace takes milliseconds, in the order in which it would have come.
Use it where a timer is meant to win. *A jump waits for nobody*: a child or a thread that
takes a while in real time is overtaken by every timer, ``asyncio.timeout`` too. Give such
a test a loop with patience, and let it wait for what a child has done before it sleeps.

With anyio's plugin::

    @pytest.fixture
    def anyio_backend():
        return "asyncio", {"loop_factory": VirtualTimeLoop}

With pytest-asyncio (1.4 or newer), in ``conftest.py``::

    def pytest_asyncio_loop_factories(config, item):
        return {"virtual": VirtualTimeLoop}

Without either, or for one test: the fixture ``virtual_time``.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine


Result = TypeVar("Result")


class JumpingSelector(selectors.DefaultSelector):
    """
    A selector that does not wait, but moves its clock.

    Args:
        patience: Real seconds in which something may happen before each jump.
    """

    def __init__(self, patience: float) -> None:
        super().__init__()
        self.now = time.monotonic()
        self._patience = patience

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what has happened; if nothing has, let *timeout* seconds pass at once."""
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        events = super().select(min(timeout, self._patience))
        if not events:
            self.now += timeout
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """
    An event loop whose `time` is virtual.

    Args:
        patience: Real seconds in which something may happen before each jump: 0 unless
            said, so that only what has happened already goes before a timer.
    """

    def __init__(self, patience: float = 0.0) -> None:
        self._clock = JumpingSelector(patience)
        super().__init__(self._clock)

    def time(self) -> float:
        """Return virtual seconds; they begin with those of `time.monotonic`."""
        return self._clock.now


def run(work: Coroutine[Any, Any, Result], *, patience: float = 0.0) -> Result:
    """Run *work* in a loop of its own with virtual time, and return what it returns."""
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(patience)) as runner:
        return runner.run(work)
