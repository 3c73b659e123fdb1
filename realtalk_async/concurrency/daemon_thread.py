"""One call of a function that may block, in a daemon thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Argument = TypeVar("Argument")
Result = TypeVar("Result")

pending_calls: set[asyncio.Future[Any]] = set()
"""The answers of the calls whose functions still run; a loop in virtual time waits for them."""


async def call_in_thread(function: Callable[[], Result], name: str) -> Result:
    """
    Call *function* in a new thread, with the context variables of the caller.

    A pool of threads that others use as well, such as anyio's or the default executor of
    the loop, may be full of calls that block: a new thread does not wait for them.

    Args:
        function: The function.
        name: The name of the thread.

    Returns:
        What the function returns.

    Raises:
        Exception: The exception of the function. A `RuntimeError` replaces exceptions
            that would end more than a task, such as `SystemExit`, and `StopIteration`.

    Cancellation: The function continues in its thread, which ends with it, and its result
    is dropped. Nothing can end a function that blocks for ever; as its thread is a daemon,
    it does not prevent the exit of the app.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Result] = loop.create_future()
    pending_calls.add(answer)
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result = context.run(function)
        except BaseException as error:  # noqa: BLE001 - it is raised in the loop
            what = error
            call_in_loop(lambda: set_error(answer, what))
        else:
            call_in_loop(lambda: _succeed(answer, result))

    def call_in_loop(callback: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(callback)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        result = await answer
    finally:
        pending_calls.discard(answer)
    thread.join()  # its last statement has run
    return result


async def call_function(
    function: Callable[[Argument], Result | Awaitable[Result]],
    argument: Argument,
    name: str,
) -> Result:
    """
    Call a function of the app, async or not; one that is not runs in a new thread.

    Args:
        function: The function, or an object that can be called.
        argument: Its argument.
        name: The name of the thread.

    Returns:
        What the function, or the awaitable that it returns, results in.

    Raises:
        Exception: The exception of the function, see `call_in_thread`.

    Cancellation: As that of `call_in_thread`; an async function is cancelled.
    """
    call = getattr(function, "__call__", None)  # noqa: B004 - the object may be callable
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
        result = function(argument)
    else:
        result = await call_in_thread(partial(function, argument), name)
    if inspect.isawaitable(result):
        return await result
    return result


def _succeed(answer: asyncio.Future[Result], result: Result) -> None:
    if not answer.done():
        answer.set_result(result)


def set_error(answer: asyncio.Future[Result], error: BaseException) -> None:
    """End *answer* with an error of a function that ran in a thread."""
    if answer.done():
        return
    if isinstance(error, StopIteration) or not isinstance(error, Exception):
        # A future refuses StopIteration; SystemExit and the like would end the loop.
        named = RuntimeError(f"the function raised {error!r}")
        named.__cause__, error = error, named
    answer.set_exception(error)
