"""`Log`: the part of a `Logger` that the bridges call; tracebacks as text."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TYPE_CHECKING, Protocol, cast

from realtalk_async.logs.entry import Level
from realtalk_async.logs.serialize import show_repr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from realtalk_async.logs.writer import PendingWrite


class LogCall(Protocol):
    """A log call of one level."""

    def __call__(
        self,
        component: str,
        message: str,
        context: Mapping[str, object] | None = None,
    ) -> PendingWrite:
        """Write an entry."""
        ...


class Log(Protocol):
    """The calls of a `Logger` that write entries."""

    @property
    def info(self) -> LogCall:
        """Write an INFO entry."""
        ...

    @property
    def warning(self) -> LogCall:
        """Write a WARNING entry."""
        ...

    @property
    def error(self) -> LogCall:
        """Write an ERROR entry."""
        ...


def level_of(number: int) -> Level:
    """Return our level for *number*, a level of logging."""
    if number >= logging.ERROR:
        return Level.ERROR
    return Level.WARNING if number >= logging.WARNING else Level.INFO


def call_of(log: Log, level: Level) -> LogCall:
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


def show_exc_info(exc_info: object) -> str:
    """Return structlog's ``exc_info`` as text: an exception, a tuple, or a flag."""
    candidates = cast(
        "tuple[object, ...]",
        exc_info if isinstance(exc_info, tuple) else (exc_info,),
    )
    for candidate in (*candidates, sys.exc_info()[1]):
        if isinstance(candidate, BaseException):
            return show_traceback(candidate)
    return "none"
