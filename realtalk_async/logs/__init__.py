"""
The log: write from anywhere, one file on disk, parsed answers.

From bottom to top: `context` and `line` (pure: one entry as one line, there and back),
`file` (one lock, one write), `writer` (the task), `query`, `logger`, `forward`.
"""

from .forward import (
    BoundLogger,
    Installed,
    LogHandler,
    PythonWarning,
    StructlogProcessor,
    install,
    parse_python_warning,
)
from .line import Level, LogEntry, format_line, parse_line
from .logger import Logger
from .writer import Written

__all__ = [
    "BoundLogger",
    "Installed",
    "Level",
    "LogEntry",
    "LogHandler",
    "Logger",
    "PythonWarning",
    "StructlogProcessor",
    "Written",
    "format_line",
    "install",
    "parse_line",
    "parse_python_warning",
]
