"""A set of long-lived tasks with one owner, which ends them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class TaskSet:
    """
    A set of tasks that the owner ends with `aclose`; it suits thousands of tasks.

    Unlike in an `asyncio.TaskGroup`, a failed task does not cancel the others: the owner
    is notified and shuts down in its own order.

    Args:
        on_failure: Called when a task has raised.
    """

    def __init__(self, on_failure: Callable[[], None]) -> None:
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    def add(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Run *work* as a task."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error
            self._on_failure()

    @property
    def names(self) -> list[str]:
        """The names of the running tasks."""
        return [task.get_name() for task in self._tasks]

    def cancel(self) -> None:
        """Cancel all tasks, without waiting."""
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        """
        Cancel all tasks and wait for their end.

        Raises:
            BaseException: The exception of the first task that failed.

        Cancellation: All tasks are cancelled; some may not have ended yet.
        """
        while self._tasks:
            self.cancel()
            await asyncio.wait(self._tasks)
            await asyncio.sleep(0)  # the done callbacks remove the tasks
        if self._failure is not None:
            raise self._failure
