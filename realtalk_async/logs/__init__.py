"""
The log: write from anywhere, one file on disk, parsed answers.

From bottom to top: `context` and `line` (pure: one entry as one line, there and back),
`appender` (the file under the path), `spool` (lines that outlive their process), `file`
(what waits, and one write for it), `writer` (the task), `query`, `sink`, `bound`
(structlog's side of it, loaded when first used), `forward`, `logger`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.lazy_imports import lazily

if TYPE_CHECKING:
    from realtalk_async.logs.bridges.install import (
        Installed,
        LogHandler,
        PythonWarning,
        install,
        parse_python_warning,
    )
    from realtalk_async.logs.bridges.structlog import BoundLogger, StructlogProcessor
    from realtalk_async.logs.entry import (
        Level,
        LogEntry,
        LogStatistics,
        format_line,
        parse_line,
    )
    from realtalk_async.logs.logger import Logger
    from realtalk_async.logs.writer import Written
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "bridges.structlog": "BoundLogger StructlogProcessor",
            "bridges.install": "Installed LogHandler PythonWarning install parse_python_warning",
            "entry": "Level LogEntry LogStatistics format_line parse_line",
            "logger": "Logger",
            "writer": "Written",
        },
    )

__all__ = [
    "BoundLogger",
    "Installed",
    "Level",
    "LogEntry",
    "LogHandler",
    "LogStatistics",
    "Logger",
    "PythonWarning",
    "StructlogProcessor",
    "Written",
    "format_line",
    "install",
    "parse_line",
    "parse_python_warning",
]
