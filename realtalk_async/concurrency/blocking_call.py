"""
Calls of a function that may block, in a daemon thread.

The threads of a pool are no daemons: a function that never returns, such as a read from a
lost device, would prevent the exit of the app.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import queue
import threading
from typing import TYPE_CHECKING, TypeAlias

from realtalk_async.concurrency.daemon_thread import set_error

if TYPE_CHECKING:
    from collections.abc import Callable

_Job: TypeAlias = tuple["asyncio.Future[object]", tuple[object, ...]]


class Blocking:
    """
    Calls a function in a thread; await the object to get the result. Calls never overlap.

    Args:
        function: The function.
        name: The name of the thread.
    """

    def __init__(self, function: Callable[..., object], name: str) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def __call__(self, *arguments: object) -> object:
        """
        Call the function, and return what it returns.

        Raises:
            Exception: The exception of the function. A `RuntimeError` replaces exceptions
                that would end more than a task, such as `SystemExit`.

        Cancellation: The call continues, and its result is dropped.
        """
        answer: asyncio.Future[object] = self._loop.create_future()
        self._jobs.put((answer, arguments))
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and not answer.exception():
                _drop(answer.result())
            raise

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            answer, arguments = job
            try:
                result = self._function(*arguments)
            except BaseException as error:  # noqa: BLE001 - it is raised in the loop
                self._call_in_loop(set_error, answer, error)
            else:
                self._call_in_loop(_succeed, answer, result)
        self._call_in_loop(self._ended.set)

    def _call_in_loop(
        self, callback: Callable[..., object], *arguments: object
    ) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(callback, *arguments)

    async def wait_ended(self) -> None:
        """Wait until the thread has ended, after `aclose`."""
        await self._ended.wait()

    async def aclose(self, grace: float = 1.0) -> bool:
        """
        End the thread; return whether it has ended within *grace* seconds.

        Cancellation: The thread still ends after its current call.
        """
        self._jobs.put(None)
        try:
            async with asyncio.timeout(grace):
                await self._ended.wait()
        except TimeoutError:
            return False
        self._thread.join()  # its last statement has run
        return True


def _succeed(answer: asyncio.Future[object], result: object) -> None:
    if answer.done():
        _drop(result)
    else:
        answer.set_result(result)


def _drop(result: object) -> None:
    """Close a coroutine, which would otherwise warn that it was never awaited."""
    if inspect.iscoroutine(result):
        result.close()
