"""The times of many lines at once, without parsing the entries."""

from __future__ import annotations

import re
from math import inf

from realtalk_async.logs.entry import parse_timestamp

# The default format; literals at the beginning make the search fast.
_LOCAL = re.compile(rb"\n\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\]")
_ANY = re.compile(
    rb'\n(?:\[|\{"timestamp": ?")(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)'
    rb'(?:[.,]\d+)?((?:Z|[+-][\d:.]+)?)["\]]'
)


_HOUR = re.compile(rb'\n(?:\[|\{"timestamp": ?")(\d{4}-\d\d-\d\d)[T ](\d\d)')

_MOST_OFFSET = 86400.0
"""Seconds of the largest offset of a zone."""


def newest_time(lines: bytes | bytearray, oldest: float = inf) -> float:
    """
    Return a time that none of *lines* is newer than, in seconds since 1970.

    It is infinite if a line may be an entry with its time in another form, and minus
    infinity if no line is an entry. A local time that comes twice counts as the first.

    Args:
        lines: The lines.
        oldest: A time from which on the result must be exact, but for a second.
    """
    data = b"\n" + lines
    count = data.count(b"\n[") + data.count(b"\n{")
    if (end := _end_of_hour(data, count)) < oldest:
        return end
    local = _LOCAL.findall(data)
    newest: dict[bytes, bytes] = {}
    if len(local) == count:
        newest[b""] = max(local, default=b"")
    else:
        found = _ANY.findall(data)
        if len(found) != count:
            return inf
        for date, clock, offset in found:
            newest[offset] = max(newest.get(offset, b""), date + b" " + clock)
    return max(_seconds(text, offset) for offset, text in newest.items())


def _end_of_hour(data: bytes, count: int) -> float:
    """Return the end of the hour that all entries have in common; inf if there is none."""
    first = _HOUR.match(data)
    # Two passes over the bytes: a tenth of the time that it takes to find all times.
    if first is None or data.count(first[0]) != count:
        return inf
    return _seconds(first[1] + b" " + first[2] + b":59:59", b"Z") + _MOST_OFFSET


def _seconds(text: bytes, offset: bytes) -> float:
    if not text:
        return -inf
    moment = parse_timestamp((text + offset).decode())
    return inf if moment is None else moment.timestamp() + 1.0  # it may have a fraction
