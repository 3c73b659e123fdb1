"""Calls of a session from other threads, such as that of a tool or of a keyboard."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from realtalk_async.exceptions import WaitExpired

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 10.0
"""Seconds that a call from another thread waits for the event loop."""

Method = TypeVar("Method", bound="Callable[..., Any]")
Result = TypeVar("Result")


class HasLoop(Protocol):
    """An object that lives in an event loop."""

    @property
    def home_loop(self) -> asyncio.AbstractEventLoop | None:
        """That loop; None if it lives in none yet."""
        ...


def callable_from_threads(method: Method) -> Method:
    """
    Run *method* in the event loop of its object, whichever thread calls it.

    A call from another thread waits for the result.

    Raises:
        WaitExpired: If the event loop does not take a call within `LIMIT`.
    """

    @functools.wraps(method)
    def call(self: HasLoop, *args: object, **options: object) -> object:
        loop = self.home_loop
        if loop is None or loop.is_closed() or _runs(loop):
            return method(self, *args, **options)
        return _run_in(loop, lambda: method(self, *args, **options))

    return cast("Method", call)


def _runs(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _run_in(loop: asyncio.AbstractEventLoop, call: Callable[[], Result]) -> Result:
    answer: Future[Result] = Future()

    def run() -> None:
        if not answer.set_running_or_notify_cancel():
            return  # the caller has given up
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller
            answer.set_exception(error)

    loop.call_soon_threadsafe(run, context=copy_context())
    try:
        return answer.result(LIMIT)
    except TimeoutError:
        if answer.done():
            raise  # the method's own
        answer.cancel()
        raise WaitExpired(
            f"the event loop of the stream did not take a call within {LIMIT:g} s"
        ) from None
