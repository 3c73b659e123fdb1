"""
Captured output: chunks with their arrival time, found again as lines. Pure.

A child's stream is kept as it came: chunk after chunk, each stamped once, read straight
into slabs of memory where they stay (see `Store`). Nobody looks for lines until somebody
asks for them: only marks are set, now and then, at a line's end. What lies between two
marks is a segment; lines are cut from the segment they lie in, and nothing else is touched.
"""

from __future__ import annotations

import heapq
import itertools
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Protocol, overload

from realtalk_async.exceptions import InvalidConfiguration

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

    from realtalk_async.supervision.kernel.pipes import StreamName

    Slab = bytearray | mmap

SEGMENT = 128 * 1024
"""
Bytes from one mark to the next, about: so much is read and counted to find one line.
"""

SMALLEST_SLAB = 4 * 1024
"""Bytes of the first slab. Each one after it is as large as all before it together."""

SLAB = 1024 * 1024
"""
Bytes of the largest slab. A line without an end that fills one is cut into slices,
flagged ``partial``.
"""

LAST_WORDS = 4 * 1024
"""Bytes of the newest output that are told as last words, even beyond `max_size`."""

TURN = 256
"""Lines that are dressed up in one turn of the loop: about half a millisecond."""

WALK = 1024
"""Lines back from the end up to which no line is counted to find one."""


@dataclass(frozen=True, slots=True)
class OutputLine:
    """One line of a child's output; ``str()`` is ``[2025-05-13 14:30:22] text``."""

    raw: bytes
    """The bytes as they came, the line's end included: joined, they are the stream."""
    at: datetime
    """When the line was complete: the arrival of the chunk that ended it, local time."""
    monotonic: float
    """The same on the monotonic clock, in seconds."""
    stream: StreamName
    incarnation: int
    """The life of the process that wrote it, counted from 1."""
    sequence: int
    """Order of arrival over both streams of the process; equal within one chunk."""
    partial: bool = False
    """The line has no end (yet): a prompt, a last gasp, or a slice of a very long line."""
    gap: int = 0
    """Bytes that are missing here; such a line says so and has no bytes of its own."""

    @property
    def text(self) -> str:
        """The line without its end; bytes that are not UTF-8 appear as U+FFFD."""
        if self.gap:
            return f"[gap: {self.gap} bytes not kept: max_size was reached]"
        return self.raw.removesuffix(b"\n").removesuffix(b"\r").decode(errors="replace")

    def __str__(self) -> str:
        return f"[{self.at:%Y-%m-%d %H:%M:%S}] {self.text}"

    def to_dict(self) -> dict[str, object]:
        """Return the line ready for JSON; ``raw`` is left out, ``text`` stands for it."""
        return {
            "at": self.at.isoformat(),
            "stream": self.stream,
            "incarnation": self.incarnation,
            "sequence": self.sequence,
            "text": self.text,
            "partial": self.partial,
            "gap": self.gap,
        }


@dataclass(frozen=True, slots=True)
class Volume:
    """How much one stream has brought so far, over every incarnation."""

    size: int
    """Bytes, those that were dropped, or handed on and not kept, included."""
    dropped: int
    """Bytes that came after `max_size` was reached."""
    lines: int
    """Lines, as far as they were counted."""
    looked: int
    """Bytes that were looked through now to count them."""


class Store(Protocol):
    """Where full slabs go: memory, or a file behind it."""

    @property
    def is_full(self) -> bool:
        """Whether whoever fills them should wait."""
        ...

    @property
    def takes_more(self) -> bool:
        """Whether it can keep more than it has; if not, that is so for good."""
        ...

    def fresh(self, size: int) -> Slab:
        """Return memory for *size* bytes; what lies in it does not matter."""
        ...

    def add(self, slab: Slab, used: int) -> None:
        """Keep its first *used* bytes behind those kept so far; they do not change."""
        ...

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes between two offsets, which lie in one slab."""
        ...


class MemoryStore:
    """Keep everything in memory."""

    is_full = False
    takes_more = True

    def __init__(self) -> None:
        self._starts = [0]
        self._slabs: list[memoryview] = []

    def fresh(self, size: int) -> Slab:
        """Return memory for *size* bytes."""
        return bytearray(size)

    def add(self, slab: Slab, used: int) -> None:
        """Keep its first *used* bytes behind those kept so far."""
        self._slabs.append(memoryview(slab)[:used])
        self._starts.append(self._starts[-1] + used)

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes between two offsets, which lie in one slab."""
        index = bisect_right(self._starts, start) - 1
        first = self._starts[index]
        return bytes(self._slabs[index][start - first : end - first])


