"""Coroutines that run until the manager ends; none of them can prevent its end."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING

from realtalk_async import events
from realtalk_async.events import MANAGER
from realtalk_async.supervision.coordination.shutdown import KILL_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class BackgroundWork:
    """
    The coroutines that run in the background of one manager.

    Args:
        publish: Called with an event for each coroutine that ignores its cancellation.
        on_error: Called with the exception of a coroutine.
    """

    def __init__(
        self,
        publish: Callable[[events.Event], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._publish = publish
        self._on_error = on_error
        self._tasks: set[asyncio.Task[None]] = set()

    def run(
        self, tasks: asyncio.TaskGroup, work: Coroutine[None, None, None], name: str
    ) -> None:
        """Run *work* in a task group until it ends, or `cancel` is called."""
        task = tasks.create_task(self._run(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: _close_unused(work))

    def cancel(self) -> None:
        """Cancel all coroutines."""
        for task in self._tasks:
            task.cancel()

    async def _run(self, work: Coroutine[None, None, None], name: str) -> None:
        """Await *work*; if it ignores its cancellation, leave it behind."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task], timeout=KILL_WAIT)
            if not task.done():
                what = f"it ignored its cancellation for {KILL_WAIT:g} s and still runs"
                self._publish(
                    events.CallbackFailed(process=MANAGER, callback=name, reason=what)
                )
                raise
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):  # it must not end the task group
            self._on_error(error)
        elif error is not None:
            raise error


def _close_unused(work: Coroutine[None, None, None]) -> None:
    """Close a coroutine that was never started: Python would warn."""
    is_native = inspect.iscoroutine(work)
    if not is_native or inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
        work.close()
