"""
`LogEntry` and the format of its line: formatting and parsing, without I/O.

The format is unambiguous for all contents of an entry:

    [2025-05-13 14:30:22] [ERROR] [sox_bg] Process died {"exit_status":1}

- A backslash in a component or a message is doubled; control characters, line
  separators and marks that reverse the direction of text are written as ``\\n``, ``\\r``,
  ``\\t``, ``\\xHH`` or ``\\uHHHH``. So one entry is one line, and no entry can send control
  sequences to a terminal.
- A ``]`` in a component is written ``\\]``. So the third bracket ends the component.
- A ``{"`` in a message, at its beginning or after a space, is written ``\\{"``. So the
  context begins at the first `` {"`` after the component; without one there is no
  context. An empty context is not written.

Two other formats have times in ISO 8601 with milliseconds and offset: ``iso``, otherwise
the same, and ``json``, one JSON object per line:

    {"timestamp":"2025-05-13T14:30:22.123+02:00","level":"ERROR","component":"sox_bg",
     "message":"Process died","context":{"exit_status":1}}

`parse_line` reads all of them, also mixed in one file, and lines of other programs: JSON
with spaces, no context, times in ISO 8601. Text that looks like a context but is not a
JSON object belongs to the message.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from math import floor
from typing import TYPE_CHECKING, Final, cast

from realtalk_async import arguments
from realtalk_async.logs.serialize import (
    CONTROLS,
    escape_json,
    read_json,
    show_json,
    show_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Level(StrEnum):
    """The level of an entry; all three are always written."""

    INFO = "INFO"
    """Normal operation: a start, a connection, a requested stop."""
    WARNING = "WARNING"
    """An event that may need attention but prevents nothing; Python's own warnings."""
    ERROR = "ERROR"
    """A failure: a process died, a device was lost, a service refused."""

    @classmethod
    def of(cls, name: str) -> Level:
        """
        Return the level called *name*, in upper or lower case.

        Raises:
            InvalidConfiguration: If *name* is unknown; the error lists the three.
        """
        try:
            return cls(name.upper())
        except (ValueError, AttributeError):
            allowed = arguments.any_of(tuple(cls))
            raise arguments.refused("level", allowed, name) from None


LEVELS: Final = tuple(Level)
INFO, WARNING, ERROR = range(3)
"""Indices into `LEVELS`, where an enum would cost too much."""

MAX_CACHED: Final = 1024
"""Components whose prefixes, and messages whose escaped forms, are cached."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of the log; its ``str()`` is its line in the default format."""

    timestamp: datetime
    """Time of the call, in local time, timezone-aware; whole seconds by default."""
    level: Level
    component: str
    """The part of the app that the entry is about: a process, a module."""
    message: str
    context: dict[str, object] = field(default_factory=dict[str, object])
    """More facts by name: values that JSON can carry."""

    def __str__(self) -> str:
        return format_line(self)

    def to_dict(self) -> dict[str, object]:
        """Return the fields ready for JSON, the time in ISO 8601 with the offset."""
        return {
            "timestamp": self.timestamp.isoformat(),
            "level": self.level.value,
            "component": self.component,
            "message": self.message,
            "context": self.context,
        }


_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_CHARACTERS = {escape[1]: char for char, escape in _SHORT_ESCAPES.items()}
_UNSAFE_IN_MESSAGE = re.compile(rf'[{CONTROLS}\\]|(?:^|(?<= )){{(?=")')
_UNSAFE_IN_COMPONENT = re.compile(rf"[{CONTROLS}\\\]]")
_ESCAPED = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|[^xu]|[xu])", re.DOTALL)
_LINE = re.compile(
    r"\[([^\]]*)\] \[(INFO|WARNING|ERROR)\] \[([^\]\\]*(?:\\.[^\]\\]*)*)\](?: (.*))?",
    re.DOTALL,
)
_FIELDS = ("timestamp", "level", "component", "message")
_LEVELS = {level.value: level for level in Level}


