"""
A function that may block, called in a thread of its own. An edge.

The thread is a daemon, which no pool's is: a function that never returns, as a read
from a device that is gone, must not keep the app from its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import queue
import threading
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

_Job: TypeAlias = tuple["asyncio.Future[object]", tuple[object, ...]]


class Blocking:
    """
    Calls *function* for those who await it; the calls are made one after the other.

    Args:
        function: What is called.
        name: The thread's name.
    """

    def __init__(self, function: Callable[..., object], name: str) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def __call__(self, *arguments: object) -> object:
        """
        Call the function, and return what it returns.

        Raises:
            Exception: What the function raised; a `RuntimeError` in the place of what
                would end more than a task.

        Cancellation: The call goes on, and its result is dropped.
        """
        answer: asyncio.Future[object] = self._loop.create_future()
        self._jobs.put((answer, arguments))
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and not answer.exception():
                _drop(answer.result())
            raise

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            answer, arguments = job
            try:
                result = self._function(*arguments)
            except BaseException as error:  # noqa: BLE001 - it is raised in the loop
                self._tell(_fail, answer, error)
            else:
                self._tell(_succeed, answer, result)
        self._tell(self._ended.set)

    def _tell(self, callback: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(callback, *arguments)

    async def aclose(self, grace: float = 1.0) -> bool:
        """
        End the thread; return whether it has ended within *grace* seconds.

        Cancellation: Only the waiting is given up.
        """
        self._jobs.put(None)
        try:
            async with asyncio.timeout(grace):
                await self._ended.wait()
        except TimeoutError:
            return False
        self._thread.join()  # it has nothing left to do
        return True


def _succeed(answer: asyncio.Future[object], result: object) -> None:
    if answer.done():
        _drop(result)
    else:
        answer.set_result(result)


def _drop(result: object) -> None:
    """Let nobody warn of a coroutine that will not be awaited."""
    if inspect.iscoroutine(result):
        result.close()


def _fail(answer: asyncio.Future[object], error: BaseException) -> None:
    if answer.done():
        return
    if isinstance(error, StopIteration) or not isinstance(error, Exception):
        # No future takes the one; the others would end the loop, not this thread.
        named = RuntimeError(f"the function raised {error!r}")
        named.__cause__, error = error, named
    answer.set_exception(error)
