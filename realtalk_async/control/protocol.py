"""
The protocol of the control socket: one request, then the response line by line.

A request is one JSON object in one line, such as ``{"method": "tail", "name": "web"}``.
The response is any number of lines ``{"item": …}`` and, at the end, ``{"end": true}`` or
``{"error": "…"}``. Then the server closes the connection.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeAlias, cast

import orjson

from realtalk_async import arguments
from realtalk_async.exceptions import InvalidConfiguration

JsonObject: TypeAlias = "dict[str, object]"

MAX_REQUEST = 16 * 1024
"""Bytes of a request, its line end included."""
MAX_RESPONSE_LINE = 4 * 1024 * 1024
"""Bytes of one line of a response, its line end included."""
MAX_LINES = 10_000
"""Lines of output or log entries that one request may ask for."""
MIN_PERIOD = 0.1
"""Seconds between two items of a watch, at least."""

METHODS = (
    "ps",
    "watch",
    "tail",
    "logs",
    "history",
    "explain",
    "restart",
    "stop",
    "reload",
)
NEED_A_NAME = ("tail", "explain", "restart", "stop")


@dataclass(frozen=True, slots=True)
class Request:
    """
    A request to an app.

    =========== ================================================================
    ps          one item: the app and the status of each process
    watch       as ps, again and again; after the first item only what changed
    tail        the newest lines of output of a process
    logs        the newest entries of the log
    history     the incarnations of one process, or of all processes
    explain     why a process is in its state, and its last failure
    restart     stop a process, if it runs, and start it again
    stop        stop a process without a restart
    reload      read the file of the app again, and apply the difference
    =========== ================================================================

    Raises:
        InvalidConfiguration: If a field is invalid.
    """

    method: str
    name: str | None = None
    """The process."""
    n: int | None = None
    """The number of the newest lines or entries."""
    follow: bool = False
    """Whether new lines or entries follow until the process or the app ends."""
    level: str | None = None
    component: str | None = None
    pattern: str | None = None
    width: int | None = None
    """Characters after which each line of output is cut."""
    period: float | None = None
    """Seconds between two items of a watch."""

    def __post_init__(self) -> None:
        arguments.choice("method", self.method, METHODS)
        for key in ("name", "level", "component", "pattern"):
            arguments.text(key, getattr(self, key), optional=True)
        if self.method in NEED_A_NAME and self.name is None:
            raise arguments.refused("name", f"given for {self.method!r}", None)
        arguments.integer("n", self.n, minimum=0, maximum=MAX_LINES, optional=True)
        arguments.flag("follow", self.follow)
        arguments.integer("width", self.width, minimum=0, optional=True)
        what, period = "period", self.period
        arguments.number(what, period, of="seconds", minimum=MIN_PERIOD, optional=True)

    def encode(self) -> bytes:
        """Return the request as a line."""
        given = {key: getattr(self, key) for key in _KEYS}
        return orjson.dumps({k: v for k, v in given.items() if v is not None}) + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Request:
        """
        Return the request that a line holds.

        Raises:
            InvalidConfiguration: If the line is not a valid request.
        """
        arguments.instance("line", line, bytes, "bytes")
        request = _load_object(line)
        for key in request:
            arguments.choice("a key", key, _KEYS)
        return cls(**{"method": "", **request})  # type: ignore[arg-type] # it checks


_KEYS = tuple(one.name for one in fields(Request))


def _load_object(line: bytes) -> JsonObject:
    try:
        found: object = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        raise InvalidConfiguration(f"a request is a line of JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise InvalidConfiguration("a request is a JSON object")
    return cast("JsonObject", found)


# ---- the response


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a response: a JSON value."""

    value: object


@dataclass(frozen=True, slots=True)
class Failure:
    """The end of a failed response."""

    error: str
    is_invalid: bool = False
    """Whether the request, or what the app was to read for it, is invalid."""


@dataclass(frozen=True, slots=True)
class End:
    """The end of a complete response."""


END = b'{"end":true}\n'


def encode_item(value: object) -> bytes:
    """Return a JSON value as a line; a failure, if the line would be too long."""
    line = orjson.dumps({"item": value}, default=str, option=orjson.OPT_NON_STR_KEYS)
    if len(line) < MAX_RESPONSE_LINE:
        return line + b"\n"
    return encode_failure(
        f"the response has {len(line)} bytes, {MAX_RESPONSE_LINE} are allowed: ask for "
        f"less"
    )


def encode_failure(error: str, *, is_invalid: bool = False) -> bytes:
    """Return the last line of a failed response."""
    fields: JsonObject = {"error": error.encode(errors="replace").decode()}
    return orjson.dumps(fields | ({"invalid": True} if is_invalid else {})) + b"\n"


def decode_line(line: bytes) -> Item | Failure | End:
    """Return the content of one line of a response; an invalid line is a failure."""
    try:
        found: object = orjson.loads(line)
    except orjson.JSONDecodeError:
        return Failure("the app closed the connection in the middle of its response")
    content = cast("JsonObject", found) if isinstance(found, dict) else {}
    if "item" in content:
        return Item(content["item"])
    if "end" in content:
        return End()
    error = str(content.get("error", "the app sent an invalid response"))
    return Failure(error, is_invalid=bool(content.get("invalid")))