@dataclass(frozen=True, slots=True)
class LogStatistics:
    """Numbers of the entries of one `Logger` so far."""

    logged: Mapping[Level, int]
    """Log calls by level."""
    dropped: int
    """Lines that were dropped because the disk was full or too slow."""
    waiting: int
    """Bytes of lines that wait in memory for the disk."""


def escape_message(message: object) -> str:
    """Return *message* as it is written in a line; unchanged if it needs no escapes."""
    if (
        type(message) is str
        and message.isprintable()
        and "\\" not in message
        and '{"' not in message
    ):
        return message
    return _UNSAFE_IN_MESSAGE.sub(_escape, show_text(message))


def escape_component(component: str) -> str:
    """Return *component* as it is written between its brackets."""
    return _UNSAFE_IN_COMPONENT.sub(_escape, component)


def unescape(text: str) -> str:
    """Return *text* with escapes decoded; unknown escapes stay as they are."""
    return _ESCAPED.sub(_unescape, text) if "\\" in text else text


def quote(text: object) -> str:
    """Return *text* as a JSON string without control characters."""
    return escape_json(json.dumps(show_text(text), ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class LineFormat:
    """The text before each part of an entry in its line, and how parts are written."""

    before_time: str
    before_level: str
    before_component: str
    before_message: str
    before_context: str
    end: str
    ticks: int
    """Resolution of the times, in parts of a second."""
    component: Callable[[str], str]
    """Returns a component as it is written in a line."""
    message: Callable[[object], str]
    """Returns a message as it is written in a line."""

    def timestamp(self, now: float) -> str:
        """Return the local time *now*, given in seconds since 1970."""
        moment = datetime.fromtimestamp(now, UTC).astimezone()
        if self.ticks == 1:
            return f"{moment:%Y-%m-%d %H:%M:%S}"
        return moment.isoformat(timespec="milliseconds")

    def prefix(self, timestamp: str, level: Level, component: str) -> str:
        """Return the part of a line before its message."""
        return (
            f"{self.before_time}{timestamp}{self.before_level}{level}"
            f"{self.before_component}{self.component(component)}{self.before_message}"
        )


TEXT = LineFormat(
    "[", "] [", "] [", "] ", " ", "\n", 1, escape_component, escape_message
)
LINE_FORMATS = {
    "text": TEXT,
    "iso": replace(TEXT, ticks=1000),
    "json": LineFormat(
        '{"timestamp":"',
        '","level":"',
        '","component":',
        ',"message":',
        ',"context":',
        "}\n",
        1000,
        quote,
        quote,
    ),
}
"""The formats by name; ``text`` is the default."""


class LinePrefixes:
    """
    The beginnings of the lines of one moment, by level and component.

    A line begins with the time, the level and the component. Most calls share all
    three, so that this part of a line is formatted once per moment and component.
    """

    __slots__ = ("_line_format", "_redact", "_timestamp", "by_level", "tick")

    def __init__(
        self, line_format: LineFormat, now: float, redact: Callable[[str], str]
    ) -> None:
        """
        Format the time *now*, in seconds since 1970.

        Args:
            line_format: The format of the log.
            now: The time of all these lines.
            redact: Removes the secrets from a component.
        """
        self.tick = floor(now * line_format.ticks)
        """The moment: the number of whole ticks since 1970."""
        self.by_level: tuple[dict[str, str], ...] = ({}, {}, {})
        """Prefix by component, one dictionary for each of `LEVELS`."""
        self._line_format = line_format
        self._redact = redact
        self._timestamp = line_format.timestamp(now)

    def get(self, rank: int, component: object) -> str:
        """Return the prefix for the level `LEVELS[rank]` and any *component*."""
        cached = self.by_level[rank]
        # Only exact strings: a subclass may raise or lie in __hash__ and __eq__.
        if type(component) is str and component in cached:
            return cached[component]
        shown = self._redact(show_text(component))
        prefix = self._line_format.prefix(self._timestamp, LEVELS[rank], shown)
        if type(component) is str and len(cached) < MAX_CACHED:
            cached[component] = prefix
        return prefix


def format_line(entry: LogEntry, line_format: LineFormat = TEXT) -> str:
    """
    Return *entry* as its line, without the newline.

    Raises:
        InvalidConfiguration: If an argument is of another type.
    """
    arguments.instance("entry", entry, LogEntry, "a LogEntry")
    arguments.instance("line_format", line_format, LineFormat, "a LineFormat")
    timestamp = line_format.timestamp(entry.timestamp.timestamp())
    component = show_text(entry.component)
    prefix = line_format.prefix(timestamp, entry.level, component)
    line = prefix + line_format.message(entry.message)
    if entry.context:
        line = f"{line}{line_format.before_context}{show_json(entry.context)}"
    return line + line_format.end.removesuffix("\n")


def parse_line(line: str | bytes) -> LogEntry | None:
    """
    Return the entry of *line*, or `None` if it is not an entry.

    Args:
        line: One line, with or without its newline. In bytes, invalid UTF-8 is replaced
            by U+FFFD.

    Raises:
        InvalidConfiguration: If *line* is neither text nor bytes.
    """
    if isinstance(line, bytes):
        line = line.decode("utf-8", "replace")
    elif not isinstance(line, str):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise arguments.refused("line", "text or bytes", line)
    match = _LINE.fullmatch(line.removesuffix("\n"))
    if match is None:
        return _from_json(line) if line.startswith('{"') else None
    timestamp = parse_timestamp(match[1])
    if timestamp is None:
        return None
    message, context = _split_body(match[4] or "")
    return LogEntry(timestamp, _LEVELS[match[2]], unescape(match[3]), message, context)


def searchable(line: str) -> tuple[str, ...] | None:
    """
    Return texts that contain the message and the context of *line*, without parsing.

    A pattern that matches none of them does not match the entry. The result is `None`
    if only parsing can tell: something is escaped, or another program wrote it.
    """
    if "\\" in line or not line.isascii() or line.startswith("{"):
        return None
    *head, body = line.split("] ", 3)
    if len(head) < 3 or body.startswith("{"):
        return None
    if not body.endswith("}"):
        return (body,)
    message, found, context = body.partition(' {"')
    if not found or '": ' in context or ", " in context:
        return None
    return message, '{"' + context, body  # the whole body, in case it has no context


@lru_cache(maxsize=1024)
def parse_timestamp(text: str) -> datetime | None:
    """Return the time, aware (local if *text* has no zone), or `None` if it is none."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return None


def has_local_time(line: bytes) -> bool:
    """Return whether the time of an entry's line is a local one, without an offset."""
    end = line.find(b"]" if line.startswith(b"[") else b",")
    return not re.search(rb":\d\d(?:[.,]\d+)?(?:Z|[+-][\d:.]+)", line[:end])


def _from_json(line: str) -> LogEntry | None:
    fields = read_json(line) or {}
    timestamp, level, component, message = map(fields.get, _FIELDS)
    context = fields.get("context", {})
    if not (isinstance(timestamp, str) and isinstance(level, str)):
        return None
    if not (isinstance(component, str) and isinstance(message, str)):
        return None
    time = parse_timestamp(timestamp)
    if time is None or level not in _LEVELS or not isinstance(context, dict):
        return None
    values = cast("dict[str, object]", context)
    return LogEntry(time, _LEVELS[level], component, message, values)


def _split_body(body: str) -> tuple[str, dict[str, object]]:
    """Split the text after the component into message and context."""
    start = 0 if body.startswith('{"') else body.find(' {"') + 1
    if body.endswith("}") and body.startswith('{"', start):
        context = read_json(body[start:])
        if context is not None:
            return unescape(body[: max(start - 1, 0)]), context
    return unescape(body), {}


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    if char in "\\]{":
        return "\\" + char
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    return f"\\x{ord(char):02x}" if char <= "\xff" else f"\\u{ord(char):04x}"


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    if code in "\\]{":
        return code
    return _CHARACTERS.get(code, match[0])
