"""Many descriptors behind one: they take turns, and none is forgotten."""

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
    """With what Linux has, and as where there is nothing of the kind."""
    if request.param == "no epoll":
        monkeypatch.delattr(select, "epoll")
    return request.param


@pytest.fixture
def pipes():
    """Five pipes in which a byte waits."""
    made = [os.pipe() for _ in range(5)]
    for _, writing in made:
        os.write(writing, b"x")
    yield [reading for reading, _ in made]
    for both in made:
        for end in both:
            os.close(end)


@pytest.mark.usefixtures("kind")
async def test_one_is_called_as_long_as_it_is_readable(pipes):
    """And no more once it was removed."""
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


async def test_those_without_time_in_one_turn_are_first_in_the_next(pipes, monkeypatch):
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


async def test_a_call_that_fails_keeps_nobody_waiting(pipes):
    """It is its own trouble."""
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


async def test_what_is_watched_may_be_removed_by_another(pipes):
    """As a death closes its pipes; with the last one, the watch itself is gone."""
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


async def test_what_cannot_be_watched_leaves_nothing(tmp_path):
    """A file, for example; the others go on."""
    before = len(os.listdir("/proc/self/fd"))
    one = FairPoller(asyncio.get_running_loop())
    with (tmp_path / "file").open("w") as file:
        with pytest.raises(PermissionError):
            one.add(file.fileno(), lambda: None)
        one.remove(file.fileno())
        one.remove(file.fileno())
    assert len(os.listdir("/proc/self/fd")) == before


def test_each_loop_has_a_watch_of_its_own_and_takes_it_along():
    """Nothing is kept of a loop that is gone."""

    async def look():
        assert fair_poller.get_fair_poller() is fair_poller.get_fair_poller()
        return weakref.ref(fair_poller.get_fair_poller())

    first, second = asyncio.run(look()), asyncio.run(look())
    gc.collect()
    assert first() is None
    assert second() is None


@pytest.mark.usefixtures("kind")
async def test_deaths_that_must_wait_for_the_next_turn_are_all_seen(
    logger, monkeypatch
):
    """Without any time only one a turn is; none is forgotten."""
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
