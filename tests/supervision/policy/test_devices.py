"""The lease table of exclusive devices, and the window for busy devices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.supervision.policy.devices import LeaseTable, RetryWindow


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["request", "release", "withdraw"]),
            st.sampled_from("abcd"),
            st.lists(st.sampled_from("xyz"), min_size=1, unique=True),
        )
    )
)
def test_no_device_has_two_holders_and_the_queue_is_in_order_of_requests(steps):
    """A request gets all of its devices or none."""
    table = LeaseTable()
    for step, name, devices in steps:
        if step == "request" and not table.is_waiting(name) and not table.held_by(name):
            table.request(name, tuple(devices))
        elif step == "release":
            table.release(name)
        elif step == "withdraw":
            table.withdraw(name)
        taken = set(table.holders)
        for waiting, wanted in table.queue.items():
            assert table.held_by(waiting) == ()
            assert table.blockers(waiting), "a waiting process has a reason"
            assert not taken.isdisjoint(wanted)
            taken |= set(wanted)
    while table.holders:
        for name in set(table.holders.values()):
            table.release(name)
    assert table.queue == {}, "in the end no request waits"


def test_the_first_request_is_granted_first():
    """Even if the later one needs fewer devices."""
    table = LeaseTable()
    assert table.request("a", ("x",))
    assert not table.request("b", ("x", "y"))
    assert not table.request("c", ("y",))
    assert table.request("a", ("x",)), "a restart keeps what it has"
    assert table.blockers("b") == {"x": "a"}
    assert table.blockers("c") == {"y": "b"}
    table.release("a")
    assert table.held_by("b") == ("x", "y")
    table.release("b")
    assert table.held_by("c") == ("y",)


def test_the_retry_window_has_growing_delays_and_an_end():
    """It begins anew when the device worked, or when the process died of another cause."""
    window = RetryWindow(10.0)
    delays, now = [], 100.0
    while again := window.retry(0.0, now, share=1.0):
        delays.append(again.delay)
        assert not again.counted
        now += again.delay
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 2.0])
    assert now - 100 >= 10
    assert window.retry(11.0, now, 0.0).delay == 0.05
    assert window.retry(0.0, now + 10, 0.0) is None
    window.reset()
    assert window.retry(0.0, now + 10, 0.0).delay == 0.05
    assert RetryWindow(0.0).retry(0.0, now, 0.0) is None
