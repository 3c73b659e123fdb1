"""
Bring into the log what others report: logging, structlog, warnings, last exceptions.

`install` puts all of them in place at once, and what it returns takes them away again,
exactly: what somebody else has wrapped around ours meanwhile stays, and ours within it
passes everything on to what was there before.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import threading
import traceback
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import structlog

from .context import show_repr, show_text
from .line import Level

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Any, Self, TextIO

    from structlog.typing import EventDict, WrappedLogger

    from .writer import Written


_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {
    "asctime",
    "message",
    "taskName",
}
# What a warning looks like on a child's standard error; see warnings.formatwarning.
_WARNING = re.compile(r"(.+?):(\d+): (?:\w+\.)*(\w*Warning): (.*)")
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


@dataclass(frozen=True, slots=True)
class PythonWarning:
    """A warning as Python prints it on standard error."""

    category: str
    """The class, such as ``DeprecationWarning``."""
    message: str
    file: str
    """Where it was raised; ``sys`` at the interpreter's exit."""
    line: int

    @property
    def context(self) -> dict[str, object]:
        """What goes with the message into a log entry."""
        return {"category": self.category, "file": self.file, "line": self.line}


def parse_python_warning(line: str) -> PythonWarning | None:
    """
    Return the warning that *line*, from a Python child's standard error, announces.

    Args:
        line: Such as ``/app/x.py:3: DeprecationWarning: use y``, without newline. The
            line of source code that Python prints after it is not one.

    Returns:
        The warning, or `None` if *line* is something else.
    """
    match = _WARNING.fullmatch(line)
    if match is None:
        return None
    return PythonWarning(match[3], match[4], match[1], int(match[2]))


class LogHandler(logging.Handler):
    """
    Forwards the standard library's records.

    The component is the logger's name; DEBUG becomes INFO and CRITICAL becomes ERROR,
    each with its own name in the context; ``extra`` values and the traceback are in
    the context too.
    """

    def __init__(self, logger: Log, level: int = logging.NOTSET) -> None:
        """Forward to *logger* what is at least as grave as *level*."""
        super().__init__(level)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Write *record*; never raises, whatever its arguments are."""
        context: dict[str, object] = {
            key: value for key, value in vars(record).items() if key not in _ORDINARY
        }
        level = _level_of(record.levelno)
        if record.levelname != level:
            context["level"] = record.levelname
        message = _message_of(record, context)
        if record.exc_info and record.exc_info[1] is not None:
            context["exception"] = show_traceback(record.exc_info[1])
        elif record.exc_text:
            context["exception"] = record.exc_text
        if record.stack_info:
            context["stack"] = record.stack_info
        call_of(self._logger, level)(record.name, message, context)


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
            rest["exception"] = _exception_text(exception)
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
        told["exception"] = _exception_text(None)
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


class Installed:
    """What `install` has put in place; also a context manager that undoes it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._undoing: list[Callable[[], None]] = []
        self._active = True

    @property
    def active(self) -> bool:
        """Whether it is still in place."""
        return self._active

    def undo(self) -> None:
        """Take everything away again, in reverse order; idempotent."""
        self._active = False
        while self._undoing:
            self._undoing.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.undo()

    def on_undo(self, undo: Callable[[], None]) -> None:
        """Have *undo* called when it is taken away."""
        self._undoing.append(undo)


def call_of(log: Log, level: Level) -> Call:
    """Return the log call for *level*."""
    if level is Level.INFO:
        return log.info
    return log.warning if level is Level.WARNING else log.error


def install(logger: Log, *, level: int | None = logging.INFO) -> Installed:
    """
    Forward what this process reports elsewhere to *logger*.

    - the standard library's ``logging``, by a handler at its root;
    - structlog, by a processor before the renderer;
    - Python's ``warnings``, as WARNING entries of the module they are about;
    - exceptions that end the app or a thread, and those that asyncio can tell nobody
      about, as ERROR entries (they are still reported as before). For asyncio's it
      must be called while the loop runs.

    Args:
        logger: Where all of it goes.
        level: The root logger lets pass what is at least so grave; `None` leaves it as
            it is, and as it is it holds back INFO.

    Returns:
        What takes it away again.
    """
    installed = Installed()
    _install_logging(logger, level, installed)
    _install_structlog(logger, installed)
    _install_warnings(logger, installed)
    _install_excepthook(logger, installed)
    _install_threading(logger, installed)
    _install_asyncio(logger, installed)
    return installed


