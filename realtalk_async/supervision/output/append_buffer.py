"""
The bytes of one output stream: appended in segments, dated chunk by chunk, indexed.

A read goes directly into a segment of memory, and the bytes stay there. Appending does no
work for single lines: it records the arrival of the chunk, and about every 128 KiB the
start of a line. Readers cut lines from the block between two entries of that index.
"""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtalk_async.supervision.output import spill
from realtalk_async.supervision.output.chunk_index import Arrival, ChunkIndex
from realtalk_async.supervision.output.spill import SpillStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.supervision.output.line import Clock
    from realtalk_async.supervision.output.spill import Memory

BLOCK = 128 * 1024
"""Bytes between two entries of the index, about: a reader reads so many for one line."""

SMALLEST_SEGMENT = 4 * 1024
"""
Bytes of the first segment. Each further segment is as large as all before it together,
up to `spill.LARGEST_SEGMENT`.
"""

LAST_LINES_SIZE = 4 * 1024
"""Bytes of the newest output that the last lines may use, also beyond `max_size`."""


def whole_characters(data: bytes) -> int:
    """
    Return the length of *data* without a UTF-8 character that its end cuts off.

    Bytes that are not UTF-8 count as complete.
    """
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:  # ASCII
            break
        if byte >= 0xC0:  # the first byte of a character of 2, 3 or 4
            size = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if back < size else len(data)
    return len(data)


@dataclass(slots=True)
class Gap:
    """The bytes of one incarnation that arrived after `max_size` was reached."""

    incarnation: int
    began: Arrival
    """The arrival of the first of the bytes."""
    count: int = 0
    """The number of the bytes."""
    newest: bytes = b""
    """The newest `LAST_LINES_SIZE` of them."""

    def add(self, data: bytes) -> None:
        """Count *data*, and keep its end."""
        self.count += len(data)
        self.newest = (self.newest + data[-LAST_LINES_SIZE:])[-LAST_LINES_SIZE:]


# All buffers without output share these; no buffer changes them.
FIRST_BLOCK = array("Q", [0])
NO_MEMORY = memoryview(b"")


