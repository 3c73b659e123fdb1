"""
The hour that comes twice at the end of summer time: the order of the lines tells which.

The default format writes local times without their offset. Where such times go back by more
than `DISORDER`, the hour begins for the second time. If they never go back, only one of the
two hours has lines: the one that continues the lines before or after them.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from realtalk_async.times import second_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DISORDER = 5.0
"""Seconds by which lines of several threads and processes may be out of order."""

PART = 1 << 20
"""Bytes that are read at a time."""

LONGEST_STAMP = 32
"""Bytes from the end of a part that may belong to a time that the part cuts off."""

_STAMP = re.compile(rb"\n\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\]")

Place = tuple[int, int]
"""A descriptor, and an offset in its file."""


class Stamp(NamedTuple):
    """A local time in a file, and where its line begins."""

    place: Place
    reading: float
    """Seconds of the local clock, from any one moment on."""


@lru_cache(maxsize=256)
def _hour_may_come_twice(year: int, month: int, day: int, hour: int) -> bool:
    quarters = (datetime(year, month, day, hour, m) for m in (0, 15, 30, 45))  # noqa: DTZ001
    return any(second_time(quarter.astimezone()) for quarter in quarters)


def may_come_twice(moment: datetime) -> bool:
    """Return whether the hour of a local time comes twice; quick."""
    return _hour_may_come_twice(moment.year, moment.month, moment.day, moment.hour)


def nearest(moment: datetime, now: float) -> datetime:
    """Return the time with the reading of *moment* that is nearest to *now*."""
    second = second_time(moment)
    if second is None or now - moment.timestamp() < second.timestamp() - now:
        return moment
    return second


class RepeatedHours:
    """
    Which of two times the local times in a log mean.

    Args:
        descriptors: The files, the newest first.
    """

    def __init__(self, descriptors: list[int]) -> None:
        self._files = descriptors[::-1]
        self._found: dict[float, list[tuple[int, int, bool]]] = {}

    def find(self, first: datetime, place: Place) -> datetime:
        """
        Return the time that a line means.

        Args:
            first: Its time, the earlier one if there are two.
            place: The file of the line and its offset there.

        Raises:
            OSError: If a file cannot be read.
        """
        second = second_time(first)
        if second is None:
            return first
        begin, end = _window(first)
        if (key := _reading(begin)) not in self._found:
            self._found[key] = self._changes(begin, end)
        changes = self._found[key]
        number = bisect_right(changes, (self._files.index(place[0]), place[1], True))
        return second if number and changes[number - 1][2] else first

    def _changes(self, begin: datetime, end: datetime) -> list[tuple[int, int, bool]]:
        """
        Return where the lines of the first or the second time begin.

        Returns:
            (number of the file, offset, whether the second time begins), in order.
        """
        changes: list[tuple[int, int, bool]] = []
        before: Stamp | None = None
        run: list[Stamp] = []
        low, high = _reading(begin), _reading(end)

        def end_run(after: float) -> None:
            gap = run[0].reading - before.reading if before else inf
            for place, is_second in _divided(run, gap, after - run[-1].reading):
                changes.append((self._files.index(place[0]), place[1], is_second))
            run.clear()

        minutes = range(int(high - low) // 60)
        wanted = {_text(low + 60.0 * minute)[:13] for minute in minutes}
        for file in self._files:
            for stamp in _stamps(file, wanted):
                if low <= stamp.reading < high:
                    run.append(stamp)
                    continue
                if run:
                    end_run(stamp.reading)
                before = stamp
        if run:
            written = os.fstat(run[-1].place[0]).st_mtime
            end_run(_reading_at_second_time(written, end))
        return changes


def _window(first: datetime) -> tuple[datetime, datetime]:
    """Return the first and the last reading, exclusive, that come twice with this one."""
    minute, begin = timedelta(minutes=1), first.replace(second=0, microsecond=0)
    while second_time(begin - minute):
        begin -= minute
    second = second_time(begin)
    assert second is not None
    return begin, begin + (second - begin)


def _reading(moment: datetime) -> float:
    naive = moment.replace(tzinfo=None)
    return (naive - datetime(1970, 1, 1)).total_seconds()  # noqa: DTZ001


def _reading_at_second_time(written: float, end: datetime) -> float:
    """Return the reading of the clock at a moment as if it were after the change."""
    second = second_time(end - timedelta(minutes=1))
    assert second is not None
    offset = second.utcoffset()
    assert offset is not None
    return written + offset.total_seconds()


def _divided(
    run: list[Stamp], gap_before: float, gap_after: float
) -> list[tuple[Place, bool]]:
    """Return where each of the two times begins in a run of times that come twice."""
    steps = [later.reading - one.reading for one, later in pairwise(run)]
    back = min(steps, default=0.0)
    if back < -DISORDER:
        return [(run[0].place, False), (run[steps.index(back) + 1].place, True)]
    return [(run[0].place, -DISORDER <= gap_after < gap_before)]


def _stamps(file: int, wanted: set[bytes]) -> Iterator[Stamp]:
    """Yield the times of a file; of parts without *wanted* the first and the last one."""
    offset, data = 0, b"\n"
    while part := os.pread(file, PART, offset):
        base, data = offset - len(data), data + part
        offset += len(part)
        matches: Iterable[re.Match[bytes] | None] = _STAMP.finditer(data)
        if not any(hour in data for hour in wanted):
            last = max(0, data.rfind(b"\n[", 0, -LONGEST_STAMP))
            matches = _STAMP.search(data), _STAMP.search(data, last)
        for match in filter(None, matches):
            yield Stamp((file, base + match.start() + 1), _seconds(match[1]))
        data = data[-LONGEST_STAMP:]


def _seconds(text: bytes) -> float:
    try:
        return _reading(datetime.fromisoformat(text.decode()))
    except ValueError:
        return -inf


def _text(reading: float) -> bytes:
    moment = datetime(1970, 1, 1) + timedelta(seconds=reading)  # noqa: DTZ001
    return f"{moment:%Y-%m-%d %H:%M:%S}".encode()
