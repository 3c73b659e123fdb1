"""
structlog's side of the log: bound loggers, and the processor that forwards its events.

The only file that loads structlog, which costs more than all the rest of the package: so
it is loaded by the first `Logger.bind`, or when the app has structlog anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import structlog

from realtalk_async.logs.entry import Level
from realtalk_async.logs.log_protocol import Log, call_of, exception_text
from realtalk_async.logs.serialize import show_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import EventDict, WrappedLogger

    from realtalk_async.logs.writer import Written

# Every context variable that was ever bound; while it is empty there is nothing to merge,
# and to ask `get_contextvars` would cost more than the whole log call.
_VARIABLES: Mapping[str, object] = getattr(
    structlog.contextvars, "_CONTEXT_VARS", {"": 0}
)
_FROM_METHOD = {
    "warning": Level.WARNING,
    "warn": Level.WARNING,
    "error": Level.ERROR,
    "exception": Level.ERROR,
    "critical": Level.ERROR,
    "fatal": Level.ERROR,
}


class StructlogProcessor:
    """
    Forwards structlog's events, as one of its processors, and passes them on.

    The component is the value of ``component``, or of ``logger``, or the wrapped
    logger's name; else ``structlog``. Put it before the renderer; as the last of the
    chain it needs ``last=True``.
    """

    def __init__(self, logger: Log, *, last: bool = False) -> None:
        """Forward to *logger*; if it is *last*, the event ends here."""
        self._logger = logger
        self._last = last

    def __call__(
        self, wrapped: WrappedLogger, method_name: str, event_dict: EventDict
    ) -> EventDict:
        """Write the event; called by structlog."""
        rest: dict[str, object] = dict(event_dict)
        named: object = rest.pop("logger", None) or getattr(wrapped, "name", None)
        component = rest.pop("component", None) or named or "structlog"
        for key in ("level", "timestamp"):
            rest.pop(key, None)
        message = rest.pop("event", "")
        exception = rest.pop("exc_info", None)
        if exception or method_name == "exception":
            rest["exception"] = exception_text(exception)
        write = call_of(self._logger, _FROM_METHOD.get(method_name, Level.INFO))
        write(show_text(component), show_text(message), rest)
        if self._last:
            raise structlog.DropEvent
        return event_dict


class Component(NamedTuple):
    """Who a `BoundLogger` speaks for, and where to."""

    log: Log
    name: str


class BoundLogger(structlog.BoundLoggerBase):
    """
    A log for one component, with values that go into each of its entries.

    It is one of structlog's bound loggers: ``bind``, ``unbind`` and ``new`` return
    another one, and what ``structlog.contextvars`` has bound is in the entries too. An
    entry's own context comes before bound values, these before context variables. Its
    processors are not structlog's global ones; see `StructlogProcessor` for those.

        mic = logger.bind("mic", {"device": "hw:0"})
        mic.info("started", {"pid": 4711})
    """

    _logger: Component
    _context: dict[str, object]

    def info(
        self, message: str, context: Mapping[str, object] | None = None
    ) -> Written:
        """Log normal operation; see `Logger.info`."""
        log, name = self._logger
        if self._context or _VARIABLES:
            context = self._merged(context)
        return log.info(name, message, context)

    def warning(
        self, message: str, context: Mapping[str, object] | None = None
    ) -> Written:
        """Log what may need attention; see `Logger.warning`."""
        log, name = self._logger
        return log.warning(name, message, self._merged(context))

    def error(
        self, message: str, context: Mapping[str, object] | None = None
    ) -> Written:
        """Log a failure; see `Logger.error`."""
        log, name = self._logger
        return log.error(name, message, self._merged(context))

    def exception(
        self, message: str, context: Mapping[str, object] | None = None
    ) -> Written:
        """Log a failure with the traceback of the exception that is being handled."""
        told = {} if context is None else dict(context)
        told["exception"] = exception_text(None)
        return self.error(message, told)

    def log(
        self, level: str, message: str, context: Mapping[str, object] | None = None
    ) -> Written:
        """
        Log at *level*: INFO, WARNING or ERROR; see `Logger.log`.

        Raises:
            InvalidConfiguration: If there is no such level.
        """
        log, name = self._logger
        return call_of(log, Level.of(level))(name, message, self._merged(context))

    def _merged(
        self, context: Mapping[str, object] | None
    ) -> Mapping[str, object] | None:
        if not self._context and not _VARIABLES:
            return context
        bound = {**structlog.contextvars.get_contextvars(), **self._context}
        return bound if context is None else {**bound, **context}


def forward_structlog(logger: Log) -> Callable[[], None]:
    """Put a processor before structlog's renderer; return what takes it away again."""
    was_configured = structlog.is_configured()
    before = structlog.get_config()
    processors = list(before["processors"])
    ours = StructlogProcessor(logger, last=not processors)
    structlog.configure(processors=[*processors[:-1], ours, *processors[-1:]])
    now = structlog.get_config()["processors"]

    def restore() -> None:
        # Loggers that were bound meanwhile keep the list: ours must not be in it.
        now[:] = processors
        current = structlog.get_config()["processors"]
        if current is not now:  # somebody else has configured since
            current[:] = [one for one in current if one is not ours]
        elif was_configured:
            structlog.configure(processors=before["processors"])
        else:
            structlog.reset_defaults()

    return restore
