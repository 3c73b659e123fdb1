"""Output that is forgotten: a counted gap; the rest reads as before."""

import os
import time
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.supervision.output import append_buffer, capture, spill
from realtalk_async.supervision.output.buffer import OutputBuffer
from realtalk_async.supervision.output.capture import Capture
from realtalk_async.supervision.output.line import Clock
from realtalk_async.supervision.output.lines import OutputLines
from realtalk_async.supervision.output.python_warnings import PythonWarningFinder
from realtalk_async.supervision.output.spill import SpillStore

CLOCK = Clock(lambda: 1_000_000.0)
contents = st.lists(
    st.lists(st.sampled_from([b"\n", b"a", b"word\n", b"x" * 9]), max_size=12).map(
        b"".join
    ),
    min_size=1,
    max_size=12,
)


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    monkeypatch.setattr(append_buffer, "BLOCK", 16)
    monkeypatch.setattr(append_buffer, "SMALLEST_SEGMENT", 8)
    monkeypatch.setattr(spill, "LARGEST_SEGMENT", 64)


def filled(contents, **options):
    """Return a buffer in which incarnation n wrote part n at second n."""
    buffer = OutputBuffer("stdout", clock=CLOCK, **options)
    for number, data in enumerate(contents, 1):
        buffer.begin(number)
        if data:
            buffer.append(data, float(number))
    return buffer


@given(contents, st.integers(1, 12), st.booleans())
def test_the_rest_reads_as_before(contents, first, counted):
    first = min(first, len(contents))
    buffer = filled(contents, store=SpillStore(budget=0))
    whole, each = OutputLines(buffer), {}
    for number in range(1, len(contents) + 1):
        lines = OutputLines(buffer, number)
        each[number] = (lines, list(lines))
    if counted:
        assert len(whole) == len(list(whole))
    before = buffer.volume(1 << 30).lines
    buffer.forget_before(first)
    missing = sum(map(len, contents[: first - 1]))
    kept = [
        line for number in range(first, len(contents) + 1) for line in each[number][1]
    ]
    for lines in (whole, OutputLines(buffer)):
        told = list(lines)
        gaps = [line for line in told if line.gap]
        assert [gap.gap for gap in gaps] == ([missing] if missing else [])
        assert told == [*gaps, *kept]
        assert list(reversed(lines)) == told[::-1]
        assert len(lines) == len(told)
        assert [lines[number] for number in range(len(told))] == told
        assert lines[-3:] == told[-3:]
        assert lines[1:4] == told[1:4]
        for line in told:
            moment = line.at + timedelta(microseconds=1)
            assert lines.between(line.at) == [o for o in told if o.at >= line.at]
            assert lines.between(None, moment) == [o for o in told if o.at < moment]
    for number, (lines, lines_before) in each.items():
        if number >= first:
            assert list(lines) == lines_before == list(OutputLines(buffer, number))
        else:
            assert sum(line.gap for line in lines) == len(contents[number - 1])
            assert len(lines) == len(list(lines)) <= 1
            assert list(OutputLines(buffer, number)) == []
            assert buffer.last_lines(number) == []
    assert buffer.volume(1 << 30).lines >= before
    assert buffer.size == sum(map(len, contents))


@given(contents)
def test_forgetting_one_after_the_other_is_the_same_as_at_once(contents):
    """As a child that is restarted again and again does it."""
    buffer = OutputBuffer("stdout", clock=CLOCK, store=SpillStore(budget=0))
    for number, data in enumerate(contents, 1):
        buffer.begin(number)
        buffer.forget_before(number - 1)
        for byte in data:
            buffer.append(bytes([byte]), float(number))
    lines = OutputLines(buffer)
    missing = sum(map(len, contents[:-2]))
    assert sum(line.gap for line in lines) == missing
    assert b"".join(line.raw for line in lines) == b"".join(contents[-2:])
    assert len(buffer._incarnations) <= 2


def test_dropped_bytes_of_forgotten_incarnations_are_counted():
    buffer = filled([b"abc\ndef\n", b"ghi\njk", b"l"], max_size=4)
    buffer.forget_before(3)
    gaps = [(line.gap, line.text) for line in OutputLines(buffer)]
    assert [gap for gap, _ in gaps] == [14, 1]
    assert "older than the newest incarnations" in gaps[0][1]
    assert "max_size" in gaps[1][1]
    assert list(OutputLines(buffer, 2)) == []


def test_an_iteration_goes_on_behind_what_is_forgotten_meanwhile():
    buffer = filled([b"a\n" * 30, b"b\n" * 30, b"c\n" * 30])
    iterator = iter(OutputLines(buffer))
    first = [next(iterator).text for _ in range(3)]
    buffer.forget_before(3)
    rest = [line.text for line in iterator]
    assert first == ["a"] * 3
    assert rest[-30:] == ["c"] * 30
    assert "b" not in rest


async def test_a_slow_follower_goes_on_behind_what_is_forgotten(monkeypatch):
    monkeypatch.setattr(capture, "STREAMS", ("stdout",))
    kept = Capture("c", max_size=1 << 20, on_error=print, clock=CLOCK)
    follower = kept.follow(history=True)
    for number in range(1, 5):
        kept.begin(number, binary=False)
        kept.append("stdout", b"life %d\n" % number, float(number))
        kept.buffers["stdout"].forget_before(number - 1)
        kept.end()
    assert [line.text async for line in follower] == ["life 3", "life 4"]


def test_a_python_warning_behind_what_is_forgotten_is_reported(monkeypatch):
    """Although another line follows it in the same block."""
    monkeypatch.setattr(append_buffer, "BLOCK", 1024)
    monkeypatch.setattr(append_buffer, "SMALLEST_SEGMENT", 1024)
    monkeypatch.setattr(spill, "LARGEST_SEGMENT", 4096)
    buffer = OutputBuffer("stderr", clock=CLOCK)
    finder = PythonWarningFinder(buffer)
    for number in (1, 2):
        buffer.begin(number)
        buffer.forget_before(number)
        data = b"x.py:%d: UserWarning: old\nnoise, and more of it\n" % number
        buffer.append(data, float(number))
        found = [*finder.feed(data), *finder.complete()]
        assert [one.message for one in found] == ["old"]


def test_the_space_on_the_disk_is_freed(monkeypatch):
    monkeypatch.undo()  # the real sizes: thousands of tiny segments would take seconds
    store = SpillStore(budget=0)
    buffer = OutputBuffer("stdout", clock=CLOCK, store=store)
    used = []
    for number in range(1, 7):
        buffer.begin(number)
        for _ in range(200):
            buffer.append((b"y" * 4999 + b"\n") * 2, float(number))
        buffer.forget_before(number)
        deadline = time.monotonic() + 60
        while store.is_writing:
            assert time.monotonic() < deadline
            time.sleep(0.001)  # a thread writes
        used.append(os.fstat(store._file).st_blocks * 512)
    if spill._fallocate is None:
        pytest.skip("this system cannot free a part of a file")
    assert buffer.size == 12_000_000
    assert used[-1] < 6_000_000
