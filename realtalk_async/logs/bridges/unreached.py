"""
Records of logging that do not reach a handler at the root logger.

Servers such as uvicorn, gunicorn and hypercorn give their loggers handlers of their own and
do not propagate; `logging.config.dictConfig` replaces the root's handlers. Both may happen
at any time, so that the method of the class through which all records go is wrapped.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_handlers: list[logging.Handler] = []
_lock = threading.Lock()
_original = logging.Logger.callHandlers
_logger_class: Any = logging.Logger


class _Passing(threading.local):
    """How many records this thread is passing to their handlers, one within another."""

    depth = 0


_passing = _Passing()


def is_passing() -> bool:
    """Return whether this thread is passing a record to its handlers."""
    return _passing.depth > 0


def add(handler: logging.Handler) -> Callable[[], None]:
    """
    Give *handler* each record that does not reach it by its place in the hierarchy.

    Returns:
        A function that undoes this.
    """
    global _original
    with _lock:
        if not _handlers and logging.Logger.callHandlers is not _call_handlers:
            _original = logging.Logger.callHandlers
            _logger_class.callHandlers = _call_handlers
        _handlers.append(handler)

    def remove() -> None:
        with _lock:
            _handlers.remove(handler)
            if not _handlers and logging.Logger.callHandlers is _call_handlers:
                _logger_class.callHandlers = _original

    return remove


def _call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
    if not _handlers:  # other code has wrapped this function and calls it still
        _original(self, record)
        return
    _passing.depth += 1
    try:
        for handler in _handlers[:]:
            if record.levelno >= handler.level and not _reaches(self, handler):
                handler.handle(record)
        _original(self, record)
    finally:
        _passing.depth -= 1


def _reaches(logger: logging.Logger, handler: logging.Handler) -> bool:
    """Return whether *logger* passes its records to *handler*."""
    current: logging.Logger | None = logger
    while current is not None:
        if handler in current.handlers:
            return True
        current = current.parent if current.propagate else None
    return False
