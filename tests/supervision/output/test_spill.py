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

from realtalk_async.supervision.output import buffer as output
from realtalk_async.supervision.output import spill
from realtalk_async.supervision.output.spill import SpillStore

SLAB = bytearray(b"x" * 1000)


def settle(store):
    """Wait until nothing more is being written."""
    deadline = time.monotonic() + 10
    while store.is_writing:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def told(store, count):
    """Return what lies in a store of slabs of 1,000 bytes."""
    return [store.read(at, at + 1_000) for at in range(0, count * 1_000, 1_000)]


@given(st.lists(st.binary(min_size=1, max_size=400), max_size=30), st.integers(0, 500))
@settings(deadline=None)
def test_every_slab_comes_back_wherever_it_lies(slabs, budget):
    """From memory or from the file, whole or in part."""
    store = SpillStore(budget=budget)
    for slab in slabs:
        store.add(bytearray(slab + b"not used"), len(slab))
    ends = list(itertools.accumulate(map(len, slabs)))
    places = [(end - len(slab), end) for slab, end in zip(slabs, ends, strict=True)]
    assert [store.read(*place) for place in places] == slabs
    settle(store)
    assert [store.read(*place) for place in places] == slabs
    assert [store.read(start + 1, end) for start, end in places] == [
        slab[1:] for slab in slabs
    ]
    assert store.held <= budget


def test_nothing_is_written_below_the_budget():
    """A child that says little costs no file and no thread."""
    before = descriptors()
    store = SpillStore(budget=10_000)
    for _ in range(10):
        store.add(SLAB, len(SLAB))
    assert descriptors() == before
    assert not store.is_writing


def test_the_file_has_no_name():
    """Nothing to clean up, however the app ends."""
    before = descriptors()
    names = set(os.listdir(tempfile.gettempdir()))
    store = SpillStore(budget=0)
    for _ in range(10):
        store.add(SLAB, len(SLAB))
    settle(store)
    assert descriptors() == before + 1
    new = set(os.listdir(tempfile.gettempdir())) - names
    assert not [name for name in new if name.startswith("realtalk-")]


def test_a_store_that_is_forgotten_gives_the_space_back():
    """Output lives as long as somebody can ask for it."""
    before = descriptors()
    store = SpillStore(budget=0)
    store.add(SLAB, len(SLAB))
    settle(store)
    del store
    thread_has_ended()
    gc.collect()
    assert descriptors() == before


def thread_has_ended():
    """Wait until there is no writing thread."""
    deadline = time.monotonic() + 10
    while any(one.name.startswith("realtalk-spill") for one in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_thread_ends_with_its_work():
    """One for all stores, and only while something is to be written."""
    stores = [SpillStore(budget=0) for _ in range(5)]
    for store in stores:
        store.add(SLAB, len(SLAB))
    assert sum(one.name == "realtalk-spill" for one in threading.enumerate()) == 1
    for store in stores:
        settle(store)
    thread_has_ended()
    stores[0].add(SLAB, len(SLAB))  # there is another one when it is needed again
    settle(stores[0])
    assert told(stores[0], 2) == [SLAB] * 2


def test_stores_take_turns(monkeypatch):
    """A flood does not keep the others waiting until it has ended."""
    order, whole = [], SpillStore.write_one
    slow, go_on = threading.Event(), threading.Event()

    def note(store):
        slow.set()
        go_on.wait(10)
        order.append(store)
        return whole(store)

    monkeypatch.setattr(SpillStore, "write_one", note)
    flood, other = SpillStore(budget=0), SpillStore(budget=0)
    for _ in range(5):
        flood.add(SLAB, len(SLAB))
    assert slow.wait(10)
    other.add(SLAB, len(SLAB))
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
    troubles, room = [], threading.Event()
    store = SpillStore(budget=0, on_trouble=troubles.append, on_room=room.set)
    for _ in range(20):
        store.add(SLAB, len(SLAB))
    settle(store)
    assert room.wait(10)  # a child that has to wait would do so for ever
    assert troubles == [full]
    assert not store.is_full
    assert told(store, 20) == [SLAB] * 20


def test_what_neither_the_disk_nor_memory_can_hold_is_counted(monkeypatch):
    """And the disk is not filled to its last byte, nor the memory."""
    nearly_full = os.statvfs_result((4096, 4096, 1 << 20, 0, 50_000, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _file: nearly_full)
    troubles = []
    store = SpillStore(budget=100_000, on_trouble=troubles.append)
    buffer = output.OutputBuffer("stdout", clock=output.Clock.now(), store=store)
    buffer.begin(1)
    line = b"x" * 999 + b"\n"
    for _ in range(20_000):
        buffer.append(line, 0.0)
        settle(store)
    (trouble,) = troubles
    assert trouble.errno == errno.ENOSPC
    assert "only 195 MiB are left" in str(trouble)
    assert store.held < 100_000 + spill.BACKLOG + 2 * output.SLAB
    assert buffer.size == buffer.max_size
    assert buffer.dropped == 20_000_000 - buffer.size > 10_000_000
    *_, last, gap = buffer.lines()
    assert (last.raw, gap.gap) == (line, buffer.dropped)


def test_a_write_that_is_cut_short_goes_on(monkeypatch):
    """As the kernel may do at any time."""
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: whole(fd, data[:7], at))
    store = SpillStore(budget=0)
    slabs = [bytearray(b"%04d" % n * 250) for n in range(5)]
    for slab in slabs:
        store.add(slab, len(slab))
    settle(store)
    assert store.held == 0
    assert told(store, 5) == slabs


def test_a_disk_that_falls_behind_is_told_and_waited_for(monkeypatch):
    """So that memory stays bounded: the child waits until there is room again."""
    go_on, room = threading.Event(), threading.Event()
    whole = os.pwrite

    def slow(*arguments):
        go_on.wait(10)
        return whole(*arguments)

    monkeypatch.setattr(os, "pwrite", slow)
    monkeypatch.setattr(spill, "BACKLOG", 5_000)
    store = SpillStore(budget=1_000, on_room=room.set)
    while not store.is_full:
        store.add(SLAB, len(SLAB))
    assert store.held == 7_000
    go_on.set()
    assert room.wait(10)
    assert not store.is_full
    settle(store)


def test_memory_that_was_written_is_used_again():
    """Fresh memory is dearer than what is read into it; in the end it is given back."""
    store = SpillStore(budget=0)
    slab = store.fresh(output.SLAB)
    slab[:1_000] = SLAB
    store.add(slab, 1_000)
    settle(store)
    assert store.fresh(output.SLAB) is slab
    assert store.fresh(output.SLAB) is not slab
    assert told(store, 1) == [SLAB]
    thread_has_ended()
