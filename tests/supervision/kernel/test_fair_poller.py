"""One coroutine handles many descriptors in turns."""

import asyncio
import errno
import gc
import itertools
import os
import select
import signal
import time
import weakref
from functools import partial

import pytest

from realtalk_async.operating_system import SYSTEM
from realtalk_async.operating_system.poll import PollReadiness
from realtalk_async.supervision import TEMPORARY, ManagedProcess
from realtalk_async.supervision.kernel import fair_poller
from realtalk_async.supervision.kernel.fair_poller import FairPoller
from realtalk_async.testing import programs

pytestmark = pytest.mark.timeout(20)


@pytest.fixture(params=["epoll", "no epoll"])
def kind(request, monkeypatch):
    """With what Linux has, and as where there is nothing of the kind."""
    if request.param == "no epoll":
        monkeypatch.setattr(SYSTEM, "make_readiness", PollReadiness)
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


def make_poller(**options):
    return FairPoller(asyncio.get_running_loop(), "poller", **options)


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.usefixtures("kind")
async def test_a_handler_is_called_while_its_descriptor_is_readable(pipes):
    poller, calls = make_poller(), []
    poller.add(pipes[0], lambda: calls.append(True), print)
    while len(calls) < 3:
        await asyncio.sleep(0)
    poller.remove(pipes[0])
    await asyncio.sleep(0)  # the loop itself may have been about to call
    count = len(calls)
    await turns(3)
    assert len(calls) == count


@pytest.mark.parametrize("limit", [{"seconds": 0.0}, {"most": 1}])
async def test_descriptors_without_time_in_one_turn_are_first_in_the_next(pipes, limit):
    poller, calls = make_poller(**limit), []
    for number, descriptor in enumerate(pipes):
        poller.add(descriptor, partial(calls.append, number), print)
    while len(calls) < 20:
        before = len(calls)
        await asyncio.sleep(0)
        assert len(calls) <= before + 1
    for start in range(0, 20, 5):
        assert sorted(calls[start : start + 5]) == list(range(5))
    for descriptor in pipes:
        poller.remove(descriptor)


@pytest.mark.usefixtures("kind")
async def test_an_error_of_a_handler_is_told_to_its_owner_only(pipes):
    poller, calls, errors = make_poller(), [], []

    def fail():
        raise ZeroDivisionError

    poller.add(pipes[0], fail, errors.append)
    poller.add(pipes[1], lambda: calls.append(True), print)
    while len(calls) < 5:
        await asyncio.sleep(0)
    assert [type(error) for error in errors] == [ZeroDivisionError]
    for descriptor in pipes[:2]:
        poller.remove(descriptor)


async def test_a_handler_that_returns_true_is_called_again_after_a_delay(pipes):
    poller, times = make_poller(), []

    def handle():
        times.append(time.monotonic())
        return len(times) % 3 != 0

    poller.add(pipes[0], handle, print)
    while len(times) < 9:
        await asyncio.sleep(0)
    poller.remove(pipes[0])
    pauses = [after - before for before, after in itertools.pairwise(times)]
    delayed = [pause for number, pause in enumerate(pauses, 1) if number % 3]
    assert min(delayed) >= fair_poller.BATCH_DELAY


async def test_a_delayed_descriptor_can_be_removed_and_delays_no_other(pipes):
    poller, calls = make_poller(), []
    poller.add(pipes[0], lambda: True, print)
    await turns(5)
    os.read(pipes[1], 1)
    poller.add(pipes[1], lambda: calls.append(True), print)
    poller.remove(pipes[0])
    await turns(5)
    assert not calls
    poller.remove(pipes[1])


async def test_a_handler_may_remove_all_descriptors(pipes):
    before = len(SYSTEM.descriptors())
    poller, calls = make_poller(), []

    def remove_all():
        calls.append(True)
        for descriptor in pipes:
            poller.remove(descriptor)

    for descriptor in pipes:
        poller.add(descriptor, remove_all, print)
    while not calls:
        await asyncio.sleep(0)
    await turns(3)
    assert len(calls) == 1
    assert len(SYSTEM.descriptors()) == before


