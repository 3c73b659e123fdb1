"""The steps of a ladder, applied to a process group."""

import asyncio
import signal
import threading

import pytest

from realtalk_async.operating_system import ProcessInfo
from realtalk_async.supervision import CLOSE_STDIN, Ladder
from realtalk_async.supervision.lifecycle.termination import run_ladder
from realtalk_async.testing.virtual_time import VirtualTimeLoop


class FakeGroup:
    """Process group whose members each end at certain signals only."""

    owns_group = True

    def __init__(self, *respects):
        self.exited = asyncio.get_running_loop().create_future()
        self.left = dict(enumerate(respects))  # 0 is the leader
        self.received = []

    @property
    def alive(self):
        return 0 in self.left

    def signal(self, number):
        self.received.append(number)
        self.left = {n: one for n, one in self.left.items() if one != number}
        if not self.alive and not self.exited.done():
            self.exited.set_result(None)

    def close_stdin(self):
        self.signal(CLOSE_STDIN)

    def is_gone(self):
        return not self.left

    async def members(self):
        return [ProcessInfo(n, "one", "D", 0, 0, 0) for n in self.left]


@pytest.mark.parametrize(
    ("respects", "received", "survivors"),
    [
        ((), [], 0),
        ((CLOSE_STDIN,), [0], 0),
        ((signal.SIGTERM,), [0, 15], 0),
        ((signal.SIGTERM, CLOSE_STDIN), [0, 15], 0),
        # The leader ends first; the ladder goes on for the other members.
        ((CLOSE_STDIN, signal.SIGTERM), [0, 15], 0),
        ((CLOSE_STDIN, signal.SIGKILL, signal.SIGTERM), [0, 15, 9], 0),
        ((None,), [0, 15, 9], 1),
        ((CLOSE_STDIN, None, None), [0, 15, 9], 2),
    ],
)
async def test_steps_are_taken_until_the_group_is_empty(respects, received, survivors):
    """Survivors are returned with their states."""
    group, told = FakeGroup(*respects), []
    ladder = Ladder((CLOSE_STDIN, 0.01), (signal.SIGTERM, 0.01), (signal.SIGKILL, 0.01))

    def on_step(step, members):
        told.append((step.signal, members))

    left = await run_ladder(group, ladder, on_step)
    assert group.received == received == [number for number, _ in told]
    assert [members for _, members in told][:1] == [len(respects)][: len(received)]
    assert len(left) == survivors
    assert all("state D" in one for one in left)


async def test_a_step_ends_as_soon_as_the_group_is_empty():
    """Its time is a maximum."""
    group = FakeGroup(signal.SIGTERM)
    async with asyncio.timeout(120):
        assert (
            await run_ladder(group, Ladder((signal.SIGTERM, 1000)), lambda *_: None)
            == ()
        )


def test_the_effect_of_sigkill_is_awaited_in_real_time():
    """A loop of virtual time jumps over the wait; the kernel needs its time."""

    class SlowGroup(FakeGroup):
        def signal(self, number):
            threading.Timer(0.05, loop.call_soon_threadsafe, (end, self)).start()

    def end(group):
        group.left.clear()
        group.exited.set_result(None)

    async def killed():
        group = SlowGroup(signal.SIGKILL)
        return await run_ladder(group, Ladder((signal.SIGKILL, 30.0)), lambda *_: None)

    loop = VirtualTimeLoop()
    try:
        assert loop.run_until_complete(killed()) == ()
    finally:
        loop.close()
