"""Old output on the disk: complete, bounded in memory, and removed with its buffer."""

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

from realtalk_async.operating_system import SYSTEM
from realtalk_async.supervision.output import spill
from realtalk_async.supervision.output.buffer import OutputBuffer
from realtalk_async.supervision.output.line import Clock
from realtalk_async.supervision.output.lines import OutputLines
from realtalk_async.supervision.output.spill import SpillStore

SEGMENT = bytearray(b"x" * 1000)


def settle(store):
    """Wait until the writer thread has nothing left to write."""
    deadline = time.monotonic() + 120
    while store.is_writing:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def descriptors():
    return len(SYSTEM.descriptors())


def filled(store, count):
    """Return what lies in a store of segments of 1,000 bytes."""
    return [store.read(at, at + 1_000) for at in range(0, count * 1_000, 1_000)]


@given(st.lists(st.binary(min_size=1, max_size=400), max_size=30), st.integers(0, 500))
@settings(deadline=None)
def test_every_segment_is_read_back_from_memory_and_from_the_file(segments, budget):
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
    """A child with little output costs neither a file nor a thread."""
    before = descriptors()
    store = SpillStore(budget=10_000)
    for _ in range(10):
        store.add(SEGMENT, len(SEGMENT))
    assert descriptors() == before
    assert not store.is_writing


def test_the_file_has_no_name():
    """So that nothing has to be removed, however the app ends."""
    before = descriptors()
    names = set(os.listdir(tempfile.gettempdir()))
    store = SpillStore(budget=0)
    for _ in range(10):
        store.add(SEGMENT, len(SEGMENT))
    settle(store)
    assert descriptors() == before + 1
    new = set(os.listdir(tempfile.gettempdir())) - names
    assert not [name for name in new if name.startswith("realtalk-")]


def test_a_store_that_is_garbage_collected_frees_its_disk_space():
    before = descriptors()
    store = SpillStore(budget=0)
    store.add(SEGMENT, len(SEGMENT))
    settle(store)
    del store
    thread_has_ended()
    gc.collect()
    assert descriptors() == before


def thread_has_ended():
    deadline = time.monotonic() + 120
    while any(one.name.startswith("realtalk-spill") for one in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_writer_thread_ends_when_nothing_is_left_to_write():
    """All stores share it."""
    stores = [SpillStore(budget=0) for _ in range(5)]
    for store in stores:
        store.add(SEGMENT, len(SEGMENT))
    assert sum(one.name == "realtalk-spill" for one in threading.enumerate()) == 1
    for store in stores:
        settle(store)
    thread_has_ended()
    stores[0].add(SEGMENT, len(SEGMENT))  # there is another one when it is needed again
    settle(stores[0])
    assert filled(stores[0], 2) == [SEGMENT] * 2


def test_stores_take_turns_to_be_written(monkeypatch):
    """So that a flood does not delay the other stores until its end."""
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
def test_a_full_disk_is_reported_once_and_the_output_stays_in_memory(monkeypatch, step):
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
    assert filled(store, 20) == [SEGMENT] * 20


def test_segments_beyond_disk_and_memory_are_dropped_and_counted(monkeypatch):
    """A reserve of the disk stays free."""
    nearly_full = os.statvfs_result((4096, 4096, 1 << 20, 0, 50_000, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _file: nearly_full)
    errors = []
    store = SpillStore(budget=100_000, on_error=errors.append)
    buffer = OutputBuffer("stdout", clock=Clock(), store=store)
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


def test_a_short_write_is_continued(monkeypatch):
    """The kernel may write fewer bytes than it was given."""
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: whole(fd, data[:7], at))
    store = SpillStore(budget=0)
    segments = [bytearray(b"%04d" % n * 250) for n in range(5)]
    for segment in segments:
        store.add(segment, len(segment))
    settle(store)
    assert store.bytes_in_memory == 0
    assert filled(store, 5) == segments


def test_a_slow_disk_is_reported_and_its_child_waits(monkeypatch):
    """So that memory stays bounded."""
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


def test_the_memory_of_written_segments_is_used_again():
    """Fresh memory costs more than the read into it; in the end it is freed."""
    store = SpillStore(budget=0)
    segment = store.new_segment(spill.LARGEST_SEGMENT)
    segment[:1_000] = SEGMENT
    store.add(segment, 1_000)
    settle(store)
    assert store.new_segment(spill.LARGEST_SEGMENT) is segment
    assert store.new_segment(spill.LARGEST_SEGMENT) is not segment
    assert filled(store, 1) == [SEGMENT]
    thread_has_ended()