@dataclass(frozen=True, slots=True)
class Clock:
    """One reading of both clocks, to turn monotonic seconds into wall time for people."""

    wall: float
    monotonic: float

    @classmethod
    def now(cls) -> Clock:
        """Read both clocks."""
        return cls(time.time(), time.monotonic())

    def at(self, monotonic: float) -> datetime:
        """Return the local wall time of a moment on the monotonic clock."""
        wall = self.wall + (monotonic - self.monotonic)
        return datetime.fromtimestamp(wall, UTC).astimezone()


def whole_characters(data: bytes) -> int:
    """
    Return how many bytes of *data* end with a whole UTF-8 character.

    Only a character cut off by the end counts as unfinished; bytes that are not UTF-8 at
    all are taken as they are.
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
class Loss:
    """What one incarnation said after `OutputBuffer.max_size` was reached."""

    incarnation: int
    began: float
    """When the first byte was lost, in monotonic seconds."""
    sequence: int
    count: int = 0
    """Bytes."""
    words: bytes = b""
    """The newest of them."""

    def add(self, data: bytes) -> None:
        """Count *data*, and keep its end."""
        self.count += len(data)
        self.words = (self.words + data[-LAST_WORDS:])[-LAST_WORDS:]


# What all those share that have been given nothing; nobody adds to it.
NO_NUMBERS, NO_TIMES, BEGINNING = array("Q"), array("d"), array("Q", [0])
NO_SLAB = memoryview(b"")


class OutputBuffer:
    """
    All that one stream of a process ever said, over all of its incarnations.

    Append-only; nothing is dropped below *max_size* bytes. What comes after that is
    counted in `dropped`, and readers see one gap line an incarnation that tells the
    number. One that has been given nothing yet costs next to no memory.
    """

    __slots__ = (
        "_base", "_born", "_due", "_ends", "_filled", "_latest", "_lines_before",
        "_losses", "_sequence", "_sequences", "_slab", "_stamp", "_starts", "_times",
        "_told", "_view", "clock", "dropped", "max_size", "size", "store", "stream",
    )  # fmt: skip

    def __init__(
        self,
        stream: StreamName,
        *,
        clock: Clock,
        store: Store | None = None,
        max_size: int = 1 << 40,
        sequence: Callable[[], int] | None = None,
    ) -> None:
        self.stream: StreamName = stream
        self.max_size = max_size
        self.size = 0
        """Bytes kept."""
        self.dropped = 0
        """Bytes that came after *max_size* was reached, and are gone."""
        self.clock = clock
        self.store: Store = MemoryStore() if store is None else store
        """Where full slabs go."""
        self._sequence = sequence or itertools.count().__next__
        # One entry a chunk.
        self._ends = self._sequences = NO_NUMBERS
        self._times = NO_TIMES
        # The slab that is being filled, from the offset *base* on.
        self._slab: Slab = bytearray()
        self._view = NO_SLAB
        self._base = 0
        self._filled = 0
        # One entry a segment: where it starts; the last one still grows.
        self._starts = BEGINNING
        self._due = SEGMENT  # the size at which the next mark is looked for
        # Lines before each segment that anybody asked for so far.
        self._lines_before = BEGINNING
        self._told = 0  # lines, to whoever asked for the volume
        # One entry an incarnation.
        self._born: list[tuple[int, int]] = []
        self._latest: tuple[int, list[bytes]] | None = None
        self._losses: dict[int, Loss] = {}  # by incarnation, in their order
        self._stamp: tuple[float, datetime] | None = None

    # ---- writing

    def begin(self, incarnation: int) -> None:
        """Attribute what comes from here on to *incarnation*."""
        self.end_line()
        self._born.append((self.size, incarnation))

    def room(self) -> memoryview:
        """
        Return memory to read the next bytes into, which are then given to `append`.

        So they are never copied: what was read lies where it stays.
        """
        # With a sixteenth left it counts as full: a read is to be worth its cost.
        if len(self._view) - self._filled <= len(self._view) >> 4:
            self._make_room()
        return self._view[self._filled :]

    def append(self, data: bytes | memoryview, now: float) -> None:
        """
        Keep *data*, which arrived at *now* on the monotonic clock.

        Args:
            data: Bytes, or the filled beginning of what `room` has returned.
            now: Monotonic seconds.
        """
        number = self._sequence()
        if isinstance(data, memoryview):
            self._note(len(data), now, number)
            return
        rest = memoryview(data)
        while rest:
            room = self.room()
            part = rest[: len(room)]
            room[: len(part)] = part
            self._note(len(part), now, number)
            rest = rest[len(part) :]

    def _note(self, count: int, now: float, number: int) -> None:
        """Take notice of bytes that lie behind those that are kept."""
        if not self.store.takes_more:
            self.max_size = min(self.max_size, self.size)
        fits = min(count, self.max_size - self.size)
        if fits < count:
            lost = self._view[self._filled + fits : self._filled + count]
            self._lose(bytes(lost), now, number)
        if fits:
            self.size += fits
            self._filled += fits
            self._ends.append(self.size)
            self._times.append(now)
            self._sequences.append(number)
            if self.size >= self._due:
                self._set_marks()

    def _lose(self, data: bytes, now: float, sequence: int) -> None:
        """Count what does not fit."""
        incarnation = self._born[-1][1] if self._born else 0
        if incarnation not in self._losses:
            self._losses[incarnation] = Loss(incarnation, now, sequence)
        self._losses[incarnation].add(data)
        self.dropped += len(data)

    def end_line(self) -> None:
        """Let a line without an end stand alone: nothing that follows belongs to it."""
        self._mark(self._filled)

    def _set_marks(self) -> None:
        """Set a mark at a line's end wherever a segment has grown long enough."""
        while self.size - self._starts[-1] >= SEGMENT:
            start = self._starts[-1] - self._base
            cut = self._slab.rfind(b"\n", start, start + SEGMENT) + 1
            cut = cut or self._slab.find(b"\n", start + SEGMENT, self._filled) + 1
            if not cut:  # one long line: look again when it has grown as much again
                self._due = self.size + SEGMENT
                return
            self._mark(cut)

    def _mark(self, place: int) -> None:
        """Begin a new segment at that place of the slab, if it is not empty."""
        if self._base + place > self._starts[-1]:
            self._starts.append(self._base + place)
        self._due = self._starts[-1] + SEGMENT

    def _open_books(self) -> None:
        """Keep records of its own, from the first chunk on."""
        self._ends, self._sequences = array("Q"), array("Q")
        self._times = array("d")
        self._starts, self._lines_before = array("Q", [0]), array("Q", [0])

    def _make_room(self) -> None:
        """Close the slab after its last line, and begin another one."""
        if not self._view:
            self._open_books()
        start = self._starts[-1] - self._base
        cut = self._slab.rfind(b"\n", start, self._filled) + 1 or start
        if not cut and len(self._slab) >= SLAB:
            cut = whole_characters(bytes(self._view[: self._filled]))
        rest = bytes(self._view[cut : self._filled])
        if cut:
            self._mark(cut)
            self._close_slab(cut)
        self._begin_slab(rest)

    def _close_slab(self, cut: int) -> None:
        """Give all before *cut* to the store."""
        if cut < len(self._slab) // 2:  # too little to hold on to so much memory
            self._slab = bytearray(self._view[:cut])
        self.store.add(self._slab, cut)
        self._base += cut

    def _begin_slab(self, beginning: bytes) -> None:
        """Open a slab that begins with bytes which were kept already."""
        wanted = max(SMALLEST_SLAB, self.size, 2 * len(beginning))
        self._slab = self.store.fresh(min(wanted, SLAB))
        self._view = memoryview(self._slab)
        self._view[: len(beginning)] = beginning
        self._filled = len(beginning)

    # ---- reading

    def lines(self, incarnation: int | None = None) -> OutputLines:
        """Return what was said so far, or what one incarnation said, as a sequence."""
        start, end = (0, self.size) if incarnation is None else self._span(incarnation)
        gaps = tuple(
            self._gap_line(loss)
            for loss in self._losses.values()
            if incarnation in {None, loss.incarnation}
        )
        return OutputLines(self, start, end, gaps)

    def last_words(self, incarnation: int, count: int = 10) -> list[OutputLine]:
        """Return the newest lines of *incarnation*, at most *count*, within 4 KiB."""
        loss = self._losses.get(incarnation)
        if loss is None:
            return self._last_kept(incarnation, count)
        raws = _split(loss.words)[-count:]
        lost = [self._lost_line(raw, loss) for raw in raws]
        # What was kept is only told if nothing is missing in between.
        is_whole = loss.count == len(loss.words)
        kept = self._last_kept(incarnation, count) if is_whole else []
        return [*kept, *lost][-count:]

    def _last_kept(self, incarnation: int, count: int) -> list[OutputLine]:
        start, end = self._span(incarnation)
        first = max(start, end - LAST_WORDS)
        raws = _split(self._bytes(first, end))
        if first > start and len(raws) > 1:
            first += len(raws.pop(0))  # only the end of it is there
        first += sum(map(len, raws[:-count]))
        return self._dress_all(raws[-count:], first)

    def _bytes(self, start: int, end: int) -> bytes:
        """Return the bytes between two offsets."""
        parts: list[bytes] = []
        while start < end:
            part = self.read(start)[: end - start]
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def beginning(self, incarnation: int) -> int:
        """Return the offset at which *incarnation* began; the end if it is unknown."""
        return self._span(incarnation)[0]

    def ending(self, incarnation: int) -> int:
        """Return the offset at which *incarnation* ended, or has come to."""
        return self._span(incarnation)[1]

    def next_line(self) -> int:
        """Return the offset at which the line begins that is not complete yet."""
        start = self._starts[-1] - self._base
        line = self._slab.rfind(b"\n", start, self._filled) + 1
        return self._base + (line or start)

    def complete_from(self, offset: int) -> list[OutputLine]:
        """
        Return complete lines from *offset*, which is a line's beginning.

        At most `TURN` lines, so that a long history is read in turns.
        """
        return self._dress_all(self.complete_raw(offset), offset)

    def complete_raw(self, offset: int) -> list[bytes]:
        """Return the bytes of those lines."""
        data = self.read(offset)
        if offset >= self._starts[-1]:  # the open tail
            data = data[: data.rfind(b"\n") + 1]
        return _split(data, TURN)

    def line_start(self, offset: int) -> int:
        """Return where the line begins that holds the byte at *offset*."""
        start = self._starts[self._segment_of(offset)]
        data = self._data(self._segment_of(offset))
        return start + data.rfind(b"\n", 0, offset - start) + 1

    def _dress_all(self, raws: list[bytes], offset: int) -> list[OutputLine]:
        """Dress up lines that follow each other from *offset*."""
        lines: list[OutputLine] = []
        for raw in raws:
            lines.append(self.dress(raw, offset))
            offset += len(raw)
        return lines

    def glance(self, count: int, start: int, end: int) -> list[OutputLine]:
        """
        Return the newest *count* lines between two offsets; [] if it takes a longer look.

        Of a flood of short lines not a whole segment is cut for the sake of a few.
        """
        data = self._bytes(max(start, end - SEGMENT // 8), end)
        if data.count(b"\n") <= count:
            return []
        *lines, rest = data.rsplit(b"\n", count + 1)[1:]
        raws = [*(line + b"\n" for line in lines), *([rest] if rest else [])][-count:]
        return self._dress_all(raws, end - sum(map(len, raws)))

    def read(self, offset: int) -> bytes:
        """Return bytes from *offset*, at most the rest of a segment; b"" at the end."""
        return self._range(offset, self._end_of(self._segment_of(offset)))

    def _segment_of(self, offset: int) -> int:
        """Return the index of the segment that holds the byte at *offset*."""
        return bisect_right(self._starts, offset) - 1

    def _span(self, incarnation: int) -> tuple[int, int]:
        """Return where the bytes of *incarnation* start and end."""
        # From the newest backwards: it is nearly always the one that is asked for.
        end = self.size
        for start, number in reversed(self._born):
            if number == incarnation:
                return start, end
            end = start
        return self.size, self.size

    def segments_from(self, offset: int) -> Iterator[tuple[int, list[bytes]]]:
        """Yield (start, lines) of each segment from the one that holds *offset*."""
        index = self._segment_of(offset)
        while True:
            # Once the open segment was told, all is: if it is closed while its reader is
            # away, its last line, now longer, begins the next one and would come twice.
            is_last = index == len(self._starts) - 1
            yield self._starts[index], self._cut(index)
            if is_last:
                return
            index += 1

    def segments_back(self, offset: int) -> Iterator[tuple[int, list[bytes]]]:
        """Yield (start, lines) of each segment backwards from *offset*."""
        index = max(0, bisect_left(self._starts, offset) - 1)
        while index >= 0:
            yield self._starts[index], self._cut(index)
            index -= 1

    def count_before(self, offset: int) -> int:
        """
        Return the number of lines that begin before *offset*.

        Segments are counted once, when first asked for: 0.45 s a gigabyte, also from the
        disk's cache (one x86-64 core, CPython 3.11 to 3.13).
        """
        index = self._segment_of(offset)
        counts = self._lines_before
        while len(counts) <= index:
            counts.append(counts[-1] + _count(self._data(len(counts) - 1)))
        return counts[index] + _begun(self._range(self._starts[index], offset))

    def volume(self, most: int) -> Volume:
        """
        Return how much there is, looking through some of what was not counted yet.

        Args:
            most: So many bytes may be looked through, up to a whole segment more. When
                less is left to count, the lines are all lines.
        """
        counts, looked = self._lines_before, 0
        while len(counts) < len(self._starts) and looked < most:
            data = self._data(len(counts) - 1)
            counts.append(counts[-1] + _count(data))
            looked += len(data)
        lines = counts[-1]
        if len(counts) == len(self._starts) and looked < most:
            rest = self._data(len(counts) - 1)
            lines += rest.count(b"\n")
            looked += len(rest)
        lines = self._told = max(lines, self._told)
        return Volume(self.size + self.dropped, self.dropped, lines, looked)

    def start_of(self, number: int) -> int:
        """Return where the line of that number begins, counted from 0."""
        index = bisect_right(self._lines_before, number) - 1
        within = number - self._lines_before[index]
        return self._starts[index] + sum(map(len, self._cut(index)[:within]))

    def offset_at(self, moment: float) -> int:
        """Return where the first chunk that came at or after *moment* begins."""
        index = bisect_left(self._times, moment)
        return self._ends[index - 1] if index else 0

    def dress(self, raw: bytes, start: int) -> OutputLine:
        """Return the line that has these bytes and begins at *start*."""
        end = start + len(raw)
        chunk = bisect_left(self._ends, end)
        when = self._times[chunk]
        if (
            self._stamp is None or self._stamp[0] != when
        ):  # many lines come with one chunk
            self._stamp = when, self.clock.at(when)
        return OutputLine(
            raw,
            self._stamp[1],
            when,
            self.stream,
            self._incarnation(end),
            self._sequences[chunk],
            partial=not raw.endswith(b"\n"),
        )

    def _gap_line(self, loss: Loss) -> OutputLine:
        """Return the line that stands for all that was lost of an incarnation."""
        return replace(self._lost_line(b"", loss), partial=False, gap=loss.count)

    def _lost_line(self, raw: bytes, loss: Loss) -> OutputLine:
        """Return a line that was not kept."""
        return OutputLine(
            raw,
            self.clock.at(loss.began),
            loss.began,
            self.stream,
            loss.incarnation,
            loss.sequence,
            partial=not raw.endswith(b"\n"),
        )

    def _incarnation(self, end: int) -> int:
        """Return the incarnation that wrote the byte before *end*."""
        index = bisect_left(self._born, (end, 0)) - 1
        return self._born[index][1] if index >= 0 else 0

    def _data(self, index: int) -> bytes:
        """Return a segment's bytes; the last index is the one that still grows."""
        return self._range(self._starts[index], self._end_of(index))

    def _end_of(self, index: int) -> int:
        """Return where a segment ends, or has come to."""
        return self._starts[index + 1] if index + 1 < len(self._starts) else self.size

    def _range(self, start: int, end: int) -> bytes:
        """Return the bytes between two offsets of one segment."""
        if start < self._base:
            return self.store.read(start, end)
        return bytes(self._view[start - self._base : end - self._base])

    def _cut(self, index: int) -> list[bytes]:
        """Return a segment's lines, remembering those of the one looked at last."""
        if index == len(self._starts) - 1:  # the open tail still grows
            return _split(self._data(index))
        if self._latest is None or self._latest[0] != index:
            self._latest = index, _split(self._data(index))
        return self._latest[1]


def _split(data: bytes, most: int = -1) -> list[bytes]:
    """Cut at line feeds only: other separators belong to the text."""
    *lines, rest = data.split(b"\n", most)
    whole = [line + b"\n" for line in lines]
    return [*whole, rest] if rest and (most < 0 or len(lines) < most) else whole


def _count(data: bytes) -> int:
    """Return how many lines *data* holds, an unfinished one included."""
    return data.count(b"\n") + (not data.endswith(b"\n"))


def _begun(data: bytes) -> int:
    """Return how many lines begin in *data*."""
    return _count(data) if data else 0


class OutputLines(Sequence[OutputLine]):
    """
    The lines of one stream between two points: a read-only sequence, cut when needed.

    A snapshot: what comes later does not show. Slices are lists. ``lines[-100:]`` reads
    only the end; ``len()`` and positive indices count the lines before, once.
    """

    def __init__(
        self,
        buffer: OutputBuffer,
        start: int,
        end: int,
        gaps: tuple[OutputLine, ...] = (),
    ) -> None:
        self._buffer = buffer
        self._start = start
        self._end = end
        self._gaps = gaps

    @property
    def _kept(self) -> int:
        """The number of lines that are there, gaps aside."""
        count = self._buffer.count_before
        return count(self._end) - count(self._start) if self._start < self._end else 0

    def __len__(self) -> int:
        return self._kept + len(self._gaps)

    def __iter__(self) -> Iterator[OutputLine]:
        return self._from_offset(self._start)

    def _from_offset(self, offset: int) -> Iterator[OutputLine]:
        """Iterate from the line that holds *offset*, over the gaps too."""
        for start, raw in self._raw(offset):
            yield self._buffer.dress(raw, start)
        yield from self._gaps

    def _raw(self, offset: int) -> Iterator[tuple[int, bytes]]:
        """Yield (start, bytes) of each line, an end that was unfinished cut as it was."""
        if offset >= self._end:
            return
        for start, lines in self._buffer.segments_from(offset):
            for raw in lines:
                if start >= self._end:
                    return
                if start + len(raw) > offset:
                    yield start, raw[: self._end - start]
                start += len(raw)

    def __reversed__(self) -> Iterator[OutputLine]:
        yield from reversed(self._gaps)
        if self._start >= self._end:
            return
        for start, lines in self._buffer.segments_back(self._end):
            offset = start + sum(map(len, lines))
            for raw in reversed(lines):
                offset -= len(raw)
                if offset < self._start:
                    return
                if offset < self._end:
                    yield self._buffer.dress(raw[: self._end - offset], offset)

    @overload
    def __getitem__(self, index: int) -> OutputLine: ...
    @overload
    def __getitem__(self, index: slice) -> list[OutputLine]: ...
    def __getitem__(self, index: int | slice) -> OutputLine | list[OutputLine]:
        if isinstance(index, slice):
            return self._slice(index)
        if -WALK <= index < 0:
            found = self._newest(-index)
            if len(found) == -index:
                return found[0]
        else:
            number = index + len(self) if index < 0 else index
            if 0 <= number < len(self):
                return next(self._from_number(number))
        raise IndexError(f"line {index} of {len(self)}")

    def _from_number(self, number: int) -> Iterator[OutputLine]:
        """Iterate from the line of that number, counted from 0."""
        kept = self._kept
        if number >= kept:
            return iter(self._gaps[number - kept :])
        before = self._buffer.count_before(self._start)
        return self._from_offset(self._buffer.start_of(before + number))

    def _newest(self, count: int) -> list[OutputLine]:
        if not self._gaps:
            found = self._buffer.glance(count, self._start, self._end)
            if found:
                return found
        found = list(islice(reversed(self), count))
        found.reverse()
        return found

    def _slice(self, index: slice) -> list[OutputLine]:
        first: int | None = index.start
        to_the_end = index.stop is None and index.step in {None, 1}
        if to_the_end and first is not None and -WALK <= first < 0:
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
        for moment in (since, until):
            if moment is not None and moment.tzinfo is None:
                raise InvalidConfiguration(
                    f"a time needs its time zone: {moment!r}.astimezone() has one"
                )
        lines = self if since is None else self._from_offset(self._place(since))
        ended = takewhile(lambda line: until is None or line.at < until, lines)
        return [line for line in ended if since is None or line.at >= since]

    def _place(self, since: datetime) -> int:
        """Return where to begin looking for what came at or after *since*."""
        clock = self._buffer.clock
        moment = clock.monotonic + since.timestamp() - clock.wall
        # Times for people are rounded: the line itself is asked in the end.
        return max(self._start, self._buffer.offset_at(moment - 1e-3))

    def __repr__(self) -> str:
        return f"<OutputLines {self._buffer.stream} {self._end - self._start} bytes>"


def interleave(*streams: OutputLines) -> Iterator[OutputLine]:
    """Yield the lines of several streams of one process in the order of arrival."""
    return heapq.merge(*streams, key=lambda line: line.sequence)
