"""The arrival of each chunk: right for any number of chunks, in bounded memory."""

import time
import tracemalloc
from bisect import bisect_left
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.supervision.output import chunk_index
from realtalk_async.supervision.output.buffer import OutputBuffer
from realtalk_async.supervision.output.chunk_index import ChunkIndex
from realtalk_async.supervision.output.line import Clock, local_time
from realtalk_async.supervision.output.lines import OutputLines
from realtalk_async.supervision.output.spill import SpillStore

NIGHT = 8 * 3600.0


class Clocks:
    """A wall clock that can be set, beside a monotonic one."""

    def __init__(self):
        self.difference = 1_000_000.0
        self.clock = Clock(lambda: self.difference)


@pytest.fixture
def clocks():
    return Clocks()


@pytest.fixture
def small_pages(monkeypatch):
    """Fill a page with four chunks."""
    monkeypatch.setattr(chunk_index, "CHUNKS", 4)
    monkeypatch.setattr(chunk_index, "COLUMN", 32)
    monkeypatch.setattr(chunk_index, "PAGE", 128)


def lines_of(buffer):
    return [(line.text, line.at.timestamp()) for line in OutputLines(buffer)]


# ---- any number of chunks


@pytest.mark.usefixtures("small_pages")
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(-2, 4)), min_size=1, max_size=40)
)
def test_each_chunk_is_found_by_its_end_and_by_its_time(chunks):
    """In memory and in the file; the wall clock may go back."""
    index = ChunkIndex(SpillStore(budget=64))
    ends, stamps, end, wall = [], [], 0, 100.0
    for number, (size, step) in enumerate(chunks):
        end, wall = end + size, wall + step
        ends.append(end)
        stamps.append(max([wall, *stamps[-1:]]))
        index.add(end, float(number), wall, number)
    for offset in range(1, end + 1):
        place = bisect_left(ends, offset)
        assert index.arrival(offset) == (place, stamps[place], place)
    for stamp in (99.0, *stamps, wall + 9):
        place = bisect_left(stamps, stamp)
        assert index.offset_at(stamp) == (ends[place - 1] if place else 0)


@pytest.mark.usefixtures("small_pages")
@given(st.integers(1, 40), st.integers(0, 45))
def test_chunks_that_are_not_forgotten_are_found(count, before):
    index = ChunkIndex(SpillStore(budget=64))
    for number in range(count):
        index.add(number + 1, 0.0, float(number), number)
    index.forget(min(before, count))
    for end in range(before + 1, count + 1):
        assert index.arrival(end).sequence == end - 1
        # What is forgotten begins before every moment.
        assert index.offset_at(end - 1.0) in (0, end - 1)


@pytest.mark.parametrize("size", [1, 20, 200])
def test_memory_is_bounded_for_small_chunks(size):
    """24 bytes of each chunk would be 2 MB here."""
    index = SpillStore(budget=chunk_index.BUDGET)
    buffer = OutputBuffer(
        "stdout", clock=Clock(lambda: 0.0), index=ChunkIndex(index), store=SpillStore()
    )
    buffer.begin(1)
    chunk = b"x" * (size - 1) + b"\n"
    count = 40_000
    for number in range(count):  # warm: the arrays, the segments
        buffer.append(chunk, number / 1000)
    tracemalloc.start()
    try:
        for number in range(count, 3 * count):
            buffer.append(chunk, number / 1000)
            if buffer.is_full:
                wait_for(lambda: not buffer.is_full)
        wait_for(lambda: not index.is_writing)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 1 << 20
    for number in (0, 65_432, 3 * count - 1):
        [line] = buffer.complete_records(number * size)[:1]
        assert (line.monotonic, line.sequence) == (number / 1000, number)


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)  # a thread writes


def test_an_index_that_cannot_be_moved_to_the_disk_bounds_the_output(monkeypatch):
    """The bytes that follow are a counted gap."""

    def fail(_file, _data, _offset):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", fail)
    monkeypatch.setattr("realtalk_async.supervision.output.spill.BACKLOG", 1 << 20)
    errors = []
    index = SpillStore(budget=1 << 16, on_error=errors.append)
    buffer = OutputBuffer("stdout", clock=Clock(lambda: 0.0), index=ChunkIndex(index))
    buffer.begin(1)
    for number in range(200_000):
        buffer.append(b"\n", float(number))
        if buffer.is_full:
            wait_for(lambda: not buffer.is_full)
    assert len(errors) == 1
    assert buffer.dropped > 100_000
    assert buffer.size + buffer.dropped == 200_000
    assert index.bytes_in_memory < (1 << 20) + (1 << 18)


