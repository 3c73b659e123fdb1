"""The book of responses, and the echoes of our own items, by numbers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtalk_async.voice.events import Status
from realtalk_async.voice.protocol.outbox import Echoes
from realtalk_async.voice.protocol.responses import Responses


@pytest.fixture
def responses():
    """A book with round limits."""
    return Responses(stall_after=30.0, cancel_grace=3.0)


def test_a_response_begins_once_and_ends_once(responses):
    """Its outcome has its times."""
    responses.asked_at = 90.0
    response = responses.begin("r1", 100.0)
    response.first_output_at = 101.0
    assert responses.responding
    assert responses.asked_at is None
    assert responses.get("r1") is response
    assert responses.newest == "r1"
    outcome = responses.end(response, Status.COMPLETED, "Five.", "", 102.0)
    assert (outcome.asked_at, outcome.first_output_at, outcome.ended_at) == (
        *(100.0, 101.0, 102.0),
    )
    assert outcome.completed
    assert not responses.responding
    assert responses.has_ended("r1")
    assert responses.get("r1") is None
    assert list(responses) == []


def test_each_item_belongs_to_a_response_once(responses):
    """In the order of their coming."""
    response = responses.begin("r1", 0.0)
    for item_id in ("i1", "", "i2", "i1"):
        response.consists_of(item_id)
    assert response.items == ["i1", "i2"]


def test_the_deadline_is_that_of_the_first_to_be_given_up(responses):
    """Of those under way, and of the one that was asked for."""
    assert responses.deadline is None
    responses.begin("r1", 100.0)
    assert responses.deadline == 130.0
    responses.begin("r2", 99.0).interrupted_at = 105.0
    assert responses.deadline == 108.0
    responses.asked_at = 70.0
    assert responses.deadline == responses.asked_until == 100.0


def test_one_that_was_asked_for_and_never_began_has_no_id(responses):
    """And no text."""
    responses.asked_at = 5.0
    outcome = responses.end_asked(Status.STALLED, "silence", 35.0)
    assert (outcome.response_id, outcome.text, outcome.asked_at) == ("", "", 5.0)
    assert str(outcome) == "stalled (silence)"


def test_the_ended_are_remembered_for_a_while(responses):
    """Not for ever: a session has thousands."""
    for number in range(1000):
        response = responses.begin(str(number), 0.0)
        responses.end(response, Status.COMPLETED, "", "", 0.0)
    assert responses.has_ended("999")
    assert not responses.has_ended("0")
    assert len(responses.outcomes) == 1000


def test_the_app_waits_for_what_it_asked_for(responses):
    """Behind the one under way and its own earlier questions."""
    responses.begin("r1", 0.0)
    assert (responses.awaited, responses.asked_for) == (0, -1)
    responses.will_ask(questions_before=0)
    assert (responses.awaited, responses.asked_for) == (1, 1)
    responses.will_ask(questions_before=1)
    assert responses.awaited == 2
    responses.postpone(5.0, ask_again=True)
    assert responses.awaited == 3
    responses.handed_out(2)
    assert responses.awaited == 3
    responses.handed_out(3)
    assert responses.asked_for == -1


def test_our_own_items_are_known_again():
    """By their id, or by their words if the server gives ids of its own."""
    echoes = Echoes()
    for item_id in ("a", "b", "c"):
        echoes.expect(item_id, "Hello" if item_id != "c" else "Bye")
    assert echoes.recognise("a", "Hello") == "a"
    assert echoes.recognise("x", "Hello") == "b"
    assert echoes.recognise("x", "whatever") == "b"
    assert echoes.known_as("x") == "b"
    assert echoes.recognise("y", "Hello") == "y"
    echoes.expect_no_more()
    assert echoes.recognise("z", "Bye") == "z"
    assert echoes.known_as("z") == "z"


@settings(deadline=None)
@given(st.lists(st.sampled_from(["one", "two", "three"]), max_size=10))
def test_echoes_under_foreign_ids_map_one_to_one_in_order(texts):
    """However often the same is said."""
    echoes = Echoes()
    for number, text in enumerate(texts):
        echoes.expect(f"ours{number}", text)
    known = [
        echoes.recognise(f"theirs{number}", text) for number, text in enumerate(texts)
    ]
    assert known == [f"ours{number}" for number in range(len(texts))]
