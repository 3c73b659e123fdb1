"""Local time and durations, formatted for people."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

_zones: dict[tuple[int, str], timezone] = {}


def now_local() -> datetime:
    """Return the wall-clock time in the local zone, with its offset."""
    now = time.time()
    local = time.localtime(now)
    zone = local.tm_gmtoff, local.tm_zone
    # All times share one zone object per offset, because thousands of children keep many times.
    if zone not in _zones:
        _zones[zone] = timezone(timedelta(seconds=zone[0]), zone[1])
    return datetime.fromtimestamp(now, _zones[zone])


def second_time(first: datetime) -> datetime | None:
    """
    Return the later time with the same reading of a local clock; None if there is none.

    At the end of summer time an hour comes twice.

    Args:
        first: A local time, with its offset; the earlier one if there are two.
    """
    reading = first.replace(tzinfo=None)
    later = reading.replace(fold=1).astimezone()
    return later if later > reading.replace(fold=0).astimezone() else None


def format_hms(seconds: float) -> str:
    """Return a duration as ``HH:MM:SS``; hours may take more than two digits."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest:02}"


def format_duration(seconds: float) -> str:
    """Return a duration as ``0.30 s``, or as ``HH:MM:SS`` from one minute on."""
    return f"{seconds:.2f} s" if seconds < 60 else format_hms(seconds)
