"""Responses, requests, and the recognition of the client's own items."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtalk_async.voice.events import Status
from realtalk_async.voice.protocol.conversation import OwnItems
from realtalk_async.voice.protocol.responses import RequestState, Responses


@pytest.fixture
def responses():
    return Responses(stall_after=30.0, cancel_grace=3.0)


def test_a_response_starts_once_and_ends_once(responses):
    request = responses.new_request()
    states = []
    responses.request_sent(90.0, request)
    states.append(request.state)
    response = responses.start("r1", 100.0)
    response.first_output_at = 101.0
    states.append(request.state)
    assert states == [RequestState.SENT, RequestState.ACTIVE]
    assert responses.responding
    assert responses.sent_at is None
    assert responses.get("r1") is response
    assert responses.newest == "r1"
    outcome = responses.end(response, Status.COMPLETED, "Five.", "", 102.0)
    assert request.outcome is outcome
    assert request.state is RequestState.ENDED
    times = (outcome.asked_at, outcome.first_output_at, outcome.ended_at)
    assert times == (100.0, 101.0, 102.0)
    assert outcome.completed
    assert not responses.responding
    assert responses.has_ended("r1")
    assert responses.get("r1") is None
    assert list(responses) == []


def test_a_response_has_each_item_once(responses):
    response = responses.start("r1", 0.0)
    for item_id in ("i1", "", "i2", "i1"):
        response.add_item(item_id)
    assert response.items == ["i1", "i2"]


def test_the_deadline_is_the_first_at_which_a_response_is_given_up(responses):
    assert responses.deadline is None
    responses.start("r1", 100.0)
    assert responses.deadline == 130.0
    responses.start("r2", 99.0).interrupt(105.0)
    assert responses.deadline == 108.0
    responses.request_sent(70.0)
    assert responses.deadline == responses.requested_until == 100.0


def test_an_interrupted_response_is_given_up_although_its_events_still_arrive(
    responses,
):
    response = responses.start("r1", 100.0)
    response.interrupt(105.0)
    response.event_received(107.0)
    assert responses.deadline == 108.0


def test_a_requested_response_that_never_started_has_no_id(responses):
    responses.request_sent(5.0)
    outcome = responses.end_requested(Status.STALLED, "silence", 35.0)
    assert (outcome.response_id, outcome.text, outcome.asked_at) == ("", "", 5.0)
    assert str(outcome) == "stalled (silence)"


def test_a_limited_number_of_ended_responses_is_remembered(responses):
    for number in range(1000):
        response = responses.start(str(number), 0.0)
        responses.end(response, Status.COMPLETED, "", "", 0.0)
    assert responses.has_ended("999")
    assert not responses.has_ended("0")
    assert len(responses.outcomes) == 1000


def test_a_refused_request_is_repeated_together_with_the_next(responses):
    first, second = responses.new_request(), responses.new_request()
    responses.request_sent(1.0, first)
    responses.request_refused(2.0)
    assert responses.must_repeat
    assert responses.repeats_later(2.4)
    assert not responses.repeats_later(2.5)
    responses.request_sent(2.5, second)
    assert not responses.must_repeat
    response = responses.start("r1", 3.0)
    outcome = responses.end(response, Status.COMPLETED, "Yes.", "", 4.0)
    assert first.outcome is second.outcome is outcome


def test_a_refusal_takes_the_request_back_from_the_response_that_caused_it(responses):
    request = responses.new_request()
    responses.request_sent(1.0, request)
    response = responses.start("r1", 2.0)
    responses.request_refused(3.0)
    responses.end(response, Status.COMPLETED, "", "", 4.0)
    assert request.outcome is None
    assert responses.must_repeat


def test_a_refusal_without_a_request_changes_nothing(responses):
    responses.request_refused(3.0)
    assert not responses.must_repeat


def test_items_of_the_client_are_recognised():
    """By their id, or by their text if the server assigns its own ids."""
    own_items = OwnItems()
    for item_id in ("a", "b", "c"):
        own_items.expect(item_id, "Hello" if item_id != "c" else "Bye")
    assert own_items.recognise("a", "Hello") == "a"
    assert own_items.recognise("x", "Hello") == "b"
    assert own_items.recognise("x", "whatever") == "b"
    assert own_items.known_as("x") == "b"
    assert own_items.recognise("y", "Hello") == "y"
    own_items.clear_expected()
    assert own_items.recognise("z", "Bye") == "z"
    assert own_items.known_as("z") == "z"


@settings(deadline=None)
@given(st.lists(st.sampled_from(["one", "two", "three"]), max_size=10))
def test_own_items_under_foreign_ids_map_one_to_one_in_order(texts):
    """Also if several have the same text."""
    own_items = OwnItems()
    for number, text in enumerate(texts):
        own_items.expect(f"ours{number}", text)
    known = [
        own_items.recognise(f"theirs{number}", text)
        for number, text in enumerate(texts)
    ]
    assert known == [f"ours{number}" for number in range(len(texts))]
