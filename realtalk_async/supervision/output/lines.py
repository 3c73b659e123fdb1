"""The lines of one stream as a read-only sequence."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import chain, islice, takewhile
from typing import TYPE_CHECKING, overload

from realtalk_async import arguments
from realtalk_async.supervision.output.line import OutputLine

if TYPE_CHECKING:
    from datetime import datetime

    from realtalk_async.supervision.output.buffer import OutputBuffer

MOST_UNCOUNTED = 1024
"""Lines from the end that are found by reading backwards; others need a count."""


class OutputLines(Sequence[OutputLine]):
    """
    The lines of one stream between two points: a read-only sequence, cut on demand.

    A snapshot: later output does not appear in it; output that is forgotten later becomes
    a gap line at its beginning. Slices are lists. ``lines[-100:]``
    reads only the end; ``len()`` and positive indices count the lines before, once.

    Args:
        buffer: The output of the stream.
        incarnation: The incarnation whose lines are wanted; all if None.
    """

    def __init__(self, buffer: OutputBuffer, incarnation: int | None = None) -> None:
        self._buffer = buffer
        self._start, self._end = buffer.span(incarnation)
        self._gaps = buffer.gap_lines(incarnation)

    @property
    def _first(self) -> int:
        """The offset of the first byte that is not forgotten."""
        return min(max(self._start, self._buffer.kept_from), self._end)

    @property
    def _forgotten(self) -> tuple[OutputLine, ...]:
        """The gap line of the bytes that are forgotten, if any."""
        line = self._buffer.forgotten_line(self._start, self._end)
        return () if line is None else (line,)

    @property
    def _kept(self) -> int:
        """The number of lines without the gap lines."""
        count, first = self._buffer.count_before, self._first
        return count(self._end) - count(first) if first < self._end else 0

    def __len__(self) -> int:
        return len(self._forgotten) + self._kept + len(self._gaps)

    def __iter__(self) -> Iterator[OutputLine]:
        yield from self._forgotten
        yield from self._from_offset(self._first)

    def _from_offset(self, offset: int) -> Iterator[OutputLine]:
        """Iterate from the line that holds *offset*, later gap lines included."""
        make_line = self._buffer.make_line
        for start, lines in self._blocks(offset):
            for raw in lines:
                yield make_line(raw, start)
                start += len(raw)
        yield from self._gaps

    def raw_lines(self) -> Iterator[bytes]:
        """
        Iterate over the bytes of each line, with its line feed; much faster than the lines.

        Bytes that are missing are left out: all lines joined are what is kept.
        """
        for _, lines in self._blocks(self._first):
            yield from lines

    def texts(self) -> Iterator[str]:
        """
        Iterate over the text of each line, as `OutputLine.text`; much faster than the lines.

        Gap lines are left out.
        """
        for raw in self.raw_lines():
            yield raw.removesuffix(b"\n").removesuffix(b"\r").decode(errors="replace")

    def _blocks(self, offset: int) -> Iterator[tuple[int, Sequence[bytes]]]:
        """
        Yield (start, lines) of each block, from the line that holds *offset*.

        An unfinished last line is as it was when this sequence was made.
        """
        if offset >= self._end:
            return
        for start, lines in self._buffer.blocks_from(offset):
            end = start + sum(map(len, lines))
            if offset <= start and end <= self._end:
                yield start, lines
            elif offset < end:
                yield from self._part(start, lines, offset)
            if end >= self._end:
                return

    def _part(
        self, start: int, lines: Sequence[bytes], offset: int
    ) -> Iterator[tuple[int, Sequence[bytes]]]:
        """Yield the lines of one block from *offset* to the end of this sequence."""
        for raw in lines:
            if offset < start + len(raw) and start < self._end:
                yield start, (raw[: self._end - start],)
            start += len(raw)

    def __reversed__(self) -> Iterator[OutputLine]:
        yield from reversed(self._gaps)
        yield from self._kept_back()
        yield from self._forgotten

    def _kept_back(self) -> Iterator[OutputLine]:
        if self._first >= self._end:
            return
        for start, lines in self._buffer.blocks_back(self._end):
            offset = start + sum(map(len, lines))
            for raw in reversed(lines):
                offset -= len(raw)
                if offset < self._first:
                    return
                if offset < self._end:
                    yield self._buffer.make_line(raw[: self._end - offset], offset)

    @overload
    def __getitem__(self, index: int) -> OutputLine: ...
    @overload
    def __getitem__(self, index: slice) -> list[OutputLine]: ...
    def __getitem__(self, index: int | slice) -> OutputLine | list[OutputLine]:
        if isinstance(index, slice):
            return self._slice(index)
        if -MOST_UNCOUNTED <= index < 0:
            found = self._newest(-index)
            if len(found) == -index:
                return found[0]
        else:
            number = index + len(self) if index < 0 else index
            if 0 <= number < len(self):
                return next(self._from_number(number))
        raise IndexError(f"line {index} of {len(self)}")

    def _from_number(self, number: int) -> Iterator[OutputLine]:
        """Iterate from the line with that number, counted from 0."""
        if number < len(self._forgotten):
            return iter(self)
        number -= len(self._forgotten)
        kept = self._kept
        if number >= kept:
            return iter(self._gaps[number - kept :])
        before = self._buffer.count_before(self._first)
        return self._from_offset(self._buffer.start_of_line(before + number))

    def _newest(self, count: int) -> list[OutputLine]:
        if not self._gaps:
            found = self._buffer.newest_lines(count, self._first, self._end)
            if found:
                return found
        found = list(islice(reversed(self), count))
        found.reverse()
        return found

    def _slice(self, index: slice) -> list[OutputLine]:
        first: int | None = index.start
        to_the_end = index.stop is None and index.step in {None, 1}
        if to_the_end and first is not None and -MOST_UNCOUNTED <= first < 0:
            return self._newest(-first)
        wanted = range(*index.indices(len(self)))
        if not wanted:
            return []
        low, high = sorted((wanted[0], wanted[-1]))
        return list(islice(self._from_number(low), high - low + 1))[:: wanted.step]

    def between(
        self, since: datetime | None = None, until: datetime | None = None
    ) -> list[OutputLine]:
        """
        Return the lines that were complete at or after *since* and before *until*.

        Args:
            since: The earliest arrival, timezone-aware; the beginning if omitted.
            until: The first arrival that is too late; the end if omitted.

        Raises:
            InvalidConfiguration: If a time has no time zone.
        """
        arguments.moment("since", since, optional=True)
        arguments.moment("until", until, optional=True)
        lines = iter(self)
        if since is not None:
            kept = self._from_offset(max(self._first, self._buffer.offset_at(since)))
            lines = chain(self._forgotten, kept)
        ended = takewhile(lambda line: until is None or line.at < until, lines)
        return [line for line in ended if since is None or line.at >= since]

    def __repr__(self) -> str:
        return f"<OutputLines {self._buffer.stream} {self._end - self._start} bytes>"

    def __str__(self) -> str:
        """Return the text of all lines, gap lines included."""
        return "\n".join(line.text for line in self)


def interleave(*streams: OutputLines) -> Iterator[OutputLine]:
    """Yield the lines of several streams of one process in the order of arrival."""
    return heapq.merge(*streams, key=lambda line: line.sequence)
