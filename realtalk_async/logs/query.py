"""
Searches in the log: `Query` filters entries, `search` reads the files backwards.

`search` skips lines in three steps: the negative index excludes parts of a file without
reading them (`reverse_reader`), a literal prefilter excludes lines without parsing them
(`prefilter`), and the parsed entry decides. So a message cannot pose as another level or
component.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING

from realtalk_async import arguments
from realtalk_async.logs.entry import (
    Level,
    LogEntry,
    has_local_time,
    parse_line,
    searchable,
)
from realtalk_async.logs.prefilter import (
    LiteralPrefilter,
    is_literal,
    prefilter_of_name,
    prefilters_of_pattern,
)
from realtalk_async.logs.reverse_reader import (
    Block,
    Index,
    NegativeIndex,
    blocks_backwards,
    identity_of,
    open_files,
)
from realtalk_async.logs.serialize import show_json
from realtalk_async.logs.times.line_times import newest_time
from realtalk_async.logs.times.repeated_hour import RepeatedHours, may_come_twice

if TYPE_CHECKING:
    import re
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

REPEATED = 2 * 3600.0
"""Seconds that come twice at the end of summer time, at most: local times are unsure."""


@dataclass(frozen=True, slots=True)
class Query:
    """The conditions of a search; see `Logger.get_logs`."""

    level: Level | None = None
    component: str | None = None
    pattern: re.Pattern[str] | None = None
    n: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, entry: LogEntry) -> bool:
        """Whether *entry* meets all conditions except `n`."""
        return (
            (self.level is None or entry.level is self.level)
            and (self.component is None or entry.component == self.component)
            and (self.since is None or entry.timestamp >= self.since)
            and (self.until is None or entry.timestamp < self.until)
            and (self.pattern is None or _contains(entry, self.pattern))
        )

    @property
    def oldest(self) -> float:
        """Times before this, in seconds since 1970, are too old whatever they mean."""
        return -inf if self.since is None else self.since.timestamp() - REPEATED

    def prefilters(self) -> list[LiteralPrefilter]:
        """Return prefilters that the line of each matching entry passes."""
        prefilters = [] if self.pattern is None else prefilters_of_pattern(self.pattern)
        if self.component is not None and is_literal(self.component):
            prefilters.append(prefilter_of_name(self.component))
        if self.level is not None:
            prefilters.append(prefilter_of_name(self.level))
        return prefilters


def make_query(
    level: str | None,
    component: str | None,
    pattern: str | re.Pattern[str] | None,
    n: int | None,
    since: datetime | None,
    until: datetime | None,
) -> Query:
    """
    Check the arguments of a search and return them as a `Query`.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """
    named = None if level is None else Level.of(level)
    arguments.text("component", component, optional=True)
    compiled = None if pattern is None else arguments.pattern("pattern", pattern)
    arguments.integer("n", n, minimum=0, optional=True)
    arguments.moment("since", since, optional=True)
    arguments.moment("until", until, optional=True)
    return Query(named, component, compiled, n, since, until)


async def search_in_thread(
    path: Path, query: Query, index: Index, catch_up: Callable[[], object]
) -> list[LogEntry]:
    """
    Run `search` in a thread of its own.

    Args:
        path: See `search`.
        query: See `search`.
        index: See `search`.
        catch_up: Called first, in the thread: it writes the lines that wait.

    Cancellation: The search ends within one block of the file.
    """
    stop = threading.Event()
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(1, thread_name_prefix="realtalk-log-query")

    def run() -> list[LogEntry]:
        catch_up()
        return search(path, query, stop, index)

    try:
        return await loop.run_in_executor(executor, run)
    finally:
        stop.set()
        executor.shutdown(wait=False)


def search(
    path: Path, query: Query, stop: threading.Event, index: Index
) -> list[LogEntry]:
    """
    Return the entries that match *query*, oldest first, also from rotated files.

    It reads the files as they were at its beginning; other threads and processes may
    write, rotate and remove them meanwhile. Lines that are not entries are skipped.

    Args:
        path: The current file; ``path.1`` and so on are the rotated files.
        query: The conditions.
        stop: Set it to end the search; it is checked before each block.
        index: The negative index of earlier searches; this search adds to it.

    Raises:
        LogUnreadable: If a file exists but cannot be read.
    """
    found: list[LogEntry] = []
    if query.n == 0:
        return found
    with ExitStack() as stack:
        descriptors = open_files(path, stack)
        files = {identity_of(descriptor): descriptor for descriptor in descriptors}
        hours = RepeatedHours(list(files.values()))
        for deleted in index.keys() - files.keys():
            index.pop(deleted, None)
        for identity, descriptor in files.items():
            file_index = index.setdefault(identity, NegativeIndex())
            if _search_file(descriptor, query, stop, file_index, hours, found):
                break
    return found[::-1]


def _search_file(
    descriptor: int,
    query: Query,
    stop: threading.Event,
    index: NegativeIndex,
    hours: RepeatedHours,
    found: list[LogEntry],
) -> bool:
    """Add the matching entries of one file to *found*; return whether to stop there."""
    prefilters = query.prefilters()
    prefilter: LiteralPrefilter | None = None
    for block in blocks_backwards(descriptor, index, prefilters, query.oldest):
        if stop.is_set():
            return True
        # The clock may have been set: older entries may stand after newer ones.
        if query.since is not None and block.number is not None:
            data = block.data[block.begin : block.end]
            newest = newest_time(data, query.oldest)
            index.add_newest(descriptor, block.number, newest)
            if newest < query.oldest:
                continue
        prefilter = prefilter or _rarest(prefilters, block)
        lines = _candidates(block, prefilter, query)
        if prefilter is not None and block.number is not None and not lines:
            index.add(descriptor, block.number, prefilter)
        for start, line in reversed(lines):
            entry = parse_line(line)
            if entry is None:
                continue
            if may_come_twice(entry.timestamp) and has_local_time(line):
                place = descriptor, block.offset + start
                entry = replace(entry, timestamp=hours.find(entry.timestamp, place))
            if query.matches(entry):
                found.append(entry)
                if len(found) == query.n:
                    return True
    return False


def _rarest(
    prefilters: list[LiteralPrefilter], block: Block
) -> LiteralPrefilter | None:
    """Return the prefilter that is rarest in *block*, as a guess for the whole file."""
    if len(prefilters) < 2:
        return prefilters[0] if prefilters else None
    return min(prefilters, key=lambda prefilter: prefilter.frequency(block.data))


def _candidates(
    block: Block, prefilter: LiteralPrefilter | None, query: Query
) -> list[tuple[int, bytes]]:
    """Return the lines of *block* that must be parsed, with their places in its data."""
    if prefilter is not None:
        starts = prefilter.lines(block.data, block.begin, block.end)
        return [(start, block.line_at(start)) for start in starts]
    lines = bytes(block.data[block.begin : block.end]).split(b"\n")
    places = accumulate((len(line) + 1 for line in lines), initial=block.begin)
    found = list(zip(places, lines, strict=False))
    if query.pattern is None:
        return found
    return [one for one in found if may_match(one[1], query.pattern)]


def may_match(line: bytes, pattern: re.Pattern[str]) -> bool:
    """Whether the entry of *line* may contain a match of *pattern*."""
    texts = searchable(line.decode("utf-8", "replace"))
    return texts is None or any(map(pattern.search, texts))


def _contains(entry: LogEntry, pattern: re.Pattern[str]) -> bool:
    if pattern.search(entry.message):
        return True
    return bool(entry.context) and bool(pattern.search(show_json(entry.context)))
