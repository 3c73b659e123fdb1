"""Old output on the disk: complete, bounded in memory, and gone with us."""

import errno
import gc
import itertools
import os
import tempfile
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtalk_async.supervision.output import spill
from realtalk_async.supervision.output.buffer import OutputBuffer
from realtalk_async.supervision.output.line import Clock
from realtalk_async.supervision.output.lines import OutputLines
from realtalk_async.supervision.output.spill import SpillStore

SEGMENT = bytearray(b"x" * 1000)


def settle(store):
    """Wait until nothing more is being written."""
    deadline = time.monotonic() + 120
    while store.is_writing:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def told(store, count):
    """Return what lies in a store of segments of 1,000 bytes."""
    return [store.read(at, at + 1_000) for at in range(0, count * 1_000, 1_000)]


@given(st.lists(st.binary(min_size=1, max_size=400), max_size=30), st.integers(0, 500))
@settings(deadline=None)
def test_every_segment_comes_back_wherever_it_lies(segments, budget):
    """From memory or from the file, whole or in part."""
    store = SpillStore(budget=budget)
    for segment in segments:
        store.add(bytearray(segment + b"not used"), len(segment))
    ends = list(itertools.accumulate(map(len, segments)))
    places = [
        (end - len(segment), end) for segment, end in zip(segments, ends, strict=True)
    ]
    assert [store.read(*place) for place in places] == segments
    settle(store)
    assert [store.read(*place) for place in places] == segments
    assert [store.read(start + 1, end) for start, end in places] == [
        segment[1:] for segment in segments
    ]
    assert store.bytes_in_memory <= budget


def test_nothing_is_written_below_the_budget():
    """A child that says little costs no file and no thread."""
    before = descriptors()
    store = SpillStore(budget=10_000)
    for _ in range(10):
        store.add(SEGMENT, len(SEGMENT))
    assert descriptors() == before
    assert not store.is_writing


def test_the_file_has_no_name():
    """Nothing to clean up, however the app ends."""
    before = descriptors()
    names = set(os.listdir(tempfile.gettempdir()))
    store = SpillStore(budget=0)
    for _ in range(10):
        store.add(SEGMENT, len(SEGMENT))
    settle(store)
    assert descriptors() == before + 1
    new = set(os.listdir(tempfile.gettempdir())) - names
    assert not [name for name in new if name.startswith("realtalk-")]


def test_a_store_that_is_forgotten_gives_the_space_back():
    """Output lives as long as somebody can ask for it."""
    before = descriptors()
    store = SpillStore(budget=0)
    store.add(SEGMENT, len(SEGMENT))
    settle(store)
    del store
    thread_has_ended()
    gc.collect()
    assert descriptors() == before


def thread_has_ended():
    """Wait until there is no writing thread."""
    deadline = time.monotonic() + 120
    while any(one.name.startswith("realtalk-spill") for one in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_thread_ends_with_its_work():
    """One for all stores, and only while something is to be written."""
    stores = [SpillStore(budget=0) for _ in range(5)]
    for store in stores:
        store.add(SEGMENT, len(SEGMENT))
    assert sum(one.name == "realtalk-spill" for one in threading.enumerate()) == 1
    for store in stores:
        settle(store)
    thread_has_ended()
    stores[0].add(SEGMENT, len(SEGMENT))  # there is another one when it is needed again
    settle(stores[0])
    assert told(stores[0], 2) == [SEGMENT] * 2


def test_stores_take_turns(monkeypatch):
    """A flood does not keep the others waiting until it has ended."""
    order, whole = [], SpillStore.write_oldest
    slow, go_on = threading.Event(), threading.Event()

    def note(store):
        slow.set()
        go_on.wait(120)
        order.append(store)
        return whole(store)

    monkeypatch.setattr(SpillStore, "write_oldest", note)
    flood, other = SpillStore(budget=0), SpillStore(budget=0)
    for _ in range(5):
        flood.add(SEGMENT, len(SEGMENT))
    assert slow.wait(120)
    other.add(SEGMENT, len(SEGMENT))
    go_on.set()
    settle(flood)
    settle(other)
    assert order.index(other) < 3


@pytest.mark.parametrize("step", ["open", "write"])
def test_a_full_disk_costs_no_output_at_first(monkeypatch, step):
    """Told once; everything stays where it is, in memory."""
    full = OSError(errno.ENOSPC, "No space left on device")

    def refuse(*_args, **_options):
        raise full

    if step == "open":
        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    else:
        monkeypatch.setattr(os, "pwrite", refuse)
    errors, space = [], threading.Event()
    store = SpillStore(budget=0, on_error=errors.append, on_space=space.set)
    for _ in range(20):
        store.add(SEGMENT, len(SEGMENT))
    settle(store)
    assert space.wait(120)  # a child that has to wait would do so for ever
    assert errors == [full]
    assert not store.is_full
    assert told(store, 20) == [SEGMENT] * 20


def test_what_neither_the_disk_nor_memory_can_hold_is_counted(monkeypatch):
    """And the disk is not filled to its last byte, nor the memory."""
    nearly_full = os.statvfs_result((4096, 4096, 1 << 20, 0, 50_000, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _file: nearly_full)
    errors = []
    store = SpillStore(budget=100_000, on_error=errors.append)
    buffer = OutputBuffer("stdout", clock=Clock.now(), store=store)
    buffer.begin(1)
    line = b"x" * 999 + b"\n"
    for _ in range(20_000):
        buffer.append(line, 0.0)
        settle(store)
    (error,) = errors
    assert error.errno == errno.ENOSPC
    assert "only 195 MiB are left" in str(error)
    assert store.bytes_in_memory < 100_000 + spill.BACKLOG + 2 * spill.LARGEST_SEGMENT
    assert buffer.size == buffer.max_size
    assert buffer.dropped == 20_000_000 - buffer.size > 10_000_000
    *_, last, gap = OutputLines(buffer)
    assert (last.raw, gap.gap) == (line, buffer.dropped)


def test_a_write_that_is_cut_short_goes_on(monkeypatch):
    """As the kernel may do at any time."""
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: whole(fd, data[:7], at))
    store = SpillStore(budget=0)
    segments = [bytearray(b"%04d" % n * 250) for n in range(5)]
    for segment in segments:
        store.add(segment, len(segment))
    settle(store)
    assert store.bytes_in_memory == 0
    assert told(store, 5) == segments


def test_a_disk_that_falls_behind_is_told_and_waited_for(monkeypatch):
    """So that memory stays bounded: the child waits until there is room again."""
    go_on, space = threading.Event(), threading.Event()
    whole = os.pwrite

    def slow(*arguments):
        go_on.wait(120)
        return whole(*arguments)

    monkeypatch.setattr(os, "pwrite", slow)
    monkeypatch.setattr(spill, "BACKLOG", 5_000)
    store = SpillStore(budget=1_000, on_space=space.set)
    while not store.is_full:
        store.add(SEGMENT, len(SEGMENT))
    assert store.bytes_in_memory == 7_000
    go_on.set()
    assert space.wait(120)
    assert not store.is_full
    settle(store)


def test_memory_that_was_written_is_used_again():
    """Fresh memory is dearer than what is read into it; in the end it is given back."""
    store = SpillStore(budget=0)
    segment = store.new_segment(spill.LARGEST_SEGMENT)
    segment[:1_000] = SEGMENT
    store.add(segment, 1_000)
    settle(store)
    assert store.new_segment(spill.LARGEST_SEGMENT) is segment
    assert store.new_segment(spill.LARGEST_SEGMENT) is not segment
    assert told(store, 1) == [SEGMENT]
    thread_has_ended()
