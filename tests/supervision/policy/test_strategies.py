"""Dependencies and start turns: which process waits for which, without a deadlock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision.policy.strategies import StartOrder

NAMES = "abcde"


def test_indirect_dependencies_are_found_and_a_cycle_is_refused():
    """The error names the two processes that would close the cycle."""
    order = StartOrder()
    order.set_dependencies("b", ("a",))
    order.set_dependencies("c", ("b",))
    assert order.needs("c") == ("b",)
    assert order.all_needs("c") == {"a", "b"}
    for name, need in (("a", "c"), ("a", "a")):
        with pytest.raises(InvalidConfiguration, match=f"'{name}' cannot depend"):
            order.reject_cycles(name, (need,))
    order.reject_cycles("d", ("a", "c"))


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=12),
    st.permutations(NAMES),
)
def test_turns_never_form_a_cycle(wishes, present):
    """For any dependencies and any sets of processes that are restarted together."""
    order = StartOrder()
    for name, need in wishes:
        needs = (*order.needs(name), need)
        try:
            order.reject_cycles(name, needs)
        except InvalidConfiguration:
            continue
        order.set_dependencies(name, needs)
    order.set_restart_order(order.arrange(present))
    waits = {
        name: {*order.needs(name), order.take_turn(name, present)} - {None}
        for name in present
    }
    while free := [
        name
        for name, wait_for_dependencies in waits.items()
        if not wait_for_dependencies
    ]:
        for name in free:
            del waits[name]
            for wait_for_dependencies in waits.values():
                wait_for_dependencies.discard(name)
    assert waits == {}


def test_each_process_comes_after_its_dependencies():
    """Also if a dependency was registered again, and so later; the rest keeps its order."""
    order = StartOrder()
    order.set_dependencies("b", ("a",))
    order.set_dependencies("c", ("b",))
    assert order.arrange("dabc") == ["d", "a", "b", "c"]
    assert order.arrange("bcda") == ["a", "b", "c", "d"]
    assert order.arrange("cda") == ["a", "c", "d"], (
        "by way of one that is not asked for"
    )


def test_only_later_processes_wait_for_a_turn_and_only_once():
    """No process waits for a later process that reuses the name."""
    order = StartOrder()
    order.set_restart_order(["a", "b", "c"])
    order.cancel_turn("c")
    assert order.take_turn("b", ["a", "b"]) == "a"
    assert order.take_turn("b", ["a", "b"]) is None
    assert order.take_turn("c", ["a", "b", "c"]) is None
    order.set_restart_order(["a", "b"])
    assert order.take_turn("b", ["b", "a"]) is None
