"""
Bridges from logging, structlog, warnings and uncaught exceptions to the log.

`install` installs all of them, and the object it returns removes them exactly: wrappers
that other code has put around these hooks meanwhile stay, and the hooks inside them
pass each call on to the earlier hooks.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async import arguments
from realtalk_async.logs.bridges import unreached
from realtalk_async.logs.bridges.log_protocol import (
    Log,
    call_of,
    level_of,
    show_traceback,
)
from realtalk_async.logs.serialize import show_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Any, Self, TextIO


_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {
    "asctime",
    "message",
    "taskName",
    # The message of uvicorn once more, with placeholders and colours.
    "color_message",
}
# A warning on a child's standard error; see warnings.formatwarning.
_WARNING = re.compile(r"(.+?):(\d+): (?:\w+\.)*(\w*Warning): (.*)")


@dataclass(frozen=True, slots=True)
class PythonWarning:
    """A warning, as Python prints it on standard error."""

    category: str
    """The class, such as ``DeprecationWarning``."""
    message: str
    file: str
    """The file that raised it; ``sys`` at the interpreter's exit."""
    line: int

    @property
    def context(self) -> dict[str, object]:
        """The context of its log entry."""
        return {"category": self.category, "file": self.file, "line": self.line}


def parse_python_warning(line: str) -> PythonWarning | None:
    """
    Return the warning in *line*, a line of a Python child's standard error.

    Args:
        line: Such as ``/app/x.py:3: DeprecationWarning: use y``, without newline.
            Python prints a line of source code after it, which is not a warning.

    Returns:
        The warning, or `None` if *line* is not a warning.

    Raises:
        InvalidConfiguration: If *line* is no text.
    """
    arguments.text("line", line)
    match = _WARNING.fullmatch(line)
    if match is None:
        return None
    return PythonWarning(match[3], match[4], match[1], int(match[2]))


class LogHandler(logging.Handler):
    """
    Forwards the records of the standard library's logging.

    The component is the logger's name. DEBUG becomes INFO and CRITICAL becomes ERROR,
    with the original level in the context. The context also has ``extra`` values and
    the traceback.
    """

    def __init__(self, logger: Log, level: int = logging.NOTSET) -> None:
        """
        Forward records of at least *level* to *logger*.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.a_logger("logger", logger)
        arguments.integer("level", level, minimum=0)
        super().__init__(level)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Write *record*; never raises because of its arguments."""
        context: dict[str, object] = {
            key: value
            for key, value in vars(record).items()
            if key not in _STANDARD_FIELDS
        }
        level = level_of(record.levelno)
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


class Installed:
    """The result of `install`; as a context manager it undoes the installation."""

    def __init__(self) -> None:
        """Begin without any bridge."""
        self._undo_steps: list[Callable[[], None]] = []
        self._active = True

    @property
    def active(self) -> bool:
        """Whether the bridges are installed."""
        return self._active

    def undo(self) -> None:
        """Remove all bridges, in reverse order; idempotent."""
        self._active = False
        while self._undo_steps:
            self._undo_steps.pop()()

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
        """
        Call *undo* when the installation is undone.

        Raises:
            InvalidConfiguration: If *undo* cannot be called.
        """
        arguments.function("undo", undo)
        self._undo_steps.append(undo)


def install(logger: Log, *, level: int | None = logging.INFO) -> Installed:
    """
    Forward the reports of this process to *logger*.

    - Records of the standard library's ``logging``, by a handler at its root. Records
      that do not reach it arrive nevertheless, each once: those of loggers that do not
      propagate (uvicorn, gunicorn, hypercorn), and all if other code configures logging
      later and removes the handler.
    - Messages of loguru, if the app has imported it by then.
    - Events of structlog, by a processor before the renderer, if the app has imported
      structlog by then; it is not imported for this alone.
    - Python's ``warnings``, as WARNING entries of the module they are about.
    - Exceptions that end the app or a thread, and those that asyncio's exception handler
      receives, as ERROR entries; they are still reported as before. asyncio's handler is
      replaced only if the loop runs during the call.

    Args:
        logger: The log.
        level: Level of the root logger from now on, if it is above this one. With
            `None` it stays as it is; Python's default, WARNING, suppresses INFO.

    Returns:
        An object that removes the bridges.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """
    arguments.a_logger("logger", logger)
    arguments.integer("level", level, minimum=0, optional=True)
    installed = Installed()
    _install_logging(logger, level, installed)
    if "loguru" in sys.modules:
        from realtalk_async.logs.bridges.loguru import LoguruSink

        sink = LoguruSink(logger, level or 0, unreached.is_passing)
        installed.on_undo(sink.undo)
    if "structlog" in sys.modules:
        from realtalk_async.logs.bridges.structlog import forward_structlog

        installed.on_undo(forward_structlog(logger))
    _install_warnings(logger, installed)
    _install_excepthook(logger, installed)
    _install_threading(logger, installed)
    _install_asyncio(logger, installed)
    return installed


def _install_logging(logger: Log, level: int | None, installed: Installed) -> None:
    root = logging.getLogger()
    handler = LogHandler(logger)
    root.addHandler(handler)
    installed.on_undo(lambda: root.removeHandler(handler))
    installed.on_undo(unreached.add(handler))
    _lower_root_level(level, installed)


def _lower_root_level(level: int | None, installed: Installed) -> None:
    root = logging.getLogger()
    before = root.level
    if level is not None and before > level:
        root.setLevel(level)

        def restore() -> None:
            if root.level == level:
                root.setLevel(before)

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
        warning = PythonWarning(category.__name__, show_text(message), filename, lineno)
        logger.warning(_module_of(filename), warning.message, warning.context)

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
        return  # without a handler asyncio logs to logging, which we forward

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
    facts = {key: value for key, value in context.items() if key != "message"}
    exception = facts.pop("exception", None)
    if isinstance(exception, BaseException):
        facts["exception"] = show_traceback(exception)
    logger.error("asyncio", show_text(context.get("message", "")), facts)


def _log_exception(
    logger: Log, component: str, message: str, exception: BaseException
) -> None:
    message = f"{message}: {type(exception).__name__}: {show_text(exception)}"
    logger.error(component, message, {"exception": show_traceback(exception)})


def _message_of(record: logging.LogRecord, context: dict[str, object]) -> str:
    try:
        return record.getMessage().rstrip("\n")  # uvicorn ends a message by one
    except Exception:  # noqa: BLE001 - arguments that do not fit, foreign __str__
        context["args"] = record.args
        return show_text(record.msg)


def _module_of(filename: str) -> str:
    """Return the name of the module that was loaded from *filename*."""
    for name, module in list(sys.modules.items()):
        if getattr(module, "__dict__", {}).get("__file__") == filename:
            return name
    return "python"
