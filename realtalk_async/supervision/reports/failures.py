"""The text of an error that the app's own code has raised."""

from __future__ import annotations

import errno
import re
import socket
import traceback
from typing import TypeAlias, cast

from realtalk_async.exceptions import StreamError

NETWORK_ERRORS = (ConnectionError, socket.gaierror)
"""Errors that come from the other side, and are told in one line."""

NETWORK_NUMBERS = {
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.EPIPE,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.EHOSTDOWN,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.ENETRESET,
    errno.EADDRNOTAVAIL,
}
"""Their numbers, in other errors of the system."""

_NUMBER = re.compile(r"\[Errno (-?\d+)\]")


def format_failure(error: BaseException) -> str:
    """
    Return the text of an error of the app's own task.

    An error of the network is one line, because its message says it all: the traceback
    shows code of libraries. So is one that a library has raised from it, and a group of
    nothing else. Any other error has its traceback.
    """
    lines = _lines_of_network(error)
    return "".join(dict.fromkeys(lines)) or format_traceback(error)


_Group: TypeAlias = "BaseExceptionGroup[BaseException]"


def format_traceback(error: BaseException) -> str:
    """Return the traceback of an error as Python prints it."""
    return "".join(traceback.format_exception(error))


def describe_error(error: BaseException) -> str:
    """Return the class and the message of an error; of a group, those of its errors."""
    if isinstance(error, BaseExceptionGroup):
        found = dict.fromkeys(map(describe_error, _members(cast("_Group", error))))
        return "; ".join(found)
    return f"{type(error).__name__}: {error}"


def _members(group: _Group) -> tuple[BaseException, ...]:
    return group.exceptions


def _lines_of_network(error: BaseException) -> list[str]:
    """Return a line for each error of the network; [] if there is any other error."""
    if isinstance(error, BaseExceptionGroup):
        each = [_lines_of_network(one) for one in _members(cast("_Group", error))]
        return [line for lines in each for line in lines] if all(each) else []
    if isinstance(error, StreamError) or _is_of_network(error):
        return [_only(error)]
    cause = error.__cause__  # explicit: `raise … from`
    while cause is not None and not _is_of_network(cause):
        cause = cause.__cause__
    return (
        [f"{_only(error).rstrip()} (from {_only(cause).rstrip()})\n"] if cause else []
    )


def _only(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error))


def _is_of_network(error: BaseException) -> bool:
    """Return whether the system has raised it, which gives a number, about the network."""
    if not isinstance(error, OSError):
        return False
    if (
        error.errno is None
    ):  # asyncio joins the errors of several addresses into one text
        found = [int(number) for number in _NUMBER.findall(str(error))]
        return bool(found) and set(found) <= NETWORK_NUMBERS
    return isinstance(error, NETWORK_ERRORS) or error.errno in NETWORK_NUMBERS
