"""Old output on the disk: complete, bounded in memory, and gone with us."""

import errno
import gc
import os
import tempfile
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtalk_async.supervision import output, spill
from realtalk_async.supervision.spill import SpillStore

SEGMENT = b"x" * 1000


def settle(store):
    """Wait until nothing more is being written."""
    deadline = time.monotonic() + 10
    while store.is_writing:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Let a few bytes be worth a write."""
    monkeypatch.setattr(spill, "BATCH", 100)


@given(st.lists(st.binary(min_size=1, max_size=400), max_size=30), st.integers(0, 500))
@settings(deadline=None)
def test_every_segment_comes_back_wherever_it_lies(segments, budget):
    """From memory or from the file."""
    store = SpillStore(budget=budget)
    for segment in segments:
        store.add(segment, len(segment))
    assert [store.get(n) for n in range(len(segments))] == segments
    settle(store)
    assert [store.get(n) for n in range(len(segments))] == segments
    assert store.held <= budget + 100 + 400
    store.close()


def test_nothing_is_written_below_the_budget():
    """A child that says little costs no file and no thread."""
    before = descriptors()
    store = SpillStore(budget=10_000)
    for _ in range(10):
        store.add(SEGMENT, len(SEGMENT))
    assert descriptors() == before
    assert not store.is_writing
    store.close()


def test_the_file_has_no_name_and_closing_gives_the_space_back():
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
    store.close()
    store.close()
    assert descriptors() == before


def test_a_store_that_is_forgotten_lets_go_of_its_file():
    """Output lives as long as somebody can ask for it."""
    before = descriptors()
    store = SpillStore(budget=0)
    store.add(SEGMENT, len(SEGMENT))
    settle(store)
    del store
    gc.collect()
    assert descriptors() == before


def test_the_thread_ends_with_its_work():
    """One for all stores, and only while something is to be written."""
    stores = [SpillStore(budget=0) for _ in range(5)]
    for store in stores:
        store.add(SEGMENT, len(SEGMENT))
    for store in stores:
        settle(store)
    deadline = time.monotonic() + 10
    while any(one.name.startswith("realtalk-spill") for one in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    for store in stores:
        store.close()


@pytest.mark.parametrize("step", ["open", "write"])
def test_a_full_disk_costs_memory_and_no_output(monkeypatch, step):
    """Told once; everything stays where it is."""
    full = OSError(errno.ENOSPC, "No space left on device")

    def refuse(*_args, **_options):
        raise full

    if step == "open":
        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    else:
        monkeypatch.setattr(os, "pwritev", refuse)
    told = []
    store = SpillStore(budget=0, on_trouble=told.append)
    for _ in range(20):
        store.add(SEGMENT, len(SEGMENT))
    settle(store)
    assert told == [full]
    assert [store.get(n) for n in range(20)] == [SEGMENT] * 20
    store.close()


def test_a_write_that_is_cut_short_goes_on(monkeypatch):
    """As the kernel may do at any time."""
    whole, first = os.pwrite, os.pwritev
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: whole(fd, data[:7], at))
    monkeypatch.setattr(os, "pwritev", lambda fd, some, at: first(fd, some[:1], at))
    store = SpillStore(budget=0)
    segments = [b"%03d" % n * 50 for n in range(5)]
    for segment in segments:
        store.add(segment, len(segment))
    settle(store)
    assert store.held <= 250
    assert [store.get(n) for n in range(5)] == segments
    store.close()


def test_closing_while_the_thread_writes_waits_for_it(monkeypatch):
    """The descriptor's number could be another file's by then."""
    before, begun, go_on = descriptors(), threading.Event(), threading.Event()
    whole = os.pwritev

    def slow(*arguments):
        begun.set()
        go_on.wait(10)
        return whole(*arguments)

    monkeypatch.setattr(os, "pwritev", slow)
    store = SpillStore(budget=0)
    store.add(SEGMENT, len(SEGMENT))
    assert begun.wait(10)
    store.close()
    assert descriptors() == before + 1
    go_on.set()
    settle(store)
    assert descriptors() == before


def test_a_disk_that_falls_behind_is_told_and_waited_for(monkeypatch):
    """So that memory stays bounded: the child waits until there is room again."""
    go_on, room = threading.Event(), threading.Event()
    whole = os.pwritev

    def slow(*arguments):
        go_on.wait(10)
        return whole(*arguments)

    monkeypatch.setattr(os, "pwritev", slow)
    monkeypatch.setattr(spill, "BACKLOG", 5_000)
    store = SpillStore(budget=1_000, on_room=room.set)
    while not store.is_full:
        store.add(SEGMENT, len(SEGMENT))
    assert store.held == 7_000
    go_on.set()
    assert room.wait(10)
    assert not store.is_full
    settle(store)
    store.close()


def test_memory_that_was_written_is_used_again():
    """Fresh memory is dearer than what is read into it."""
    store = SpillStore(budget=0)
    segment = bytearray(output.SEGMENT)
    store.add(segment, 1_000)
    settle(store)
    assert store.spare() is segment
    assert store.spare() is None
    assert store.get(0) == bytes(1_000)
    store.close()
