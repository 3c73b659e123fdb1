"""
Answer questions about the log: newest entries first found, by reading backwards.

Where a question demands a text (a level, a component, what a pattern must have in it),
only the lines that hold it are parsed; what decides is the parsed entry, so a message
cannot pose as another level or component.
"""

from __future__ import annotations

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.logs.entry import Level, LogEntry, parse_line, searchable
from realtalk_async.logs.prefilter import Needle, is_plain, needles_of, whole_name
from realtalk_async.logs.reverse_reader import (
    Absences,
    Block,
    Index,
    blocks_backwards,
    identity_of,
    opened,
)
from realtalk_async.logs.serialize import show_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SLACK = timedelta(hours=2)
"""
How far out of order times may be: a clock that was set back, the end of summer time.

A search for entries since a given time goes on for so much longer.
"""


@dataclass(frozen=True, slots=True)
class Query:
    """Which entries are wanted; see `Logger.get_logs`."""

    level: Level | None = None
    component: str | None = None
    pattern: re.Pattern[str] | None = None
    n: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, entry: LogEntry) -> bool:
        """Whether *entry* is wanted."""
        return (
            (self.level is None or entry.level is self.level)
            and (self.component is None or entry.component == self.component)
            and (self.since is None or entry.timestamp >= self.since)
            and (self.until is None or entry.timestamp < self.until)
            and (self.pattern is None or _contains(entry, self.pattern))
        )

    def is_over(self, block: Block) -> bool:
        """Whether all that was written before *block* is too old to be wanted."""
        if self.since is None:
            return False
        first = parse_line(block.line_at(block.begin))
        return first is not None and first.timestamp < self.since - SLACK

    def needles(self) -> list[Needle]:
        """Return what every wanted line has, each of them."""
        needles = [] if self.pattern is None else needles_of(self.pattern)
        if self.component is not None and is_plain(self.component):
            needles.append(whole_name(self.component))
        if self.level is not None:
            needles.append(whole_name(self.level))
        return needles


def make_query(
    level: str | None,
    component: str | None,
    pattern: str | re.Pattern[str] | None,
    n: int | None,
    since: datetime | None,
    until: datetime | None,
) -> Query:
    """
    Check what a caller asks for.

    Raises:
        InvalidConfiguration: If there is no such level, *pattern* is no regular
            expression, *n* is negative, or a time lacks its zone.
    """
    if n is not None and n < 0:
        msg = f"n is {n}; it is a number of entries, at least 0"
        raise InvalidConfiguration(msg)
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            msg = f"{name} lacks a time zone; give {name}.astimezone() for local time"
            raise InvalidConfiguration(msg)
    try:
        compiled = None if pattern is None else re.compile(pattern)
    except re.error as error:
        msg = f"pattern {pattern!r} is no regular expression: {error}"
        raise InvalidConfiguration(msg) from error
    named = None if level is None else Level.of(level)
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
        catch_up: Called first, in the thread: it completes the file.

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
    Return the entries that *query* wants, oldest first, also from rotated files.

    It reads what was there when it began; others may write, rotate and remove
    meanwhile. What is no entry is passed over.

    Args:
        path: The present file; ``path.1`` and so on are the older ones.
        query: What is wanted.
        stop: Set by who no longer wants the answer; it is looked at for every block.
        index: What earlier searches have learned; this one adds to it.

    Raises:
        OSError: If a file that is there cannot be read.
    """
    found: list[LogEntry] = []
    if query.n == 0:
        return found
    with ExitStack() as stack:
        descriptors = opened(path, stack)
        known = {identity_of(descriptor): descriptor for descriptor in descriptors}
        for gone in index.keys() - known.keys():
            index.pop(gone, None)
        for identity, descriptor in known.items():
            absences = index.setdefault(identity, Absences())
            if _search_file(descriptor, query, stop, absences, found):
                break
    return found[::-1]


def _search_file(
    descriptor: int,
    query: Query,
    stop: threading.Event,
    absences: Absences,
    found: list[LogEntry],
) -> bool:
    """Add what is wanted of one file to *found*; return whether that is all."""
    needles = query.needles()
    needle: Needle | None = None
    for block in blocks_backwards(descriptor, absences, needles):
        if stop.is_set():
            return True
        needle = needle or _rarest(needles, block)
        lines = _candidates(block, needle, query)
        if needle is not None and block.number is not None and not lines:
            absences.learn(descriptor, block.number, needle)
        if _collect(lines, query, found):
            return True
        if query.is_over(block):
            return True
    return False


def _rarest(needles: list[Needle], block: Block) -> Needle | None:
    """Return the one that *block* has least often, as a guess for all the others."""
    if len(needles) < 2:
        return needles[0] if needles else None
    return min(needles, key=lambda needle: needle.frequency(block.data))


def _candidates(block: Block, needle: Needle | None, query: Query) -> list[bytes]:
    """Return the lines of *block* that hold *needle*, or else may be wanted."""
    if needle is not None:
        starts = needle.lines(block.data, block.begin, block.end)
        return [block.line_at(start) for start in starts]
    lines = bytes(block.data[block.begin : block.end]).split(b"\n")
    if query.pattern is None:
        return lines
    return [line for line in lines if may_match(line, query.pattern)]


def may_match(line: bytes, pattern: re.Pattern[str]) -> bool:
    """Whether *pattern* may be found in the entry that *line* is."""
    texts = searchable(line.decode("utf-8", "replace"))
    return texts is None or any(map(pattern.search, texts))


def _collect(lines: list[bytes], query: Query, found: list[LogEntry]) -> bool:
    """Add what is wanted of *lines* to *found*; return whether that is all."""
    for line in reversed(lines):
        entry = parse_line(line)
        if entry is not None and query.matches(entry):
            found.append(entry)
            if len(found) == query.n:
                return True
    return False


def _contains(entry: LogEntry, pattern: re.Pattern[str]) -> bool:
    if pattern.search(entry.message):
        return True
    return bool(entry.context) and bool(pattern.search(show_json(entry.context)))
