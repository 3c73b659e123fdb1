"""Captured output: any bytes in chunks of any sizes give the same lines."""

import codecs
import itertools
import re
import time
import tracemalloc
from datetime import datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision.output import append_buffer, spill
from realtalk_async.supervision.output import buffer as buffer_module
from realtalk_async.supervision.output import lines as lines_module
from realtalk_async.supervision.output.append_buffer import (
    BLOCK,
    LAST_LINES_SIZE,
    whole_characters,
)
from realtalk_async.supervision.output.buffer import OutputBuffer
from realtalk_async.supervision.output.line import Clock, split_records
from realtalk_async.supervision.output.lines import OutputLines, interleave
from realtalk_async.supervision.output.python_warnings import PythonWarningFinder
from realtalk_async.supervision.output.spill import LARGEST_SEGMENT, SpillStore

WALL = 1_000_000.0
CLOCK = Clock(lambda: WALL)

# Mostly line separators, so that short examples have many lines.
anything = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"\r", b"a", b"\x00", b"\xc3\xa9", b"\xff"])
    | st.binary(max_size=20),
    max_size=30,
).map(b"".join)


def expected_lines(data):
    """Return the lines of *data*, computed in the simplest way."""
    *whole, rest = data.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])


def cut(data, places):
    """Return *data* in chunks."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def filled(data, places=(), **options):
    """Return a buffer that received chunk n of *data* at second n."""
    buffer = OutputBuffer("stdout", clock=CLOCK, **options)
    buffer.begin(1)
    for second, chunk in enumerate(cut(data, places)):
        buffer.append(chunk, float(second))
    return buffer


def raws(lines):
    return [line.raw for line in lines]


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch, request):
    """Close segments after a few bytes, so that short examples have several."""
    if "real_sizes" not in request.fixturenames:
        monkeypatch.setattr(append_buffer, "BLOCK", 16)
        monkeypatch.setattr(append_buffer, "SMALLEST_SEGMENT", 8)
        monkeypatch.setattr(spill, "LARGEST_SEGMENT", 64)
        monkeypatch.setattr(buffer_module, "LINES_PER_TURN", 3)
        monkeypatch.setattr(lines_module, "MOST_UNCOUNTED", 4)


@pytest.fixture
def real_sizes():
    """Leave the sizes as they are."""


# ---- the same lines from chunks of any sizes


@given(anything, st.lists(st.integers(0, 10_000)))
def test_any_chunking_gives_the_same_lines(data, places):
    """Joined, they are the stream byte for byte."""
    lines = OutputLines(filled(data, places))
    told = raws(lines)
    assert b"".join(told) == data
    assert raws(reversed(lines)) == told[::-1]
    assert len(lines) == len(told)
    if (
        max(map(len, expected_lines(data)), default=0) < 32
    ):  # no line is so long that it is cut
        assert told == expected_lines(data)


@given(anything, st.lists(st.integers(0, 10_000)), st.data())
def test_indices_and_slices_work_as_on_a_list(data, places, draw):
    lines = OutputLines(filled(data, places))
    expected = list(lines)
    bound = st.none() | st.integers(-12, 12)
    step = st.none() | st.integers(-3, 3).filter(bool)
    index = slice(draw.draw(bound), draw.draw(bound), draw.draw(step))
    assert lines[index] == expected[index]
    for number in range(-len(expected), len(expected)):
        assert lines[number] == expected[number]
    for number in (len(expected), -len(expected) - 1):
        with pytest.raises(IndexError):
            lines[number]


@given(anything, st.lists(st.integers(0, 10_000)))
def test_a_line_has_the_time_and_number_of_the_chunk_that_ended_it(data, places):
    chunks = cut(data, places)
    ends = [sum(map(len, chunks[: n + 1])) for n in range(len(chunks))]
    offset = 0
    for line in OutputLines(filled(data, places)):
        offset += len(line.raw)
        arrived = next(n for n, end in enumerate(ends) if end >= offset)
        assert (line.monotonic, line.sequence) == (arrived, arrived)
        assert line.at.timestamp() == WALL + arrived


@given(
    anything,
    st.lists(st.integers(0, 10_000)),
    st.none() | st.integers(-1, 12),
    st.none() | st.integers(-1, 12),
)
def test_since_is_inclusive_and_until_is_exclusive(data, places, first, last):
    lines = OutputLines(filled(data, places))
    zero = datetime.fromtimestamp(WALL).astimezone()
    since = None if first is None else zero + timedelta(seconds=first)
    until = None if last is None else zero + timedelta(seconds=last)
    assert lines.between(since, until) == [
        line
        for line in lines
        if (since is None or line.at >= since) and (until is None or line.at < until)
    ]


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(InvalidConfiguration, match="time zone"):
        OutputLines(filled(b"x\n")).between(datetime(2026, 1, 1))  # noqa: DTZ001


@given(st.lists(anything, max_size=4), st.lists(st.integers(0, 10_000)))
def test_each_incarnation_has_its_own_lines(contents, places):
    """The next incarnation does not continue an unfinished line."""
    buffer = OutputBuffer("stderr", clock=CLOCK)
    for number, data in enumerate(contents, 1):
        buffer.begin(number)
        for chunk in cut(data, places):
            buffer.append(chunk, float(number))
        buffer.end_line()
    for number, data in enumerate(contents, 1):
        lines = OutputLines(buffer, number)
        assert b"".join(raws(lines)) == data
        assert {line.incarnation for line in lines} <= {number}
        assert len(lines) == len(list(lines)) == len(lines[0:])
    assert raws(OutputLines(buffer)) == [
        raw
        for number in range(1, len(contents) + 1)
        for raw in raws(OutputLines(buffer, number))
    ]
    assert len(OutputLines(buffer, 99)) == 0


@given(anything, anything, st.lists(st.integers(0, 10_000)))
@example(b"\r\r\xc3\xa9\0\0\0\0\n\n\n\n\n\n\r", b"\n", [])
def test_a_sequence_does_not_change_when_output_arrives(before, after, places):
    buffer = filled(before, places)
    lines = OutputLines(buffer)
    told = raws(lines)
    iterator, rest = iter(lines), []
    if told:
        rest.append(next(iterator).raw)
    for chunk in cut(after, places):
        buffer.append(chunk, 99.0)
    assert raws(lines) == told
    assert raws(reversed(lines)) == told[::-1]
    assert len(lines) == len(told)
    assert rest + raws(iterator) == told


@given(anything, st.lists(st.integers(0, 10_000)))
def test_following_finds_every_complete_record_once(data, places):
    """Wherever the chunks end between two reads."""
    buffer = OutputBuffer("stdout", clock=CLOCK)
    buffer.begin(1)
    found, place = [], buffer.next_line()

    def turn():
        lines = buffer.complete_records(place)
        found.extend(lines)
        return place + sum(len(line.raw) for line in lines)

    for chunk in cut(data, places):
        buffer.append(chunk, 0.0)
        place = turn()
    buffer.end_line()
    while place < buffer.size:
        place = turn()
    assert [line.raw for line in found] == [
        record
        for raw in raws(OutputLines(buffer))
        for record in split_records(raw, len(raw), may_grow=False)
    ]


@given(anything, anything, st.lists(st.integers(0, 10_000)))
@example(b"\r\r\r\xc3\xa9" + b"\0" * 56, b"", [60])
def test_a_follower_that_begins_within_a_line_gets_the_whole_line(
    before, after, places
):
    buffer = filled(before, places)
    place = buffer.next_line()
    partial = b"" if before.endswith(b"\n") else (expected_lines(before) or [b""])[-1]
    state = re.search(rb"[^\r]*\r*\Z", partial)[0]
    # A line that leaves a sixteenth of the largest segment or less is cut into slices.
    assert place == len(before) - len(state) or len(partial) >= 60


@given(st.lists(st.binary(max_size=3), max_size=40), st.integers(1, 50))
def test_newest_lines_are_the_last_lines(pieces, count):
    """Also if they are in more than the newest segment."""
    buffer = filled(b"\n".join(pieces), [])
    assert OutputLines(buffer)[-count:] == list(OutputLines(buffer))[-count:]


# ---- limits


@given(anything, st.lists(st.integers(0, 10_000)), st.integers(1, 60))
def test_bytes_beyond_max_size_are_counted_and_shown_as_one_gap(data, places, limit):
    """The gap comes last; the last lines are nevertheless the newest ones."""
    data = data.replace(b"\r", b"")  # of a line that is overwritten, the end is told
    buffer = filled(data, places, max_size=limit)
    lines = OutputLines(buffer)
    kept = [line for line in lines if not line.gap]
    assert b"".join(raws(kept)) == data[:limit]
    assert buffer.dropped == max(0, len(data) - limit)
    gaps = [line for line in lines if line.gap]
    assert [gap.gap for gap in gaps] == ([buffer.dropped] if buffer.dropped else [])
    assert list(lines)[len(kept) :] == gaps == lines[len(kept) :]
    last = b"".join(line.raw for line in buffer.last_lines(1, 1000))
    assert last == data


def test_each_incarnation_has_its_own_gap_and_last_lines():
    buffer = OutputBuffer("stdout", clock=CLOCK, max_size=4)
    for number, data in enumerate([b"abc\ndef\n", b"ghi\njk", b""], 1):
        buffer.begin(number)
        if data:
            buffer.append(data, float(number))
    assert [line.gap for line in OutputLines(buffer)] == [0, 4, 6]
    assert [line.gap for line in OutputLines(buffer, 1)] == [0, 4]
    assert [line.gap for line in OutputLines(buffer, 2)] == [6]
    assert list(OutputLines(buffer, 3)) == []
    assert [line.text for line in buffer.last_lines(1)] == ["abc", "def"]
    assert [line.text for line in buffer.last_lines(2)] == ["ghi", "jk"]
    assert buffer.last_lines(3) == []
    assert (
        OutputLines(buffer)[-1].text == "[gap: 6 bytes not kept: max_size was reached]"
    )


@pytest.mark.usefixtures("real_sizes")
def test_last_lines_are_bounded():
    """So that a line of a megabyte does not go into the log."""
    data = b"first\n" + b"x" * 100_000 + b"\nlast"
    buffer = filled(data)
    assert raws(buffer.last_lines(1)) == [b"last"]
    buffer = filled(b"x" * 100_000)
    assert raws(buffer.last_lines(1)) == [b"x" * LAST_LINES_SIZE]
    buffer = filled(b"x" * 100_000, max_size=10)
    assert raws(buffer.last_lines(1)) == [b"x" * LAST_LINES_SIZE]
    assert raws(filled(b"1\n2\n3\n").last_lines(1, 2)) == [b"2\n", b"3\n"]


@pytest.mark.usefixtures("real_sizes")
def test_ten_megabytes_without_a_newline_become_continued_slices():
    """Scenario 8: joined, they are exact, and no slice splits a character."""
    data = "é€𝄞x".encode() * 1_000_000
    buffer = filled(data, range(0, len(data), 65_521))
    lines = list(OutputLines(buffer))
    assert b"".join(raws(lines)) == data
    assert len(lines) > 5
    assert all(line.partial for line in lines)
    assert all(len(line.raw) <= LARGEST_SEGMENT for line in lines)
    for line in lines:
        line.raw.decode()


@given(st.binary(max_size=8))
def test_slices_do_not_split_characters(data):
    """Bytes that are not UTF-8 are kept as they are."""
    whole = whole_characters(data)
    assert len(data) - whole <= 3
    # An incremental decoder keeps exactly the bytes of an incomplete character.
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(data)
    pending = len(decoder.getstate()[0])
    if not pending:
        assert whole == len(data) or data[whole] >= 0xC0
    else:
        assert whole == len(data) - pending


def test_only_invalid_bytes_become_replacement_characters():
    """Scenario 9: a character that two reads split is whole; raw bytes are unchanged."""
    data = b"caf\xc3\xa9 \xff\xfe \xe2\x82\xac\n"
    for place in range(len(data)):
        [line] = OutputLines(filled(data, [place]))
        assert line.text == "café \ufffd\ufffd €"
        assert line.raw == data


@pytest.mark.usefixtures("real_sizes")
def test_memory_stays_within_its_budget(monkeypatch):
    """The rest is on the disk, and any part of it can be read."""
    monkeypatch.setattr(spill, "_map_memory", bytearray)  # which tracemalloc sees
    store = SpillStore(budget=1 << 20)
    buffer = OutputBuffer("stdout", clock=CLOCK, store=store)
    buffer.begin(1)
    line = b"%090d\n"
    tracemalloc.start()
    try:
        for first in range(0, 400_000, 1000):
            chunk = b"".join(line % n for n in range(first, first + 1000))
            buffer.append(chunk, float(first))
            while store.bytes_in_memory > 3 << 20:
                time.sleep(0.001)  # a thread writes
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert buffer.size == 400_000 * 91
    assert peak < 6 << 20
    lines = OutputLines(buffer)
    for number in (0, 123_456, 399_999, -1, -400_000):
        assert lines[number].raw == line % (number % 400_000)


# ---- both streams; the text of a line


@given(st.lists(st.tuples(st.booleans(), anything), max_size=10))
def test_two_streams_are_interleaved_in_the_order_of_arrival(chunks):
    arrivals = iter(range(1000))
    streams = {
        name: OutputBuffer(name, clock=CLOCK, next_sequence=lambda: next(arrivals))
        for name in ("stdout", "stderr")
    }
    order = []
    for is_stderr, data in chunks:
        name = "stderr" if is_stderr else "stdout"
        streams[name].append(data + b"\n", 0.0)
        order += [name] * (len(OutputLines(streams[name])) - order.count(name))
    told = list(interleave(*(OutputLines(buffer) for buffer in streams.values())))
    assert [line.stream for line in told] == order
    assert [line.sequence for line in told] == sorted(line.sequence for line in told)


def test_the_text_of_a_line_has_its_time_and_its_dict_is_ready_for_json():
    """``[2025-05-13 14:30:22] text``"""
    [line] = OutputLines(filled(b"hello\r\n"))
    when = datetime.fromtimestamp(WALL).astimezone()
    assert str(line) == f"[{when:%Y-%m-%d %H:%M:%S}] hello"
    assert line.to_dict() == {
        "at": when.isoformat(),
        "stream": "stdout",
        "incarnation": 1,
        "sequence": 0,
        "text": "hello",
        "partial": False,
        "gap": 0,
    }


def test_a_buffer_without_output_is_empty():
    """Before the first incarnation too."""
    buffer = OutputBuffer("stdout", clock=CLOCK)
    assert (
        list(OutputLines(buffer))
        == OutputLines(buffer)[-3:]
        == buffer.last_lines(1)
        == []
    )
    assert OutputLines(buffer).between() == []
    assert "stdout 0 bytes" in repr(OutputLines(buffer))


# ---- Python warnings


@given(
    st.lists(
        st.sampled_from(
            [b"x.py:1: UserWarning: %d\n", b"noise %d\n", b"Warning: %d\n"]
        ),
        max_size=20,
    ),
    st.lists(st.integers(0, 10_000)),
)
@settings(max_examples=200)
def test_each_python_warning_is_reported_once_when_its_line_is_complete(kinds, places):
    buffer = OutputBuffer("stderr", clock=CLOCK)
    finder, told = PythonWarningFinder(buffer), []
    data = b"".join(kind % n for n, kind in enumerate(kinds))
    for chunk in cut(data, places):
        buffer.append(chunk, 0.0)
        told += [int(found.message) for found in finder.feed(chunk)]
        done = OutputLines(buffer)
        assert told == [
            int(line.raw.split()[-1])
            for line in done
            if b"User" in line.raw and not line.partial
        ]
    told += [int(found.message) for found in finder.complete()]
    assert told == [n for n, kind in enumerate(kinds) if b"User" in kind]


@pytest.mark.usefixtures("real_sizes")
def test_a_python_warning_after_megabytes_of_output_is_reported():
    """Also at the very end, without a newline."""
    buffer = OutputBuffer("stderr", clock=CLOCK)
    finder, told = PythonWarningFinder(buffer), []
    for data in [b"noise\n" * 20_000] * 10 + [b"x.py:3: UserWarning: old"]:
        buffer.append(data, 0.0)
        told += finder.feed(data)
    assert told == []
    buffer.end_line()
    assert [found.message for found in finder.complete()] == ["old"]
    assert buffer.size > BLOCK


@given(anything, st.lists(st.integers(0, 1000)), st.lists(st.integers(0, 9)))
def test_the_count_of_lines_never_decreases_and_reaches_all_lines(
    data, places, budgets
):
    """However few bytes one call may look through."""
    buffer = OutputBuffer("stdout", clock=CLOCK)
    buffer.begin(1)
    before = buffer.volume(1 << 20)
    for chunk, most in zip(cut(data, places), itertools.cycle([*budgets, 1])):
        buffer.append(chunk, 0.0)
        volume = buffer.volume(most)
        assert volume.lines >= before.lines
        before = volume
    assert before.size == len(data)
    buffer.end_line()
    assert buffer.volume(1 << 20).lines == len(OutputLines(buffer))


@pytest.mark.usefixtures("real_sizes")
def test_counting_looks_through_a_limited_number_of_bytes():
    """The lines of a flood are counted in several calls; dropped bytes are counted too."""
    data = b"again and again\n" * 100_000
    buffer = filled(data, max_size=len(data) - 100)
    first = buffer.volume(BLOCK)
    assert BLOCK <= first.scanned < 2 * BLOCK
    assert 0 < first.lines < 99_000
    assert (first.size, first.dropped) == (len(data), 100)
    assert buffer.volume(1 << 30).lines == 99_993
    assert buffer.volume(1 << 30).scanned < BLOCK


@given(data=anything, places=st.lists(st.integers(0, 200), max_size=6))
def test_the_raw_lines_and_texts_are_those_of_the_lines(data, places):
    buffer = filled(data, places)
    lines = OutputLines(buffer)
    buffer.append(b"later\n", 99.0)
    assert list(lines.raw_lines()) == raws(lines)
    assert list(lines.texts()) == [line.text for line in lines]


def test_the_raw_lines_of_one_incarnation_are_only_its_own():
    buffer = filled(b"one\n" * 20_000)
    buffer.end_line()
    buffer.begin(2)
    buffer.append(b"two\n" * 20_000 + b"rest", 5.0)
    assert [*OutputLines(buffer, 1).raw_lines()] == [b"one\n"] * 20_000
    assert [*OutputLines(buffer, 2).texts()] == ["two"] * 20_000 + ["rest"]
    assert {line.incarnation for line in OutputLines(buffer, 2)} == {2}


@pytest.mark.usefixtures("real_sizes")
def test_an_unfinished_line_longer_than_a_step_does_not_prevent_the_count():
    buffer = filled(b"one\n" * 50 + b"x" * 300_000)
    counted = [buffer.volume(10_000) for _ in range(3)]
    assert counted[-1].all_counted
    assert counted[-1].lines == 50
