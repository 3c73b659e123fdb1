"""Calling the app's own functions for a new process, whatever they do. An edge."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, cast

import anyio.to_thread

from realtalk_async.supervision.command import Command
from realtalk_async.supervision.lifecycle.incarnation import discard

Process = asyncio.subprocess.Process
Source = Command | Process
RestartFunction = Callable[..., object]
"""
Returns a new process, or a `Command` for one; sync or async. If it needs an argument, or
has one that is called ``report``, it is given the `IncarnationReport` of what died.
"""

Result = TypeVar("Result")

PATIENCE = 10.0
"""Seconds that a function of the app may take."""

CANCELLING = 0.02
"""Seconds that it may take to end when it is cancelled: a stop does not wait for it."""


class Waited(Protocol):
    """What can be set, and waited for: a `LightEvent` or an `asyncio.Event`."""

    def is_set(self) -> bool:
        """Return whether it is set."""
        ...

    async def wait(self) -> object:
        """Wait until it is set."""
        ...


class StartRefused(Exception):
    """No new process could be had; the message says why."""


class StartImpossible(StartRefused):
    """And trying again cannot mend that."""


async def ask(
    function: RestartFunction, report: object, what: str, *, stopped: Waited
) -> Source | None:
    """
    Call a function of the app for something to run.

    A sync function runs in a thread, so that it cannot hold the loop.

    Args:
        function: The app's function.
        report: What it is given if it takes an argument.
        what: What it is called in messages.
        stopped: The call is given up when this is set.

    Raises:
        Refused: If it raises, takes longer than `PATIENCE`, returns something else, or
            was given up.
    """
    if isinstance(function, Command):
        return function
    arguments = (report,) if _takes_argument(function) else ()
    try:
        async with asyncio.timeout(PATIENCE):
            made = await unless(stopped, _call(function, *arguments))
    except TimeoutError:
        raise StartRefused(f"the {what} did not return within {PATIENCE:g} s") from None
    except StartRefused:
        raise
    except Exception as exc:
        raise StartRefused(f"the {what} raised {exc!r}") from exc
    if made is None or isinstance(made, (Command, Process)):
        return made
    raise StartRefused(f"the {what} returned {made!r}, not a new process or a Command")


async def unless(stopped: Waited, call: Awaitable[Result]) -> Result:
    """
    Await *call*, but not beyond the moment that *stopped* is set.

    Raises:
        Refused: If it was set; the call has been cancelled then.
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
            await asyncio.wait([task], timeout=CANCELLING)


def _takes_argument(function: RestartFunction) -> bool:
    """Return whether *function* needs an argument, or has one that is called report."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin that does not tell
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
    """Call a coroutine function here, any other in a thread."""
    if inspect.iscoroutinefunction(function):
        made: object = await function(*arguments)
        return made
    made = await _call_in_thread(function, *arguments)
    if isinstance(made, Awaitable):
        return await cast("Awaitable[object]", made)
    return made


async def _call_in_thread(function: RestartFunction, *arguments: object) -> object:
    """Call a function in a thread; what it makes after we are cancelled is ended."""
    loop, made = asyncio.get_running_loop(), list[object]()
    given_up = False

    def call() -> None:
        made.append(function(*arguments))
        if given_up:
            with contextlib.suppress(RuntimeError):  # the loop has ended, too
                loop.call_soon_threadsafe(discard_all)

    def discard_all() -> None:
        while made:
            _discard(made.pop())

    try:
        await anyio.to_thread.run_sync(call, abandon_on_cancel=True)
    except asyncio.CancelledError:
        given_up = True
        discard_all()
        raise
    return made.pop()


def _discard_result(task: asyncio.Future[Any]) -> None:
    """End what was made although it was not wanted any more."""
    if not task.cancelled() and task.exception() is None:
        _discard(task.result())


def _discard(made: object) -> None:
    if isinstance(made, Process):
        discard(made)
