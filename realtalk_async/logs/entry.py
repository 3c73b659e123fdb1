"""
One entry as one line, there and back (pure).

The format, and what keeps it unambiguous whatever an entry holds:

    [2025-05-13 14:30:22] [ERROR] [sox_bg] Process died {"exit_status":1}

- A backslash in a component or a message is doubled; control characters, line
  separators and what reverses the direction of text are written as ``\\n``, ``\\r``,
  ``\\t``, ``\\xHH`` or ``\\uHHHH``. So one entry is one line, and it cannot drive a
  terminal.
- A ``]`` in a component is written ``\\]``. So the third bracket ends the component.
- A ``{"`` in a message that begins it or follows a space is written ``\\{"``. So the
  context begins at the first `` {"`` after the component, and if there is none there
  is no context. An empty context is not written.

Two other formats have times in ISO 8601 with milliseconds and the offset: ``iso``, which
is otherwise the same, and ``json``, one JSON object a line:

    {"timestamp":"2025-05-13T14:30:22.123+02:00","level":"ERROR","component":"sox_bg",
     "message":"Process died","context":{"exit_status":1}}

`parse_line` takes them all, in one file too. It also takes lines that others wrote: JSON with spaces, no context, times in
ISO 8601; what looks like a context but is no JSON object belongs to the message.
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

from realtalk_async.exceptions import InvalidConfiguration
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
    """How grave an entry is; all three are always written."""

    INFO = "INFO"
    """Normal operation: a start, a connection, an end that was asked for."""
    WARNING = "WARNING"
    """What may need attention but prevents nothing; Python's own warnings."""
    ERROR = "ERROR"
    """What failed: a process died, a device was lost, a service refused."""

    @classmethod
    def of(cls, name: str) -> Level:
        """
        Return the level called *name*, in upper or lower case.

        Raises:
            InvalidConfiguration: If there is none of that name; it lists the three.
        """
        try:
            return cls(name.upper())
        except (ValueError, AttributeError):
            known = ", ".join(cls)
            msg = f"no log level {name!r}; the levels are {known}"
            raise InvalidConfiguration(msg) from None


LEVELS: Final = tuple(Level)
INFO, WARNING, ERROR = range(3)
"""Ranks: indices into `LEVELS`, for the paths where an enum costs too much."""

MAX_CACHED: Final = 1024
"""Components whose prefixes, and messages whose escaped forms, are cached."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry of the log; its ``str()`` is the line, in the default format."""

    timestamp: datetime
    """When, timezone-aware, in local time; to the second in the default format."""
    level: Level
    component: str
    """Who the entry speaks for: the name of a process, of a module."""
    message: str
    context: dict[str, object] = field(default_factory=dict[str, object])
    """What else is known: anything that JSON can carry."""

    def __str__(self) -> str:
        return format_line(self)

    def to_dict(self) -> dict[str, object]:
        """Return the entry ready for JSON, its time in ISO 8601 with the offset."""
        return {
            "timestamp": self.timestamp.isoformat(),
            "level": self.level.value,
            "component": self.component,
            "message": self.message,
            "context": self.context,
        }


_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_MEANT = {name[1]: char for char, name in _NAMED.items()}
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
    """How much a `Logger` was given so far, and what became of it."""

    logged: Mapping[Level, int]
    """Calls by level."""
    dropped: int
    """Lines that had to be dropped: the disk was full, or too slow."""
    waiting: int
    """Bytes that wait in memory for the disk."""


def escape_message(message: object) -> str:
    """Return *message* as it stands in a line: itself, if nothing has to be escaped."""
    if (
        type(message) is str
        and message.isprintable()
        and "\\" not in message
        and '{"' not in message
    ):
        return message
    return _UNSAFE_IN_MESSAGE.sub(_escape, show_text(message))


def escape_component(component: str) -> str:
    """Return *component* as it stands between its brackets."""
    return _UNSAFE_IN_COMPONENT.sub(_escape, component)


def unescape(text: str) -> str:
    """Return what was escaped; an escape that is none of ours stays as it is."""
    return _ESCAPED.sub(_unescape, text) if "\\" in text else text


