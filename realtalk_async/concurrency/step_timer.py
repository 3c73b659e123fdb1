"""The time for which a function keeps the event loop without a pause."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator


class StepTimer:
    """Measures the longest step of a function: the time that it keeps the event loop."""

    def __init__(self) -> None:
        self.longest = 0.0
        """Seconds."""

    async def run(self, function: Callable[[str], object], argument: str) -> object:
        """Call the function, which returns an awaitable, and await its result."""
        began = time.monotonic()
        made = cast("Awaitable[object]", function(argument))
        self._note(began)
        return await _Steps(made, self._note)

    def _note(self, began: float) -> None:
        self.longest = max(self.longest, time.monotonic() - began)


class _Steps:
    """An awaitable that tells when each step of another one began, once it is over."""

    def __init__(self, inner: Awaitable[object], note: Callable[[float], None]) -> None:
        self._inner = inner
        self._note = note

    def __await__(self) -> Generator[object, object, object]:
        steps = self._inner.__await__()
        resume: Callable[[], object] = lambda: next(steps)  # noqa: E731 - replaced below
        while True:
            began = time.monotonic()
            try:
                waits_for = resume()
            except StopIteration as end:
                return end.value
            finally:
                self._note(began)
            try:
                value = yield waits_for
                resume = partial(_send, steps, value)
            except GeneratorExit:
                _close(steps)
                raise
            except BaseException as error:  # noqa: BLE001 - a cancellation, for the function
                resume = partial(_throw, steps, error)


def _send(steps: Iterator[object], value: object) -> object:
    return (
        cast("Generator[object, object, object]", steps).send(value)
        if hasattr(steps, "send")
        else next(steps)
    )


def _throw(steps: Iterator[object], error: BaseException) -> object:
    if not hasattr(steps, "throw"):
        raise error
    return cast("Generator[object, object, object]", steps).throw(error)


def _close(steps: Iterator[object]) -> None:
    if hasattr(steps, "close"):
        cast("Generator[object, object, object]", steps).close()
