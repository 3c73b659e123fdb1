"""The captured output of one stream, cut into dated lines when a reader needs them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from realtalk_async.supervision.output.append_buffer import (
    BLOCK,
    LAST_LINES_SIZE,
    AppendBuffer,
    whole_characters,
)
from realtalk_async.supervision.output.line import (
    OutputLine,
    count_lines,
    last_record,
    local_time,
    split_lines,
    split_records,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from realtalk_async.supervision.kernel.pipes import StreamName
    from realtalk_async.supervision.output.append_buffer import Gap
    from realtalk_async.supervision.output.chunk_index import ChunkIndex
    from realtalk_async.supervision.output.line import Clock
    from realtalk_async.supervision.output.spill import SpillStore

CARRIAGE_RETURN = ord("\r")

LINES_PER_TURN = 256
"""Lines made in one turn of the event loop: about half a millisecond."""


@dataclass(frozen=True, slots=True)
class Volume:
    """The amount of output of one stream so far, over every incarnation."""

    size: int
    """Bytes, including those that were dropped or that a consumer received."""
    dropped: int
    """Bytes that arrived after `max_size` was reached."""
    lines: int
    """Lines, as far as they were counted."""
    scanned: int
    """Bytes that this call has read to count lines."""
    all_counted: bool
    """Whether `lines` are all complete lines so far."""


class Origin(NamedTuple):
    """What the lines of one chunk have in common, and the offsets between which they end."""

    start: int
    end: int
    at: datetime
    monotonic: float
    incarnation: int
    sequence: int


UNKNOWN = Origin(0, 0, local_time(0.0), 0.0, 0, 0)
"""The origin of no line."""


class OutputBuffer(AppendBuffer):
    """
    All output of one stream of a process, over all of its incarnations.

    Append-only; nothing is dropped below *max_size* bytes. The bytes after that are
    counted in `dropped`, and readers see one gap line per incarnation with the number.
    """

    __slots__ = ("_latest_block", "_latest_origin", "_reported_lines", "stream")

    def __init__(
        self,
        stream: StreamName,
        *,
        clock: Clock,
        store: SpillStore | None = None,
        index: ChunkIndex | None = None,
        max_size: int = 1 << 40,
        next_sequence: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(
            clock=clock,
            store=store,
            index=index,
            max_size=max_size,
            next_sequence=next_sequence,
        )
        self.stream: StreamName = stream
        self._latest_block: tuple[int, list[bytes]] | None = None
        self._latest_origin = UNKNOWN
        self._reported_lines = 0

    # ---- lines from an offset

    def make_line(self, raw: bytes, start: int) -> OutputLine:
        """
        Return the line that has these bytes and begins at *start*.

        Its time is the arrival of the chunk that holds its last byte.
        """
        end = start + len(raw)
        origin = self._latest_origin
        if not origin.start < end <= origin.end:
            origin = self._latest_origin = self._origin_of(end)
        return OutputLine(
            raw,
            origin.at,
            origin.monotonic,
            self.stream,
            origin.incarnation,
            origin.sequence,
            partial=not raw.endswith(b"\n"),
        )

    def _origin_of(self, end: int) -> Origin:
        """Return the origin of the line that ends at the offset *end*."""
        start, range_end, arrival = self._index.arrival_range(end)
        return Origin(
            start,
            range_end,
            local_time(arrival.stamp),
            arrival.monotonic,
            self._incarnation_at(end),
            arrival.sequence,
        )

    def offset_at(self, moment: datetime) -> int:
        """Return an offset at or before the first byte that arrived at *moment*."""
        # Wall times are rounded to microseconds.
        return self._index.offset_at(moment.timestamp() - 1e-3)

    def _make_lines(self, raws: list[bytes], offset: int) -> list[OutputLine]:
        """Return the lines that follow each other from *offset*."""
        lines: list[OutputLine] = []
        for raw in raws:
            lines.append(self.make_line(raw, offset))
            offset += len(raw)
        return lines

    def next_line(self) -> int:
        """Return the offset of the first record that is not complete yet."""
        start, end = self._block_starts[-1] - self._base, self._filled
        line = self._segment.rfind(b"\n", start, end) + 1
        # The carriage returns at the end belong to the record: a line feed may follow.
        while end > start and self._segment[end - 1] == CARRIAGE_RETURN:
            end -= 1
        state = self._segment.rfind(b"\r", start, end) + 1
        return self._base + max(line, state, start)

    def complete_records(self, offset: int) -> list[OutputLine]:
        """
        Return complete lines and their overwritten states from *offset*, a record's start.

        At most `LINES_PER_TURN`, so that a long history is read in several turns.
        """
        return self._make_lines(self.raw_complete_records(offset), offset)

    def raw_complete_records(self, offset: int) -> list[bytes]:
        """Return the bytes of these records."""
        may_grow = offset >= self._block_starts[-1]
        return split_records(self.read(offset), LINES_PER_TURN, may_grow=may_grow)

    def unfinished_record(self, offset: int) -> OutputLine | None:
        """Return the whole characters from *offset* as a line, if there are any."""
        data = self.read(offset)
        data = data[: whole_characters(data)]
        return self.make_line(data, offset) if data else None

    def line_start(self, offset: int) -> int:
        """Return the start of the line that holds the byte at *offset*."""
        offset = max(offset, self.kept_from)
        index = self._block_of(offset)
        start = self._block_starts[index]
        return start + self._block(index).rfind(b"\n", 0, offset - start) + 1

    # ---- newest lines

    def newest_lines(self, count: int, start: int, end: int) -> list[OutputLine]:
        """
        Return the newest *count* lines between two offsets, without cutting a block.

        Returns:
            The lines; [] if an eighth of a block does not hold so many.
        """
        first = max(start, end - BLOCK // 8)
        starts = self._block_starts
        if starts[bisect_left(starts, end) - 1] > first:  # it may end a line
            first = starts[bisect_left(starts, end) - 1]
        data = self._bytes(first, end)
        if data.count(b"\n") <= count:
            return []
        *lines, rest = data.rsplit(b"\n", count + 1)[1:]
        raws = [*(line + b"\n" for line in lines), *([rest] if rest else [])][-count:]
        return self._make_lines(raws, end - sum(map(len, raws)))

    def last_lines(self, incarnation: int, count: int = 10) -> list[OutputLine]:
        """
        Return the newest lines of *incarnation*, at most *count*, within 4 KiB.

        Of a line that was overwritten after carriage returns, only the last state.
        """
        gap = self._gaps.get(incarnation)
        if gap is None:
            return self._last_kept(incarnation, count)
        raws = split_lines(gap.newest)[-count:]
        dropped = [self._dropped_line(last_record(raw), gap) for raw in raws]
        # Kept lines come before them only if no byte in between is missing.
        is_whole = gap.count == len(gap.newest)
        kept = self._last_kept(incarnation, count) if is_whole else []
        return [*kept, *dropped][-count:]

    def _last_kept(self, incarnation: int, count: int) -> list[OutputLine]:
        start, end = self.span(incarnation)
        if start == end:
            return []
        first = max(start, end - LAST_LINES_SIZE)
        raws = split_lines(self._bytes(first, end))
        if first > start and len(raws) > 1:
            first += len(raws.pop(0))  # only the end of this line was read
        first += sum(map(len, raws[:-count]))
        lines: list[OutputLine] = []
        for raw in raws[-count:]:
            state = last_record(raw)
            lines.append(self.make_line(state, first + raw.rfind(state)))
            first += len(raw)
        return lines

    # ---- gaps

    def gap_lines(self, incarnation: int | None) -> tuple[OutputLine, ...]:
        """Return the gap line of an incarnation, if it has one; None means of all."""
        return tuple(
            replace(self._dropped_line(b"", gap), partial=False, gap=gap.count)
            for gap in self._gaps.values()
            if incarnation in {None, gap.incarnation}
        )

    def forgotten_line(self, start: int, end: int) -> OutputLine | None:
        """Return the gap line of the forgotten bytes between two offsets, if any."""
        gap, kept_from = self._forgotten, self.kept_from
        if gap is None:
            return None
        # Bytes that were never kept count in the whole output only.
        is_whole = not start and end >= kept_from
        missing = gap.count if is_whole else min(end, kept_from) - start
        if missing <= 0:
            return None
        line = self._dropped_line(b"", gap)
        reason = "older than the newest incarnations"
        return replace(line, partial=False, gap=missing, gap_reason=reason)

    def _dropped_line(self, raw: bytes, gap: Gap) -> OutputLine:
        return OutputLine(
            raw,
            local_time(gap.began.stamp),
            gap.began.monotonic,
            self.stream,
            gap.incarnation,
            gap.began.sequence,
            partial=not raw.endswith(b"\n"),
        )

    # ---- lines by block and by number

    def blocks_from(self, offset: int) -> Iterator[tuple[int, list[bytes]]]:
        """Yield (start, lines) of each block from the block that holds *offset*."""
        while True:
            index = self._block_of(offset)
            # The block that is last now ends the iteration. If it is closed before the
            # next step, the next block begins with its last line: that would come twice.
            is_last = index == len(self._block_starts) - 1
            offset = self._block_end(index)
            yield self._block_starts[index], self._lines_of_block(index)
            if is_last:
                return

    def blocks_back(self, offset: int) -> Iterator[tuple[int, list[bytes]]]:
        """Yield (start, lines) of each block backwards from *offset*."""
        while True:
            index = max(0, bisect_left(self._block_starts, offset) - 1)
            offset = self._block_starts[index]
            yield offset, self._lines_of_block(index)
            if offset <= self.kept_from:
                return

    def _lines_of_block(self, index: int) -> list[bytes]:
        """Return the lines of a block; those of the latest block are cached."""
        if index == len(self._block_starts) - 1:  # it still grows
            return split_lines(self._block(index))
        start = self._block_starts[index]
        if self._latest_block is None or self._latest_block[0] != start:
            self._latest_block = start, split_lines(self._block(index))
        return self._latest_block[1]

    def count_before(self, offset: int) -> int:
        """
        Return the number of lines that begin before *offset*.

        Each block is counted once, at the first need: 0.45 s a gigabyte, also from the
        disk's cache (one x86-64 core, CPython 3.11 to 3.13).
        """
        offset = max(offset, self.kept_from)
        index = self._block_of(offset)
        counts = self._lines_before
        while len(counts) <= index:
            counts.append(counts[-1] + count_lines(self._block(len(counts) - 1)))
        return counts[index] + count_lines(
            self._range(self._block_starts[index], offset)
        )

    def start_of_line(self, number: int) -> int:
        """Return the start of the line with that number, counted from 0."""
        index = bisect_right(self._lines_before, number) - 1
        within = number - self._lines_before[index]
        lines = self._lines_of_block(index)[:within]
        return self._block_starts[index] + sum(map(len, lines))

    def volume(self, most: int) -> Volume:
        """
        Return the amount of output, and count some of the lines not counted yet.

        Args:
            most: Bytes that may be scanned, up to a whole block more.
        """
        counts, scanned = self._lines_before, 0
        while len(counts) < len(self._block_starts) and scanned < most:
            data = self._block(len(counts) - 1)
            counts.append(counts[-1] + count_lines(data))
            scanned += len(data)
        lines = counts[-1]
        all_counted = len(counts) == len(self._block_starts) and scanned < most
        if all_counted:
            rest = self._block(len(counts) - 1)
            lines += rest.count(b"\n")
            scanned += len(rest)
        lines = self._reported_lines = max(lines, self._reported_lines)
        size = self.size + self.dropped
        return Volume(size, self.dropped, lines, scanned, all_counted)
