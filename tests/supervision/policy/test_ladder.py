"""The steps that end a process: as data, and applied to a group."""

import asyncio
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision import CLOSE_STDIN, GRACEFUL, SWIFT, Ladder
from realtalk_async.supervision.kernel.process_groups import ProcessInfo
from realtalk_async.supervision.lifecycle.termination import run_ladder
from realtalk_async.supervision.policy.ladder import Step

steps = st.lists(
    st.tuples(
        st.sampled_from([CLOSE_STDIN, *sorted(signal.valid_signals())]),
        st.floats(0, 100),
    ),
    max_size=5,
)


@given(steps)
def test_every_ladder_ends_with_sigkill_and_keeps_its_other_steps(given_steps):
    ladder = Ladder(*given_steps)
    assert ladder.steps[-1].signal == signal.SIGKILL
    pairs = [(step.signal, step.wait) for step in ladder.steps]
    assert pairs[: len(given_steps)] == given_steps
    assert len(pairs) - len(given_steps) <= 1
    assert ladder.longest == sum(step.wait for step in ladder.steps)
    assert ladder == Ladder(*pairs)
    assert hash(ladder) == hash(Ladder(*pairs))


def test_the_text_of_a_ladder_lists_its_steps():
    ladder = Ladder((CLOSE_STDIN, 0.5), (signal.SIGTERM, 2))
    assert repr(ladder) == "close stdin 0.5 s → SIGTERM 2 s → SIGKILL 1 s"
    assert GRACEFUL.longest == 7.0
    assert SWIFT.longest == 1.5
    assert GRACEFUL != SWIFT
    assert GRACEFUL != "SIGTERM"


@pytest.mark.parametrize(
    "step", [(1000, 1.0), (-3, 1.0), (signal.SIGTERM, -1.0), (15, float("nan"))]
)
def test_an_invalid_step_is_refused(step):
    with pytest.raises(InvalidConfiguration):
        Ladder(step)


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


def test_the_name_of_a_step_is_that_of_its_signal_or_its_number():
    assert str(Step(int(signal.SIGRTMIN) + 1, 1.0)) == "signal 35"