async def test_a_descriptor_that_cannot_be_watched_leaves_nothing(tmp_path):
    before = len(SYSTEM.descriptors())
    poller = make_poller()
    with (tmp_path / "file").open("w") as file:
        with pytest.raises(PermissionError):
            poller.add(file.fileno(), lambda: None, print)
        poller.remove(file.fileno())
        poller.remove(file.fileno())
    assert len(SYSTEM.descriptors()) == before


@pytest.fixture
def refusing(monkeypatch):
    """A list: while it is not empty, epoll watches no further descriptor."""
    refused, real = [], select.epoll

    class Epoll:
        def __init__(self):
            if "creation" in refused:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            self._real = real()

        def register(self, *arguments):
            if refused:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._real.register(*arguments)

        def __getattr__(self, name):
            return getattr(self._real, name)

    monkeypatch.setattr(select, "epoll", Epoll)
    return refused


async def test_a_delayed_descriptor_that_epoll_refuses_stays_delayed(pipes, refusing):
    """Neither its owner nor that of another descriptor is told an error."""
    poller, calls, others, errors = make_poller(), [], [], []

    def handle():
        calls.append(True)
        return len(calls) == 3

    poller.add(pipes[0], handle, errors.append)
    poller.add(pipes[1], lambda: others.append(True), errors.append)
    while len(calls) < 3:
        await asyncio.sleep(0)
    refusing.append("registration")
    for count in (6, 9):
        others.clear()
        while len(calls) < count or not others:
            await asyncio.sleep(0)
        refusing.clear()
    assert not errors
    for descriptor in pipes[:2]:
        poller.remove(descriptor)


@pytest.mark.parametrize("what", ["registration", "creation"])
async def test_a_descriptor_that_is_watched_again_is_handled_at_once_or_by_time(
    what, pipes, refusing
):
    before = len(SYSTEM.descriptors())
    poller, calls = make_poller(), []
    refusing.append(what)
    poller.add_again(pipes[0], lambda: calls.append(True), print)
    for count in (3, 6):
        while len(calls) < count:
            await asyncio.sleep(0)
        refusing.clear()
    poller.remove(pipes[0])
    await turns(3)
    assert len(SYSTEM.descriptors()) == before


async def test_an_epoll_that_the_loop_refuses_is_made_again(pipes, monkeypatch):
    """Otherwise nothing would report what is added to it later."""
    poller, calls, loop = make_poller(), [], asyncio.get_running_loop()

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(loop, "add_reader", refuse)
        poller.add(pipes[0], print, print)
    poller.add(pipes[0], lambda: calls.append(True), print)
    while not calls:
        await asyncio.sleep(0)
    poller.remove(pipes[0])


async def test_code_that_cancels_all_tasks_does_not_stop_the_poller(pipes):
    poller, calls = make_poller(), []
    poller.add(pipes[0], lambda: calls.append(True), print)
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if task.get_name() == "poller":
            task.cancel()
    await turns(3)
    calls.clear()
    while not calls:
        await asyncio.sleep(0)
    poller.remove(pipes[0])
    await turns(3)


def test_each_loop_has_its_own_pollers_which_go_with_it():
    async def get():
        assert fair_poller.get_pollers() is fair_poller.get_pollers()
        return weakref.ref(fair_poller.get_pollers().output)

    first, second = asyncio.run(get()), asyncio.run(get())
    gc.collect()
    assert first() is None
    assert second() is None


@pytest.mark.usefixtures("kind")
async def test_exits_that_wait_for_the_next_turn_are_all_noticed(logger, monkeypatch):
    monkeypatch.setattr(fair_poller, "EXITS", 1)
    fair_poller._pollers.clear()
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
