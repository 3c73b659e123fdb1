"""`FairPoller`: the loop watches one descriptor for all pipes, which take turns."""

import asyncio
import gc
import os
import select
import signal
import weakref
from functools import partial

import pytest

from realtalk_async.supervision import TEMPORARY, ManagedProcess
from realtalk_async.supervision.kernel import fair_poller
from realtalk_async.supervision.kernel.fair_poller import FairPoller
from realtalk_async.testing import programs


@pytest.fixture(params=["epoll", "no epoll"])
def kind(request, monkeypatch):
    """The poller with epoll, and the fallback of systems without it."""
    if request.param == "no epoll":
        monkeypatch.delattr(select, "epoll")
    return request.param


@pytest.fixture
def pipes():
    """Return five pipes that each contain one byte."""
    made = [os.pipe() for _ in range(5)]
    for _, writing in made:
        os.write(writing, b"x")
    yield [reading for reading, _ in made]
    for both in made:
        for end in both:
            os.close(end)


@pytest.mark.usefixtures("kind")
async def test_a_callback_is_called_until_its_descriptor_is_removed(pipes):
    one, called = FairPoller(asyncio.get_running_loop()), []
    one.add(pipes[0], lambda: called.append(True))
    while len(called) < 3:
        await asyncio.sleep(0)
    one.remove(pipes[0])
    await asyncio.sleep(0)  # the loop itself may have been about to call
    seen = len(called)
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(called) == seen


async def test_descriptors_that_got_no_time_in_a_turn_are_first_in_the_next(
    pipes, monkeypatch
):
    """So that none waits for ever, however busy the others are."""
    monkeypatch.setattr(fair_poller, "BUDGET", 0.0)
    one, called, turns = FairPoller(asyncio.get_running_loop()), [], 0
    for number, descriptor in enumerate(pipes):
        one.add(descriptor, partial(called.append, number))
    while len(called) < 20:
        before = len(called)
        await asyncio.sleep(0)
        assert len(called) <= before + 1
        turns += 1
    assert turns >= 20
    for start in range(0, 20, 5):
        assert sorted(called[start : start + 5]) == list(range(5))
    for descriptor in pipes:
        one.remove(descriptor)


async def test_a_callback_that_raises_does_not_stop_the_others(pipes):
    one, called, troubles = FairPoller(asyncio.get_running_loop()), [], []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: troubles.append(context["exception"]))

    def fail():
        os.read(pipes[0], 1)
        raise ZeroDivisionError

    one.add(pipes[0], fail)
    one.add(pipes[1], lambda: called.append(True))
    while not (called and troubles):
        await asyncio.sleep(0)
    assert [type(one) for one in troubles] == [ZeroDivisionError]
    for descriptor in pipes[:2]:
        one.remove(descriptor)


async def test_a_callback_may_remove_other_descriptors(pipes):
    """An exit closes all pipes of its child; the poller closes with the last of them."""
    before = len(os.listdir("/proc/self/fd"))
    one, called = FairPoller(asyncio.get_running_loop()), []

    def remove_all():
        called.append(True)
        for descriptor in pipes:
            one.remove(descriptor)

    for descriptor in pipes:
        one.add(descriptor, remove_all)
    while not called:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(called) == 1
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_refused_descriptor_leaves_nothing(tmp_path):
    """epoll refuses a regular file, for example."""
    before = len(os.listdir("/proc/self/fd"))
    one = FairPoller(asyncio.get_running_loop())
    with (tmp_path / "file").open("w") as file:
        with pytest.raises(PermissionError):
            one.add(file.fileno(), lambda: None)
        one.remove(file.fileno())
        one.remove(file.fileno())
    assert len(os.listdir("/proc/self/fd")) == before


def test_each_loop_has_its_own_poller_and_frees_it_at_its_end():
    async def look():
        assert fair_poller.get_fair_poller() is fair_poller.get_fair_poller()
        return weakref.ref(fair_poller.get_fair_poller())

    first, second = asyncio.run(look()), asyncio.run(look())
    gc.collect()
    assert first() is None
    assert second() is None


@pytest.mark.usefixtures("kind")
async def test_every_exit_is_noticed_with_one_callback_per_turn(logger, monkeypatch):
    monkeypatch.setattr(fair_poller, "BUDGET", 0.0)
    processes = [
        ManagedProcess(programs.runs(), f"{n}", logger, restart=TEMPORARY)
        for n in range(5)
    ]
    for one in processes:
        await one.start()
    for one in processes:
        os.kill(one.pid, signal.SIGKILL)
    for one in processes:
        await one.wait()
    assert [one.exit_status for one in processes] == [-9] * 5