def quote(text: object) -> str:
    """Return *text* as a JSON string, without controls."""
    return escape_json(json.dumps(show_text(text), ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class Layout:
    """What stands around the parts of an entry in its line."""

    before_time: str
    before_level: str
    before_component: str
    before_message: str
    before_context: str
    end: str
    ticks: int
    """Into how many parts a second is divided by the times."""
    component: Callable[[str], str]
    """Makes a component what it is in a line."""
    message: Callable[[object], str]
    """Makes a message what it is in a line."""

    @property
    def level_at(self) -> int:
        """Where in a line its level begins."""
        return len(self.before_time + self.stamp(0.0) + self.before_level)

    def stamp(self, now: float) -> str:
        """Return the local time that *now* is, in seconds since 1970."""
        moment = datetime.fromtimestamp(now, UTC).astimezone()
        if self.ticks == 1:
            return f"{moment:%Y-%m-%d %H:%M:%S}"
        return moment.isoformat(timespec="milliseconds")

    def prefix(self, stamp: str, level: Level, component: str) -> str:
        """Return a line up to its message."""
        return (
            f"{self.before_time}{stamp}{self.before_level}{level}"
            f"{self.before_component}{self.component(component)}{self.before_message}"
        )


NOTE = Layout("[", "] [", "] [", "] ", " ", "\n", 1, escape_component, escape_message)
LAYOUTS = {
    "note": NOTE,
    "iso": replace(NOTE, ticks=1000),
    "json": Layout(
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
"""The formats by name."""


class LinePrefixes:
    """
    The beginnings of the lines of one moment, by level and component.

    A line begins with the time, the level and the component. Most calls share all
    three, so that this part of a line is formatted once per moment and component.
    """

    __slots__ = ("_layout", "_redact", "_timestamp", "by_level", "tick")

    def __init__(
        self, layout: Layout, now: float, redact: Callable[[str], str]
    ) -> None:
        """
        Format the time *now*, in seconds since 1970.

        Args:
            layout: The format of the log.
            now: The time of all these lines.
            redact: Removes the secrets from a component.
        """
        self.tick = floor(now * layout.ticks)
        """The moment: the number of whole ticks since 1970."""
        self.by_level: tuple[dict[str, str], ...] = ({}, {}, {})
        """Prefix by component, one dictionary for each of `LEVELS`."""
        self._layout = layout
        self._redact = redact
        self._timestamp = layout.stamp(now)

    def get(self, rank: int, component: object) -> str:
        """Return the prefix for the level `LEVELS[rank]` and any *component*."""
        cached = self.by_level[rank]
        # Only exact strings: a subclass may raise or lie in __hash__ and __eq__.
        if type(component) is str and component in cached:
            return cached[component]
        shown = self._redact(show_text(component))
        prefix = self._layout.prefix(self._timestamp, LEVELS[rank], shown)
        if type(component) is str and len(cached) < MAX_CACHED:
            cached[component] = prefix
        return prefix


def format_line(entry: LogEntry, layout: Layout = NOTE) -> str:
    """Return *entry* as its line, without the newline."""
    stamp = layout.stamp(entry.timestamp.timestamp())
    prefix = layout.prefix(stamp, entry.level, show_text(entry.component))
    line = prefix + layout.message(entry.message)
    if entry.context:
        line = f"{line}{layout.before_context}{show_json(entry.context)}"
    return line + layout.end.removesuffix("\n")


def parse_line(line: str | bytes) -> LogEntry | None:
    """
    Return the entry that *line* is, or `None` if it is none; never raises.

    Args:
        line: One line, with or without its newline. Bytes are UTF-8; what is not is
            replaced by U+FFFD.
    """
    if isinstance(line, bytes):
        line = line.decode("utf-8", "replace")
    match = _LINE.fullmatch(line.removesuffix("\n"))
    if match is None:
        return _from_json(line) if line.startswith('{"') else None
    timestamp = parse_timestamp(match[1])
    if timestamp is None:
        return None
    message, context = _split(match[4] or "")
    return LogEntry(timestamp, _LEVELS[match[2]], unescape(match[3]), message, context)


def searchable(line: str) -> tuple[str, ...] | None:
    """
    Return texts of *line* that include its message and its context, without parsing.

    They may include more. It is `None` if that takes parsing: something is escaped, or
    is not written as we do. Numbers are taken as they are written.
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
    return message, '{"' + context, body  # all of it, if that is no context after all


@lru_cache(maxsize=1024)
def parse_timestamp(text: str) -> datetime | None:
    """Return the time that *text* says, aware (local if it names no zone), or `None`."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return None


def _from_json(line: str) -> LogEntry | None:
    fields = read_json(line) or {}
    stamp, level, component, message = map(fields.get, _FIELDS)
    context = fields.get("context", {})
    if not (isinstance(stamp, str) and isinstance(level, str)):
        return None
    if not (isinstance(component, str) and isinstance(message, str)):
        return None
    timestamp = parse_timestamp(stamp)
    if timestamp is None or level not in _LEVELS or not isinstance(context, dict):
        return None
    known = cast("dict[str, object]", context)
    return LogEntry(timestamp, _LEVELS[level], component, message, known)


def _split(body: str) -> tuple[str, dict[str, object]]:
    """Divide what follows the component into message and context."""
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
    if char in _NAMED:
        return _NAMED[char]
    return f"\\x{ord(char):02x}" if char <= "\xff" else f"\\u{ord(char):04x}"


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    if code in "\\]{":
        return code
    return _MEANT.get(code, match[0])
