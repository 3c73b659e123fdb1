"""
Where reports go: the three calls of a log, and how an exception is told.
"""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING, Protocol, cast

from realtalk_async.logs.entry import Level
from realtalk_async.logs.serialize import show_repr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from realtalk_async.logs.writer import Written


class Call(Protocol):
    """A log call of one level."""

    def __call__(
        self,
        component: str,
        message: str,
        context: Mapping[str, object] | None = None,
    ) -> Written:
        """Write an entry."""
        ...


class Log(Protocol):
    """What takes the entries: a `Logger`."""

    @property
    def info(self) -> Call:
        """Write an INFO entry."""
        ...

    @property
    def warning(self) -> Call:
        """Write a WARNING entry."""
        ...

    @property
    def error(self) -> Call:
        """Write an ERROR entry."""
        ...


def call_of(log: Log, level: Level) -> Call:
    """Return the log call for *level*."""
    if level is Level.INFO:
        return log.info
    return log.warning if level is Level.WARNING else log.error


def show_traceback(exception: BaseException) -> str:
    """Return the traceback of *exception* as text; never raises."""
    try:
        return "".join(traceback.format_exception(exception)).rstrip()
    except Exception:  # noqa: BLE001 - foreign code: its __str__
        return show_repr(exception)


def exception_text(exception: object) -> str:
    """Return the text of what structlog calls ``exc_info``."""
    candidates = cast(
        "tuple[object, ...]",
        exception if isinstance(exception, tuple) else (exception,),
    )
    for candidate in (*candidates, sys.exc_info()[1]):
        if isinstance(candidate, BaseException):
            return show_traceback(candidate)
    return "none"