# ---- the wall clock


def test_lines_follow_the_wall_clock_after_a_suspend(clocks):
    """The monotonic clock stands still while the machine sleeps."""
    buffer = OutputBuffer("stdout", clock=clocks.clock)
    buffer.begin(1)
    buffer.append(b"evening\n", 10.0)
    clocks.difference += NIGHT
    buffer.append(b"morning\n", 11.0)
    assert lines_of(buffer) == [
        ("evening", 1_000_010.0),
        ("morning", 1_000_011.0 + NIGHT),
    ]
    assert [line.monotonic for line in OutputLines(buffer)] == [10.0, 11.0]
    morning = local_time(1_000_011.0 + NIGHT)
    lines = OutputLines(buffer)
    assert [one.text for one in lines.between(morning)] == ["morning"]
    assert [one.text for one in lines.between(None, morning)] == ["evening"]


@pytest.mark.parametrize("step", [-3600.0, -0.5, -1e6])
def test_lines_never_go_back_in_time_when_the_clock_is_set_back(clocks, step):
    """They wait until the clock has caught up, and then follow it."""
    buffer = OutputBuffer("stderr", clock=clocks.clock)
    buffer.begin(1)
    buffer.append(b"before\n", 10.0)
    clocks.difference += step
    buffer.append(b"after\n", 10.25)
    buffer.append(b"later\n", 10.0 - step + 5)
    assert lines_of(buffer) == [
        ("before", 1_000_010.0),
        ("after", 1_000_010.0),
        ("later", 1_000_015.0),
    ]


def test_the_gap_of_bytes_beyond_max_size_has_the_time_of_the_wall_clock(clocks):
    buffer = OutputBuffer("stdout", clock=clocks.clock, max_size=2)
    buffer.begin(1)
    buffer.append(b"1\n", 10.0)
    clocks.difference += NIGHT
    buffer.append(b"2\n", 11.0)
    gap = OutputLines(buffer)[-1]
    assert (gap.gap, gap.at.timestamp()) == (2, 1_000_011.0 + NIGHT)
    since = local_time(1_000_011.0 + NIGHT) - timedelta(seconds=1)
    assert OutputLines(buffer).between(since) == [gap]


@pytest.mark.usefixtures("small_pages")
@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.sampled_from([0, NIGHT, -3600, 0.3, -0.3])),
        max_size=30,
    ),
    st.floats(-10, 10),
)
def test_between_finds_the_lines_by_their_times_across_all_steps(steps, seconds):
    clocks = Clocks()
    index = ChunkIndex(SpillStore(budget=64))
    buffer = OutputBuffer("stdout", clock=clocks.clock, index=index)
    buffer.begin(1)
    now = 0.0
    for delay, step in steps:
        now += delay
        clocks.difference += step
        buffer.append(b"x\n", now)
    lines = list(OutputLines(buffer))
    assert lines == sorted(lines, key=lambda line: line.at)
    for line in lines:
        moment = line.at + timedelta(seconds=seconds)
        after = [one for one in lines if one.at >= moment]
        assert OutputLines(buffer).between(moment) == after
        assert OutputLines(buffer).between(None, moment) == lines[: -len(after) or None]


@pytest.mark.parametrize("fold", [0, 1])
def test_between_tells_the_first_from_the_second_of_two_equal_times(clocks, fold):
    """At the end of summer time, by the fold of the given time."""
    berlin = ZoneInfo("Europe/Berlin")
    first = datetime(2026, 10, 25, 2, 0, tzinfo=berlin)
    clocks.difference = first.timestamp()
    buffer = OutputBuffer("stdout", clock=clocks.clock)
    buffer.begin(1)
    for minute in range(0, 120, 10):
        buffer.append(b"%d\n" % minute, minute * 60.0)
    since = datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=fold)
    expected = [str(minute) for minute in range(30 + 60 * fold, 120, 10)]
    lines = OutputLines(buffer)
    assert [line.text for line in lines.between(since)] == expected
    assert len(lines.between(None, since)) == 12 - len(expected)
    until = datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=1)
    assert len(lines.between(since, until)) == 6 * (1 - fold)
