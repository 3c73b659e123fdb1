"""Tasks that end no later than the one who runs them. Knows nothing of processes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class TaskSet:
    """
    A group of tasks, for thousands that live long: one task each, and nothing beside it.

    Unlike in a task group, one that fails does not cancel the others: whoever runs the
    crew is told, and ends it in good order.

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
        task.add_done_callback(self._note_end)
        return task

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error
            self._on_failure()

    @property
    def names(self) -> list[str]:
        """The names of those that run."""
        return [task.get_name() for task in self._tasks]

    def cancel(self) -> None:
        """Cancel all of them, without waiting."""
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        """
        Cancel all tasks and wait for their end.

        Raises:
            BaseException: What the first one that failed has raised.

        Cancellation: All have been cancelled; only the waiting is given up.
        """
        while self._tasks:
            self.cancel()
            await asyncio.wait(self._tasks)
            await asyncio.sleep(0)  # each takes its own leave of us
        if self._failure is not None:
            raise self._failure
