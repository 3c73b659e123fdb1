"""
The bridge to structlog: bound loggers, and a processor that forwards structlog's events.

This is the only module that imports structlog, which costs more than the rest of the
package. `Logger.bind` imports it, and `install` if the app has imported structlog.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import structlog

from realtalk_async import arguments
from realtalk_async.logs.bridges.log_protocol import Log, call_of, show_exc_info
from realtalk_async.logs.entry import Level
from realtalk_async.logs.serialize import show_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import EventDict, WrappedLogger

    from realtalk_async.logs.writer import PendingWrite

# All context variables that were ever bound. While there is none, a call of
# `get_contextvars`, which costs more than the whole log call, is not needed.
_CONTEXT_VARIABLES: Mapping[str, object] = getattr(
    structlog.contextvars, "_CONTEXT_VARS", {"": 0}
)
_LEVEL_OF_METHOD = {
    "warning": Level.WARNING,
    "warn": Level.WARNING,
    "error": Level.ERROR,
    "exception": Level.ERROR,
    "critical": Level.ERROR,
    "fatal": Level.ERROR,
}


class StructlogProcessor:
    """
    A processor of structlog that forwards events to a log and passes them on.

    The component is the value of ``component``, or of ``logger``, or the name of the
    wrapped logger, or ``structlog``. Its place is before the renderer; as the last
    processor it needs ``last=True``.
    """

    def __init__(self, logger: Log, *, last: bool = False) -> None:
        """
        Forward to *logger*; if *last*, the processor drops the event afterwards.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.a_logger("logger", logger)
        arguments.flag("last", last)
        self._logger = logger
        self._last = last

    def __call__(
        self, wrapped: WrappedLogger, method_name: str, event_dict: EventDict
    ) -> EventDict:
        """Write the event; structlog calls this."""
        rest: dict[str, object] = dict(event_dict)
        named: object = rest.pop("logger", None) or getattr(wrapped, "name", None)
        component = rest.pop("component", None) or named or "structlog"
        for key in ("level", "timestamp"):
            rest.pop(key, None)
        message = rest.pop("event", "")
        exception = rest.pop("exc_info", None)
        if exception or method_name == "exception":
            rest["exception"] = show_exc_info(exception)
        write = call_of(self._logger, _LEVEL_OF_METHOD.get(method_name, Level.INFO))
        write(show_text(component), show_text(message), rest)
        if self._last:
            raise structlog.DropEvent
        return event_dict


class Component(NamedTuple):
    """A log, and the component of a `BoundLogger`."""

    log: Log
    name: str


class BoundLogger(structlog.BoundLoggerBase):
    """
    A log for one component, with values for each of its entries.

    It is a bound logger of structlog: ``bind``, ``unbind`` and ``new`` return another
    one, and its entries include ``structlog.contextvars``. The context of an entry has
    precedence over bound values, and these over context variables. The global processors
    of structlog do not apply; see `StructlogProcessor` for those.

        mic = logger.bind("mic", {"device": "hw:0"})
        mic.info("started", {"pid": 4711})
    """

    _logger: Component
    _context: dict[str, object]

    def info(
        self, message: str, context: Mapping[str, object] | None = None
    ) -> PendingWrite:
        """Log normal operation; see `Logger.info`."""
        log, name = self._logger
        if self._context or _CONTEXT_VARIABLES:
            context = self._merged(context)
        return log.info(name, message, context)

    def warning(
        self, message: str, context: Mapping[str, object] | None = None
    ) -> PendingWrite:
        """Log an event that may need attention; see `Logger.warning`."""
        log, name = self._logger
        return log.warning(name, message, self._merged(context))

    def error(
        self, message: str, context: Mapping[str, object] | None = None
    ) -> PendingWrite:
        """Log a failure; see `Logger.error`."""
        log, name = self._logger
        return log.error(name, message, self._merged(context))

    def exception(
        self, message: str, context: Mapping[str, object] | None = None
    ) -> PendingWrite:
        """Log a failure with the traceback of the current exception."""
        with_exception = {} if context is None else dict(context)
        with_exception["exception"] = show_exc_info(None)
        return self.error(message, with_exception)

    def log(
        self, level: str, message: str, context: Mapping[str, object] | None = None
    ) -> PendingWrite:
        """
        Log at *level*: INFO, WARNING or ERROR; see `Logger.log`.

        Raises:
            InvalidConfiguration: If *level* is unknown.
        """
        log, name = self._logger
        return call_of(log, Level.of(level))(name, message, self._merged(context))

    def _merged(
        self, context: Mapping[str, object] | None
    ) -> Mapping[str, object] | None:
        if not self._context and not _CONTEXT_VARIABLES:
            return context
        bound = {**structlog.contextvars.get_contextvars(), **self._context}
        return bound if context is None else {**bound, **context}


def forward_structlog(logger: Log) -> Callable[[], None]:
    """Put a processor before structlog's renderer; return a function that removes it."""
    was_configured = structlog.is_configured()
    before = structlog.get_config()
    processors = list(before["processors"])
    ours = StructlogProcessor(logger, last=not processors)
    structlog.configure(processors=[*processors[:-1], ours, *processors[-1:]])
    now = structlog.get_config()["processors"]

    def restore() -> None:
        # Loggers that were bound meanwhile keep this list.
        now[:] = processors
        current = structlog.get_config()["processors"]
        if current is not now:  # structlog was configured again since
            current[:] = [each for each in current if each is not ours]
        elif was_configured:
            structlog.configure(processors=before["processors"])
        else:
            structlog.reset_defaults()

    return restore
