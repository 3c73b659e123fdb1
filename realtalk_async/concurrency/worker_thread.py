"""
A thread for blocking jobs, which ends with its owner.

Jobs run one after the other, in the order of submission: an object that only jobs use
needs no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


class Worker:
    """
    A thread that starts with the first job and ends with `aclose`.

    Args:
        name: The name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._executor: ThreadPoolExecutor | None = None
        self._closed = False

    def post(self, job: Callable[[], object]) -> None:
        """Queue *job* without waiting for it; its exception is logged."""
        if not self._closed:
            future = self._running().submit(self._unless_closed, job)
            future.add_done_callback(_log_error)

    def run(self, job: Callable[[], Result]) -> asyncio.Future[Result]:
        """
        Queue *job* and return a future of its result.

        Raises:
            RuntimeError: If the worker was closed.

        Cancellation: A job that has started continues, and its result is dropped.
        """
        if self._closed:
            raise RuntimeError(f"the worker {self._name!r} is closed")
        return asyncio.get_running_loop().run_in_executor(self._running(), job)

    async def aclose(self) -> None:
        """
        Wait for the running job, drop the queued ones, and end the thread.

        Idempotent. Takes as long as the running job.
        """
        self._closed = True
        executor, self._executor = self._executor, None
        if executor is None:
            return
        # Joining a busy thread would block the loop: wait for a last, empty job first.
        last = executor.submit(_do_nothing)
        executor.shutdown(wait=False)
        with anyio.CancelScope(shield=True), contextlib.ExitStack() as stack:
            stack.callback(executor.shutdown, wait=True)
            await asyncio.wrap_future(last)

    def _running(self) -> ThreadPoolExecutor:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix=self._name)
        return self._executor

    def _unless_closed(self, job: Callable[[], object]) -> None:
        if not self._closed:
            job()


def _do_nothing() -> None:
    return


def _log_error(future: Future[None]) -> None:
    if not future.cancelled() and (error := future.exception()):
        _log.error("a queued job of a worker thread failed", exc_info=error)
