"""Which deaths are one incident, and what that changes in the restarts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.supervision.policy.incidents import (
    LONGEST_SPREAD,
    SAME_MOMENT,
    STEP,
    Death,
    Incidents,
)

SERVER = Death("failed", 1, "no sound server: start it", "Connection refused")


def die(incidents, now, name, death=SERVER):
    return incidents.add(now, name, death, new_id=f"{name}@{now}", what="x")


def test_different_processes_that_die_of_the_same_thing_are_one_incident():
    incidents = Incidents()
    first = die(incidents, 10.0, "a")
    assert die(incidents, 10.4, "b") is first
    assert die(incidents, 11.0, "c") is first
    assert first.id == "a@10.0"
    assert first.names == ["a", "b", "c"]
    assert first.is_notable
    assert first.seconds == pytest.approx(1.0)
    assert str(first) == "3 processes failed for the same reason within 1.00 s: x"


def test_two_deaths_are_told_one_by_one():
    incidents = Incidents()
    die(incidents, 10.0, "a")
    assert not die(incidents, 10.1, "b").is_notable


def test_a_later_death_is_another_incident():
    incidents = Incidents()
    first = die(incidents, 10.0, "a")
    assert die(incidents, 10.0 + SAME_MOMENT + 0.01, "b") is not first


def test_the_second_death_of_a_process_begins_another_incident():
    incidents = Incidents()
    first = die(incidents, 10.0, "a")
    die(incidents, 10.1, "b")
    again = die(incidents, 10.2, "a")
    assert again is not first
    assert die(incidents, 10.3, "b") is again
    assert incidents.of("b") is again


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Death("failed", 1), Death("failed", 1), True),
        (Death("failed", 1), Death("failed", 2), False),
        (Death("signalled", -9), Death("signalled", -9), True),
        (Death("signalled", -9), Death("signalled", -11), False),
        (Death("failed", 1, "", "no port"), Death("failed", 1, "", "no file"), False),
        (
            Death("failed", 1, "", "[pid 17] lost host"),
            Death("failed", 1, "", "[pid 4242] lost host"),
            True,
        ),
        # A recognised failure is the same whatever the programs make of it.
        (
            Death("failed", 1, "no sound server"),
            Death("failed", 2, "no sound server"),
            True,
        ),
        (
            Death("failed", 1, "no sound server"),
            Death("failed", 1, "device busy"),
            False,
        ),
    ],
)
def test_the_same_thing_is_the_same_sign_or_the_same_status_and_words(one, other, same):
    incidents = Incidents()
    first = die(incidents, 1.0, "a", one)
    assert (die(incidents, 1.1, "b", other) is first) is same


def test_a_death_alone_belongs_to_no_incident():
    incidents = Incidents()
    die(incidents, 1.0, "a")
    assert incidents.of("a") is None
    assert incidents.of("unknown") is None
    assert incidents.decide_restart("a") == (True, 0.0)


def test_of_one_incident_one_restart_counts_and_the_restarts_have_turns():
    incidents = Incidents()
    for name in "abcd":
        die(incidents, 1.0, name)
    # The order of the decisions is that of the drained pipes.
    decided = {name: incidents.decide_restart(name) for name in "bacd"}
    assert [counts for counts, _ in decided.values()] == [True, False, False, False]
    turns = {name: delay for name, (_, delay) in decided.items()}
    assert turns == pytest.approx({"a": 0, "b": STEP, "c": 2 * STEP, "d": 3 * STEP})


def test_a_restart_that_follows_no_death_counts():
    """After a start that the system refused, the last death is not the reason."""
    incidents = Incidents()
    for name in "ab":
        die(incidents, 1.0, name)
        incidents.decide_restart(name)
    assert incidents.decide_restart("b") == (True, 0.0)


def test_a_single_process_that_dies_again_and_again_counts_each_time():
    incidents = Incidents()
    for number in range(5):
        die(incidents, 1.0 + number / 10, "a")
        assert incidents.decide_restart("a") == (True, 0.0)


def test_a_name_that_is_registered_anew_has_no_incident():
    incidents = Incidents()
    die(incidents, 1.0, "a")
    die(incidents, 1.0, "b")
    incidents.forget("b")
    assert incidents.of("b") is None
    assert incidents.of("a") is not None


@given(
    st.lists(
        st.tuples(st.floats(0, 0.3), st.sampled_from("abcdef"), st.integers(1, 2)),
        max_size=40,
    )
)
def test_an_incident_is_of_different_processes_within_a_moment(deaths):
    incidents, now, found = Incidents(), 0.0, {}
    for wait, name, status in deaths:
        now += wait
        incident = die(incidents, now, name, Death("failed", status))
        found[id(incident)] = incident
        _, delay = incidents.decide_restart(name)
        assert 0 <= delay < LONGEST_SPREAD
    assert sum(len(one.names) for one in found.values()) == len(deaths)
    for one in found.values():
        assert len(set(one.names)) == len(one.names)
        assert one.seconds <= SAME_MOMENT


def test_the_memory_is_bounded_by_the_number_of_processes():
    incidents = Incidents()
    for number in range(1000):
        die(incidents, float(number * 2), "abc"[number % 3], Death("failed", number))
    assert len(incidents._open) == 1
    assert len(incidents._last) == 3
