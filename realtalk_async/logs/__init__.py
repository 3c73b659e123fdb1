"""
The log: any task or thread writes, one task appends to one file, searches return entries.

The way of an entry to the disk: `logger` (the public API), `entry`, `serialize` and
`redaction` (its line), `queue` and `writer` (one queue, one task), `append_file` (lock,
rotation, append), and `spool` (lines that survive SIGKILL). Its way back: `query`,
`prefilter`, `reverse_reader` and `follow`.
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
    from realtalk_async.logs.writer import PendingWrite
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "bridges.structlog": "BoundLogger StructlogProcessor",
            "bridges.install": "Installed LogHandler PythonWarning install parse_python_warning",
            "entry": "Level LogEntry LogStatistics format_line parse_line",
            "logger": "Logger",
            "writer": "PendingWrite",
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
    "PendingWrite",
    "PythonWarning",
    "StructlogProcessor",
    "format_line",
    "install",
    "parse_line",
    "parse_python_warning",
]
