"""
An event loop in virtual time: it does not wait for its timers but jumps to the next one.

An hour of backoff takes milliseconds, and timers fire in the same order as in real time.
While a call in a thread is pending (``asyncio.to_thread``, an executor, a ``recover=``
function), time passes as it really does. A jump does not wait for children: a child that
needs some real time is overtaken by every timer, `asyncio.timeout` included. For such a test
give the loop a ``real_wait``, and let the test wait for the child's work before it sleeps.

With anyio's plugin::

    @pytest.fixture
    def anyio_backend():
        return "asyncio", {"loop_factory": VirtualTimeLoop}

With pytest-asyncio (1.4 or newer), in ``conftest.py``::

    def pytest_asyncio_loop_factories(config, item):
        return {"virtual": VirtualTimeLoop}

Without either plugin, or for one test: the fixture ``virtual_time``.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack

from realtalk_async import arguments
from realtalk_async.concurrency import daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class VirtualTimeSelector(selectors.DefaultSelector):
    """
    A selector that advances its clock by the timeout instead of waiting.

    Args:
        real_wait: Real seconds to wait for an event before each jump.

    Raises:
        InvalidConfiguration: If *real_wait* is no number of seconds.
    """

    def __init__(self, real_wait: float) -> None:
        arguments.seconds("real_wait", real_wait)
        super().__init__()
        self.now = time.monotonic()
        self._real_wait = real_wait
        self.work_in_threads: Callable[[], bool] = lambda: False
        """Whether a thread works for the loop, so that time passes as it really does."""

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the events that are ready; without any, advance by *timeout* seconds."""
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if self.work_in_threads():
            began = time.monotonic()
            events = super().select(timeout)
            self.now += time.monotonic() - began
            return events
        events = super().select(min(timeout, self._real_wait))
        if not events:
            self.now += timeout
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """
    An event loop whose `time` is virtual.

    Args:
        real_wait: Real seconds to wait for an event before each jump. With 0 only events
            that are ready already precede a timer.
    """

    _closed = True  # until the constructor of the base class has opened the loop

    def __init__(self, real_wait: float = 0.0) -> None:
        self._clock = VirtualTimeSelector(real_wait)
        self._executor_calls: set[asyncio.Future[Any]] = set()
        super().__init__(self._clock)
        self._clock.work_in_threads = self._has_work_in_threads

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[Unpack[Arguments]], Result],
        *args: *Arguments,
    ) -> asyncio.Future[Result]:
        """Call *func* in a thread; virtual time does not jump while it runs."""
        future = super().run_in_executor(executor, func, *args)
        self._executor_calls.add(future)
        future.add_done_callback(self._executor_calls.discard)
        return future

    def _has_work_in_threads(self) -> bool:
        return bool(self._executor_calls) or any(
            each.get_loop() is self for each in list(daemon_thread.pending_calls)
        )

    def time(self) -> float:
        """Return virtual seconds; the first value is that of `time.monotonic`."""
        return self._clock.now


def run(work: Coroutine[Any, Any, Result], *, real_wait: float = 0.0) -> Result:
    """
    Run *work* in a new loop with virtual time, and return its result.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """
    arguments.instance("work", work, Coroutine, "a coroutine")
    arguments.seconds("real_wait", real_wait)
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(real_wait)) as runner:
        return runner.run(work)
