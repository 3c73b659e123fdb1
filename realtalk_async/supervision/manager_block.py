"""
The block of a `ProcessManager`: one task group runs the health checks and all lifecycles.

A task of the manager, not the app's task, holds the task group and stops the children:
neither a cancellation of the app's task nor an exception in it can interrupt their shutdown.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

import anyio

from realtalk_async.supervision.inspection import ManagerInspection
from realtalk_async.supervision.kernel.orphan_reaper import reap_orphans
from realtalk_async.supervision.kernel.spawning.descriptor_table import (
    enlarge_descriptor_table,
)

if TYPE_CHECKING:
    from types import TracebackType

    from realtalk_async.supervision.supervisor import Supervisor


class ManagerBlock(ManagerInspection):
    """
    The asynchronous context manager that a `ProcessManager` is.

    Args:
        supervisor: The supervisor of the manager.
        check_interval: Seconds between two rounds of health checks.
    """

    def __init__(self, supervisor: Supervisor, check_interval: float) -> None:
        super().__init__(supervisor)
        self._check_interval = check_interval
        self._guard = supervisor.guard
        self._block_task: asyncio.Task[object] | None = None
        self._cancelled_block = False

    async def __aenter__(self) -> Self:
        """
        Start the guard and the health checks.

        Raises:
            RuntimeError: If the manager was entered before.
            OSError: If the guard cannot be started.
            ContainmentUnavailable: If the manager needs a cgroup that cannot be made.
        """
        if self._main_task is not None:
            raise RuntimeError("a ProcessManager can be entered only once")
        # The first use of anyio loads most of its modules, in about 20 ms: they are loaded
        # here, before any child runs, and not during the first stop.
        _ = anyio.get_current_task()
        await enlarge_descriptor_table()
        self._block_task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        self._main_task = loop.create_task(
            self._run_block(ready), name="realtalk-async manager"
        )
        try:
            await ready
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop all processes; raise the failure if a critical process was lost."""
        cancelled = await self._close()
        failure = self._supervisor.failure
        if failure is None:
            if cancelled:
                raise cancelled
            return
        running = asyncio.current_task()
        if (
            self._cancelled_block
            and running is not None
            and running is self._block_task
        ):
            # The manager cancelled the block: the app's task must not end as cancelled.
            if running.uncancel():
                cancelled = cancelled or asyncio.CancelledError()
            else:
                cancelled = None
                exc = None if isinstance(exc, asyncio.CancelledError) else exc
        if cancelled:
            raise cancelled
        if exc is None or isinstance(exc, Exception):
            raise failure from exc  # the failure may have caused the block's exception

    async def aclose(self) -> None:
        """
        Stop all processes, each after those that depend on it. Idempotent.

        Bounded by ``shutdown_timeout``: then the processes that are left are killed.

        Cancellation: Deferred until all processes are stopped.
        """
        self._check_loop()
        if cancelled := await self._close():
            raise cancelled

    async def _close(self) -> asyncio.CancelledError | None:
        """
        Wait for the end of the manager's task, even if this wait is cancelled repeatedly.

        Returns:
            The deferred cancellation, if there was one.
        """
        self._supervisor.ending.set()
        cancelled: asyncio.CancelledError | None = None
        while self._main_task is not None and not self._main_task.done():
            try:
                await asyncio.wait([self._main_task])
            except asyncio.CancelledError as exc:
                cancelled = exc
        if self._main_task is not None and not self._main_task.cancelled():
            self._main_task.result()
        return cancelled

    async def _run_block(self, ready: asyncio.Future[None]) -> None:
        """
        Run the health checks and all lifecycles in one task group; then stop all children.

        A lifecycle never raises: an error in it ends one incarnation of its child, and the
        others continue.
        """
        try:
            if not await self._start_guard(ready):
                return
            async with asyncio.TaskGroup() as tasks:
                self._supervisor.begin(tasks, self._check_interval)
                self._supervisor.run_in_background(reap_orphans(), "reap orphans")
                self._is_open = True
                if not ready.done():
                    ready.set_result(None)
                await self._supervisor.ending.wait()
                await self._supervisor.end()
        except BaseException:  # the loop is shutting down: there is no time to wait
            self._supervisor.kill_now()
            raise
        finally:
            self._supervisor.ending.set()
            self._is_open = False

    async def _start_guard(self, ready: asyncio.Future[None]) -> bool:
        """Start the guard, make a cgroup; hand errors to the caller that enters the block."""
        try:
            if self._guard is not None:
                self._guard.start()
            self._supervisor.cgroups.require(self._supervisor.cgroups.mechanism)
        except OSError as error:
            if self._guard is not None:
                await self._guard.aclose()
            if not ready.done():
                ready.set_exception(error)
            return False
        return True

    def _cancel_block(self) -> None:
        """Cancel the app's task: a critical process is lost."""
        if self._block_task is not None and not self._block_task.done():
            self._cancelled_block = self._block_task.cancel()
