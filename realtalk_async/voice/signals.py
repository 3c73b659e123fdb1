"""
Ctrl-C and SIGTERM for a session that is the whole of a script. An edge.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """
    While the block runs, the first SIGINT or SIGTERM calls *callback* with its name.

    The second one does what it would have done without us, as for an end that hangs.
    Nothing is touched outside the main thread, nor where the app has a handler of its
    own; what was there before is put back.
    """

    def __init__(self, callback: Callable[[str], None], *, enabled: bool) -> None:
        self._callback = callback
        self._enabled = enabled
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        """Begin to listen."""
        in_main = threading.current_thread() is threading.main_thread()
        if self._enabled and in_main:
            loop = asyncio.get_running_loop()
            for number in _NUMBERS:
                before = signal.getsignal(number)
                if _is_nobodys(before):
                    loop.add_signal_handler(number, self._caught, number)
                    self._before[number] = before
        return self

    def _caught(self, number: signal.Signals) -> None:
        self._restore()
        self._callback(number.name)

    def _restore(self) -> None:
        loop = asyncio.get_running_loop()
        for number, before in self._before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, before)  # type: ignore[arg-type]  # what getsignal gave
        self._before.clear()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put back what was there before."""
        self._restore()


def _is_nobodys(handler: object) -> bool:
    """Return whether *handler* is Python's own, or that of `asyncio.run`."""
    if handler in (signal.SIG_DFL, signal.default_int_handler):
        return True
    runner = getattr(getattr(handler, "func", None), "__self__", None)
    return isinstance(runner, asyncio.Runner)