class AppendBuffer:
    """
    Append-only bytes over all incarnations of a process.

    Bytes after the first *max_size* are not kept: they are counted in `dropped`, and each
    incarnation has a `Gap`. A buffer without output costs next to no memory.

    Args:
        clock: Tells the wall time of an arrival.
        store: Keeps the full segments.
        index: Keeps the arrivals.
        max_size: Bytes to keep.
        next_sequence: Numbers the chunks, in the order of arrival over several buffers.
    """

    __slots__ = (
        "_base", "_block_starts", "_filled", "_forgotten", "_gaps", "_incarnations",
        "_index", "_index_due", "_lines_before", "_next_sequence", "_segment", "_view",
        "clock", "dropped", "kept_from", "max_size", "size", "store",
    )  # fmt: skip

    def __init__(
        self,
        *,
        clock: Clock,
        store: SpillStore | None = None,
        index: ChunkIndex | None = None,
        max_size: int = 1 << 40,
        next_sequence: Callable[[], int] | None = None,
    ) -> None:
        self.clock = clock
        self.max_size = max_size
        self.size = 0
        """Bytes kept."""
        self.dropped = 0
        """Bytes that arrived after *max_size* was reached."""
        self.store = SpillStore() if store is None else store
        self.kept_from = 0
        """The offset of the first byte that is not forgotten."""
        self._next_sequence = next_sequence or itertools.count().__next__
        self._index = ChunkIndex() if index is None else index
        # The segment that is being filled; its first byte has the offset *base*.
        self._segment: Memory = bytearray()
        self._view = NO_MEMORY
        self._base = 0
        self._filled = 0
        # One entry per block; the last block still grows.
        self._block_starts = FIRST_BLOCK
        self._index_due = BLOCK  # the size at which the next block may begin
        # Lines before each block, as far as a reader has needed them.
        self._lines_before = FIRST_BLOCK
        # One entry per incarnation: its first offset and its number.
        self._incarnations: list[tuple[int, int]] = []
        self._gaps: dict[int, Gap] = {}  # by incarnation, in order
        self._forgotten: Gap | None = None

    # ---- writing

    def begin(self, incarnation: int) -> None:
        """Attribute all further bytes to *incarnation*."""
        self.end_line()
        self._incarnations.append((self.size, incarnation))

    def writable_memory(self) -> memoryview:
        """
        Return memory to read the next bytes into; `append` takes its filled beginning.

        So the bytes are never copied.
        """
        # A segment with a sixteenth left counts as full: a read must be worth its cost.
        if len(self._view) - self._filled <= len(self._view) >> 4:
            self._next_segment()
        return self._view[self._filled :]

    def append(self, data: bytes | memoryview, now: float) -> None:
        """
        Keep *data*, which arrived at *now*.

        Args:
            data: Bytes, or the filled beginning of what `writable_memory` returned.
            now: Monotonic seconds.
        """
        number = self._next_sequence()
        if isinstance(data, memoryview):
            self._record(len(data), now, number)
            return
        rest = memoryview(data)
        while rest:
            memory = self.writable_memory()
            part = rest[: len(memory)]
            memory[: len(part)] = part
            self._record(len(part), now, number)
            rest = rest[len(part) :]

    def _record(self, count: int, now: float, number: int) -> None:
        """Record the arrival of *count* bytes, which lie behind the bytes kept so far."""
        if not (self.store.accepts_more and self._index.store.accepts_more):
            self.max_size = min(self.max_size, self.size)
        fits = min(count, self.max_size - self.size)
        if fits < count:
            lost = self._view[self._filled + fits : self._filled + count]
            self._drop(bytes(lost), now, number)
        if fits:
            # The time comes first: bytes without one could not be read.
            self._index.add(self.size + fits, now, self.clock.wall(now), number)
            self.size += fits
            self._filled += fits
            if self.size >= self._index_due:
                self._extend_index()

    def _drop(self, data: bytes, now: float, sequence: int) -> None:
        incarnation = self._incarnations[-1][1] if self._incarnations else 0
        if incarnation not in self._gaps:
            stamp = self._index.next_stamp(self.clock.wall(now))
            began = Arrival(now, stamp, sequence)
            self._gaps[incarnation] = Gap(incarnation, began)
        self._gaps[incarnation].add(data)
        self.dropped += len(data)

    def end_line(self) -> None:
        """End an unfinished line: no byte that follows belongs to it."""
        self._begin_block(self._filled)

    def _extend_index(self) -> None:
        """Begin a new block at a line's start wherever a block is long enough."""
        while self.size - self._block_starts[-1] >= BLOCK:
            start = self._block_starts[-1] - self._base
            cut = self._segment.rfind(b"\n", start, start + BLOCK) + 1
            cut = cut or self._segment.find(b"\n", start + BLOCK, self._filled) + 1
            if not cut:  # one long line: try again when it has grown as much again
                self._index_due = self.size + BLOCK
                return
            self._begin_block(cut)

    def _begin_block(self, place: int) -> None:
        """Begin a block at that place of the segment, unless the last block is empty."""
        if self._base + place > self._block_starts[-1]:
            self._block_starts.append(self._base + place)
        self._index_due = self._block_starts[-1] + BLOCK

    def _start_index(self) -> None:
        """Replace the shared empty arrays, before the first chunk."""
        self._block_starts, self._lines_before = array("Q", [0]), array("Q", [0])

    def _next_segment(self) -> None:
        """Close the segment after its last line, and begin another with the rest."""
        if not self._view:
            self._start_index()
        start = self._block_starts[-1] - self._base
        cut = self._segment.rfind(b"\n", start, self._filled) + 1 or start
        if not cut and len(self._segment) >= spill.LARGEST_SEGMENT:
            cut = whole_characters(bytes(self._view[: self._filled]))
        rest = bytes(self._view[cut : self._filled])
        if cut:
            self._begin_block(cut)
            self._close_segment(cut)
        self._begin_segment(rest)

    def _close_segment(self, cut: int) -> None:
        """Give all bytes before *cut* to the store."""
        if cut < len(self._segment) // 2:  # too few bytes to hold so much memory
            self._segment = bytearray(self._view[:cut])
        self.store.add(self._segment, cut)
        self._base += cut

    def _begin_segment(self, beginning: bytes) -> None:
        """Begin a segment with bytes that the last segment no longer holds."""
        wanted = max(SMALLEST_SEGMENT, self.size, 2 * len(beginning))
        self._segment = self.store.new_segment(min(wanted, spill.LARGEST_SEGMENT))
        self._view = memoryview(self._segment)
        self._view[: len(beginning)] = beginning
        self._filled = len(beginning)

    @property
    def is_full(self) -> bool:
        """Whether so many bytes wait for the disk that the child should wait too."""
        return self.store.is_full or self._index.store.is_full

    # ---- forgetting

    def forget_before(self, incarnation: int) -> None:
        """Forget the output of all incarnations before *incarnation*; count its bytes."""
        place = next(
            (at for at, (_, n) in enumerate(self._incarnations) if n >= incarnation),
            len(self._incarnations),
        )
        if not place:
            return
        kept = self._incarnations[place:]
        start = kept[0][0] if kept else self.size
        missing = start - self.kept_from
        newest = self._index.arrival(start) if missing else None
        for gap in [
            gap for gap in self._gaps.values() if gap.incarnation < incarnation
        ]:
            missing += gap.count
            newest = gap.began
            del self._gaps[gap.incarnation]
        self._incarnations = kept
        if newest is not None:
            before = self._forgotten.count if self._forgotten else 0
            self._forgotten = Gap(incarnation - 1, newest, before + missing)
        if start > self.kept_from:
            self.kept_from = start
            self._forget_blocks(start)
            self._index.forget(start)
            self.store.forget(start)

    def _forget_blocks(self, start: int) -> None:
        """Forget the index of the blocks before *start*, which begins a block."""
        count = bisect_left(self._block_starts, start)
        counted = self._lines_before
        del self._block_starts[:count]
        if len(counted) > count:
            del counted[:count]
        else:  # lines that were never counted are not counted later
            del counted[:-1]

    # ---- reading bytes

    def span(self, incarnation: int | None) -> tuple[int, int]:
        """
        Return the offsets of the first byte of *incarnation* and of the byte after its end.

        Both are the end of the buffer if the incarnation is unknown; None means all bytes.
        """
        if incarnation is None:
            return 0, self.size
        # From the newest backwards: readers nearly always ask for the newest.
        end = self.size
        for start, number in reversed(self._incarnations):
            if number == incarnation:
                return start, end
            end = start
        return self.size, self.size

    def read(self, offset: int) -> bytes:
        """
        Return bytes from *offset*, at most the rest of a block; b"" at the end.

        Forgotten bytes are b"" as well.
        """
        if offset < self.kept_from:
            return b""
        return self._range(offset, self._block_end(self._block_of(offset)))

    def _bytes(self, start: int, end: int) -> bytes:
        """Return the bytes between two offsets."""
        parts: list[bytes] = []
        while start < end:
            part = self.read(start)[: end - start]
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def _incarnation_at(self, end: int) -> int:
        """Return the incarnation that wrote the byte before *end*."""
        index = bisect_left(self._incarnations, (end, 0)) - 1
        return self._incarnations[index][1] if index >= 0 else 0

    def _block_of(self, offset: int) -> int:
        """Return the index of the block that holds the byte at *offset*."""
        return max(0, bisect_right(self._block_starts, offset) - 1)

    def _block_end(self, index: int) -> int:
        starts = self._block_starts
        return starts[index + 1] if index + 1 < len(starts) else self.size

    def _block(self, index: int) -> bytes:
        """Return the bytes of a block; the last block still grows."""
        return self._range(self._block_starts[index], self._block_end(index))

    def _range(self, start: int, end: int) -> bytes:
        """Return the bytes between two offsets of one block."""
        if start < self._base:
            return self.store.read(start, end)
        return bytes(self._view[start - self._base : end - self._base])
