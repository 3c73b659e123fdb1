"""When each chunk of a stream arrived: the newest in memory, older ones in a file."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

from realtalk_async.supervision.output.spill import SpillStore

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNKS = 2048
"""Chunks of one page. A page in the file has one column after the other."""

COLUMN = 8 * CHUNKS
"""Bytes of one column of a page."""

PAGE = 4 * COLUMN
"""Bytes of a page."""

BUDGET = 4 * PAGE
"""Bytes of full pages of one stream that stay in memory."""

ENDS, TIMES, STAMPS, SEQUENCES = range(4)
TYPES = "QddQ"


class Arrival(NamedTuple):
    """The arrival of one chunk."""

    monotonic: float
    """Monotonic seconds."""
    stamp: float
    """Seconds since 1970; never less than that of an earlier chunk of the stream."""
    sequence: int
    """The number of the chunk, in the order of arrival over several streams."""


class ArrivalRange(NamedTuple):
    """A range of offsets whose bytes arrived together."""

    start: int
    """No byte from here on, up to the end, arrived with another chunk."""
    end: int
    arrival: Arrival


Columns = tuple["array[int]", "array[float]", "array[float]", "array[int]"]


def empty_columns() -> Columns:
    """Return the columns of a page without chunks."""
    return array("Q"), array("d"), array("d"), array("Q")


# All indexes without chunks share these; no index changes them.
EMPTY = empty_columns()


class ChunkIndex:
    """
    The arrival of each chunk of a stream, by the offset of its end and by its time.

    Memory is bounded whatever the number of chunks: 64 KiB are being filled, 256 KiB stay
    in memory, one page is cached; older pages are in a file, 32 bytes a chunk.

    Args:
        store: Keeps the full pages.
    """

    __slots__ = (
        "_cached",
        "_columns",
        "_first",
        "_full",
        "_limits",
        "_newest",
        "store",
    )

    def __init__(self, store: SpillStore | None = None) -> None:
        self.store = SpillStore(budget=BUDGET) if store is None else store
        self._columns: Columns = EMPTY
        """The page that is being filled."""
        self._full = 0
        """The number of full pages."""
        self._limits = (-1.0,) * len(TYPES)
        """The last value of each column in the full pages."""
        self._first = 0
        """The first page that is not forgotten."""
        self._newest = float("-inf")
        """The stamp of the newest chunk."""
        self._cached: tuple[int, tuple[memoryview[float], ...]] | None = None

    def add(self, end: int, monotonic: float, stamp: float, sequence: int) -> None:
        """Add a chunk that ends at the offset *end*, behind all others."""
        columns = self._columns
        if len(columns[ENDS]) == CHUNKS:
            page = b"".join(column.tobytes() for column in columns)
            self.store.add(page, PAGE)
            self._full += 1
            self._limits = tuple(column[-1] for column in columns)
            columns = EMPTY
        if columns is EMPTY:
            columns = self._columns = empty_columns()
        # The wall clock may be set back: stamps wait until it has caught up.
        self._newest = max(self._newest, stamp)
        ends, times, stamps, sequences = columns
        ends.append(end)
        times.append(monotonic)
        stamps.append(self._newest)
        sequences.append(sequence)

    def next_stamp(self, stamp: float) -> float:
        """Return the stamp that a chunk would get whose wall time is *stamp*."""
        return max(self._newest, stamp)

    def arrival(self, end: int) -> Arrival:
        """Return the arrival of the chunk that holds the byte before the offset *end*."""
        return self.arrival_range(end).arrival

    def arrival_range(self, end: int) -> ArrivalRange:
        """Return the range, all from one chunk, that holds the byte before *end*."""
        columns, place = self._find(ENDS, end)
        ends = columns[ENDS]
        arrival = Arrival(
            columns[TIMES][place],
            columns[STAMPS][place],
            int(columns[SEQUENCES][place]),
        )
        # The first chunk of a page begins in another page, which need not be read.
        start = int(ends[place - 1]) if place else end - 1
        return ArrivalRange(start, int(ends[place]), arrival)

    def offset_at(self, stamp: float) -> int:
        """Return an offset that no chunk which arrived at or after *stamp* begins before."""
        columns, place = self._find(STAMPS, stamp)
        if place:
            return int(columns[ENDS][place - 1])
        # The first chunk of a page: the end of the page before is its beginning.
        page = self._full if columns is self._columns else self._page_of(columns)
        return int(self._last(page - 1, ENDS)) if page > self._first else 0

    def _page_of(self, columns: Sequence[Sequence[float]]) -> int:
        assert self._cached is not None
        assert columns is self._cached[1]
        return self._cached[0]

    def _find(self, column: int, value: float) -> tuple[Sequence[Sequence[float]], int]:
        """
        Return the first place where *column* is at least *value*, with its page.

        The columns never decrease. The place is behind the page that is being filled if
        there is none.
        """
        page = self._full
        if page > self._first and value <= self._limits[column]:
            cached = self._cached
            if (
                cached
                and cached[0] >= self._first
                and _covers(cached[1][column], value)
            ):
                page = cached[0]
            else:
                wanted = range(self._first, page)
                last = partial(self._last, column=column)
                page = self._first + bisect_left(wanted, value, key=last)
        columns = self._columns if page == self._full else self._load(page)
        return columns, bisect_left(columns[column], value)

    def _last(self, page: int, column: int) -> float:
        """Return the last value of a column of a full page."""
        if page == self._full - 1:
            return self._limits[column]
        if self._cached is not None and self._cached[0] == page:
            return self._cached[1][column][-1]
        start = page * PAGE + (column + 1) * COLUMN - 8
        data = self.store.read(start, start + 8)
        return _numbers(memoryview(data), column)[0]

    def _load(self, page: int) -> tuple[memoryview[float], ...]:
        """Return the columns of a full page; those of the latest page are cached."""
        if self._cached is None or self._cached[0] != page:
            start = page * PAGE
            data = memoryview(self.store.read(start, start + PAGE))
            columns = tuple(
                _numbers(data[number * COLUMN : (number + 1) * COLUMN], number)
                for number in range(len(TYPES))
            )
            self._cached = page, columns
        return self._cached[1]

    def forget(self, before: int) -> None:
        """Forget the pages whose chunks all end before the offset *before*."""
        while self._first < self._full and self._last(self._first, ENDS) <= before:
            self._first += 1
        self.store.forget(self._first * PAGE)


def _covers(column: memoryview[float], value: float) -> bool:
    """Return whether the first place with at least *value* is in this page for sure."""
    return bool(column[0] < value <= column[-1])


def _numbers(data: memoryview, column: int) -> memoryview[float]:
    """Return the numbers of a column from its bytes."""
    if TYPES[column] == "d":
        return data.cast("d")
    return cast("memoryview[float]", data.cast("Q"))
