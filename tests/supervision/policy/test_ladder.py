"""Ladders: the steps that end a process."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision import CLOSE_STDIN, GRACEFUL, SWIFT, Ladder
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


def test_the_name_of_a_step_is_that_of_its_signal_or_its_number():
    assert str(Step(35, 1.0)) == "signal 35"
