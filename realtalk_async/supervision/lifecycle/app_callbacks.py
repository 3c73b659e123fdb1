"""
Calls of the app's restart and recovery functions.

Such a function may block, hang, raise or return a wrong type: each call is bounded in time
and becomes a `StartRefused` at worst.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, cast

from realtalk_async.concurrency.daemon_thread import call_in_thread
from realtalk_async.supervision.command import Command
from realtalk_async.supervision.lifecycle.incarnation import discard

Process = asyncio.subprocess.Process
Source = Command | Process
RestartFunction = Callable[..., object]
"""
Returns a new process, or a `Command` for one; sync or async. If it requires an argument, or
has a parameter named ``report``, it receives the `IncarnationReport` of the last incarnation.
"""

Result = TypeVar("Result")

CALLBACK_TIMEOUT = 10.0
"""Seconds that a function of the app may take."""

THREAD_NAME = "realtalk-async calls a function of the app"
"""
Names the thread of a sync function: one thread for each call. A function that blocks for
ever keeps its thread, as nothing can end it; the thread is a daemon, and does not prevent
the exit of the app.
"""

CANCELLATION_GRACE = 0.02
"""Seconds that a cancelled function may take to end; a stop waits no longer."""


class Waitable(Protocol):
    """A `LightEvent` or an `asyncio.Event`."""

    def is_set(self) -> bool:
        """Return whether it is set."""
        ...

    async def wait(self) -> object:
        """Wait until it is set."""
        ...


class StartRefused(Exception):
    """There is no new process to start; the message says why."""


class InternalFailure(StartRefused):
    """An error of this package came between two incarnations."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"internal error: {error!r}")


class StartImpossible(StartRefused):
    """There is no new process to start, and another attempt cannot succeed either."""


async def call_app_function(
    function: RestartFunction, report: object, what: str, *, stopped: Waitable
) -> Source | None:
    """
    Call a function of the app that returns a process or a command.

    A sync function runs in a thread, so that it cannot block the loop.

    Args:
        function: The app's function.
        report: The argument of the function, if it takes one.
        what: The name of the function in messages.
        stopped: The call is cancelled when this is set.

    Raises:
        StartRefused: If the function raises, takes longer than `CALLBACK_TIMEOUT`,
            returns something else, or was cancelled.
    """
    if isinstance(function, Command):
        return function
    arguments = (report,) if _takes_argument(function) else ()
    try:
        async with asyncio.timeout(CALLBACK_TIMEOUT):
            made = await run_unless_stopped(stopped, _call(function, *arguments))
    except TimeoutError:
        raise StartRefused(
            f"the {what} did not return within {CALLBACK_TIMEOUT:g} s"
        ) from None
    except StartRefused:
        raise
    except Exception as exc:
        raise StartRefused(f"the {what} raised {exc!r}") from exc
    if made is None or isinstance(made, (Command, Process)):
        return made
    raise StartRefused(f"the {what} returned {made!r}, not a new process or a Command")


async def run_unless_stopped(stopped: Waitable, call: Awaitable[Result]) -> Result:
    """
    Await *call*; cancel it as soon as *stopped* is set.

    Raises:
        StartRefused: If *stopped* was set first.
    """
    task = asyncio.ensure_future(call)
    stop = asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise StartRefused("the process was stopped meanwhile")
        return task.result()
    finally:
        stop.cancel()
        if task.cancel():
            task.add_done_callback(_discard_result)
            await asyncio.wait([task], timeout=CANCELLATION_GRACE)


def _takes_argument(function: RestartFunction) -> bool:
    """Return whether *function* requires an argument or has a parameter ``report``."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return False
    return any(
        one.name == "report" or (one.default is one.empty and one.kind in _POSITIONAL)
        for one in parameters
    )


_POSITIONAL = {
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
}


async def _call(function: RestartFunction, *arguments: object) -> object:
    """Call a coroutine function in the loop, any other function in a thread."""
    if inspect.iscoroutinefunction(function):
        made: object = await function(*arguments)
        return made
    made = await _call_in_thread(function, *arguments)
    if isinstance(made, Awaitable):
        return await cast("Awaitable[object]", made)
    return made


async def _call_in_thread(function: RestartFunction, *arguments: object) -> object:
    """Call a function in a thread; end a process that it makes after a cancellation."""
    loop, made = asyncio.get_running_loop(), list[object]()
    is_cancelled = False

    def call() -> None:
        made.append(function(*arguments))
        if is_cancelled:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(discard_all)

    def discard_all() -> None:
        while made:
            _discard(made.pop())

    try:
        await call_in_thread(call, THREAD_NAME)
    except asyncio.CancelledError:
        is_cancelled = True
        discard_all()
        raise
    return made.pop()


def _discard_result(task: asyncio.Future[Any]) -> None:
    """End a process that the function made after its call was cancelled."""
    if not task.cancelled() and task.exception() is None:
        _discard(task.result())


def _discard(made: object) -> None:
    if isinstance(made, Process):
        discard(made)