def show_traceback(exception: BaseException) -> str:
    """Return the traceback of *exception* as text; never raises."""
    try:
        return "".join(traceback.format_exception(exception)).rstrip()
    except Exception:  # noqa: BLE001 - foreign code: its __str__
        return show_repr(exception)


def _install_logging(logger: Log, level: int | None, installed: Installed) -> None:
    root = logging.getLogger()
    handler = LogHandler(logger)
    root.addHandler(handler)
    installed.on_undo(lambda: root.removeHandler(handler))
    before = root.level
    if level is not None and before > level:
        root.setLevel(level)

        def restore() -> None:
            if root.level == level:
                root.setLevel(before)

        installed.on_undo(restore)


def _install_structlog(logger: Log, installed: Installed) -> None:
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

    installed.on_undo(restore)


def _install_warnings(logger: Log, installed: Installed) -> None:
    before = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is not None or not installed.active:
            before(message, category, filename, lineno, file, line)
            return
        told = PythonWarning(category.__name__, show_text(message), filename, lineno)
        logger.warning(_module_of(filename), told.message, told.context)

    warnings.showwarning = show

    def restore() -> None:
        if warnings.showwarning is show:
            warnings.showwarning = before

    installed.on_undo(restore)


def _install_excepthook(logger: Log, installed: Installed) -> None:
    before = sys.excepthook

    def hook(
        kind: type[BaseException],
        exception: BaseException,
        trace: TracebackType | None,
    ) -> None:
        if installed.active and not issubclass(kind, KeyboardInterrupt):
            _log_exception(logger, "python", "the app ended by an exception", exception)
        before(kind, exception, trace)

    sys.excepthook = hook

    def restore() -> None:
        if sys.excepthook is hook:
            sys.excepthook = before

    installed.on_undo(restore)


def _install_threading(logger: Log, installed: Installed) -> None:
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs, /) -> None:
        if installed.active and args.exc_value is not None:
            name = args.thread.name if args.thread is not None else "a thread"
            message = f"{name} ended by an exception"
            _log_exception(logger, "python", message, args.exc_value)
        before(args)

    threading.excepthook = hook

    def restore() -> None:
        if threading.excepthook is hook:
            threading.excepthook = before

    installed.on_undo(restore)


def _install_asyncio(logger: Log, installed: Installed) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    before = loop.get_exception_handler()
    if before is None:
        return  # without a handler asyncio reports to logging, and so to us

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if installed.active:
            _log_asyncio(logger, context)
        before(loop, context)

    loop.set_exception_handler(handle)

    def restore() -> None:
        if loop.get_exception_handler() is handle:
            loop.set_exception_handler(before)

    installed.on_undo(restore)


def _log_asyncio(logger: Log, context: Mapping[str, object]) -> None:
    told = {key: value for key, value in context.items() if key != "message"}
    exception = told.pop("exception", None)
    if isinstance(exception, BaseException):
        told["exception"] = show_traceback(exception)
    logger.error("asyncio", show_text(context.get("message", "")), told)


def _log_exception(
    logger: Log, component: str, message: str, exception: BaseException
) -> None:
    what = f"{message}: {type(exception).__name__}: {show_text(exception)}"
    logger.error(component, what, {"exception": show_traceback(exception)})


def _level_of(number: int) -> Level:
    if number >= logging.ERROR:
        return Level.ERROR
    return Level.WARNING if number >= logging.WARNING else Level.INFO


def _message_of(record: logging.LogRecord, context: dict[str, object]) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that do not fit, foreign __str__
        context["args"] = record.args
        return show_text(record.msg)


def _exception_text(exception: object) -> str:
    """Return the text of what structlog calls ``exc_info``."""
    candidates = cast(
        "tuple[object, ...]",
        exception if isinstance(exception, tuple) else (exception,),
    )
    for candidate in (*candidates, sys.exc_info()[1]):
        if isinstance(candidate, BaseException):
            return show_traceback(candidate)
    return "none"


def _module_of(filename: str) -> str:
    """Return the name of the module that was loaded from *filename*."""
    for name, module in list(sys.modules.items()):
        if getattr(module, "__dict__", {}).get("__file__") == filename:
            return name
    return "python"
