from __future__ import annotations

import json
from typing import Any, TypeAlias

import pytest

from realtalk_async.offline.faults.injector import (
    Action,
    ArmedFaults,
    Close,
    Drop,
    FaultInjector,
    Send,
)
from realtalk_async.offline.faults.kinds import CLOSE_CODES, Fault

Event: TypeAlias = dict[str, Any]

DELTA: Event = {
    "type": "response.output_audio.delta",
    "event_id": "e1",
    "delta": "AAAA",
}
DONE: Event = {
    "type": "response.done",
    "event_id": "e2",
    "response": {"status": "completed"},
}
OTHER: Event = {"type": "session.updated", "event_id": "e3", "session": {}}


def injector(*texts: str) -> FaultInjector:
    """Return the injector of a connection with these faults."""
    return FaultInjector(ArmedFaults(map(Fault.parse, texts)), ArmedFaults())


def sent(actions: list[Action]) -> list[Event]:
    """Return the events that are sent."""
    return [json.loads(action.data) for action in actions if isinstance(action, Send)]


def test_without_faults_events_are_sent_unchanged():
    assert sent(injector().process(DELTA)) == [DELTA]


def test_a_fault_is_injected_at_its_event_and_only_once():
    connection = injector("drop:2")
    actions = [connection.process(event) for event in (OTHER, DELTA, DELTA, DELTA)]
    assert [action == [Drop()] for action in actions] == [False, False, True, False]


def test_a_star_counts_events_of_any_type():
    connection = injector("close-1001@*:2")
    assert sent(connection.process(OTHER)) == [OTHER]
    assert connection.process(DELTA) == [Close(1001)]


def test_after_a_stall_nothing_is_sent():
    connection = injector("stall")
    assert sent(connection.process(OTHER)) == [OTHER]
    assert connection.process(DELTA) == connection.process(OTHER) == []


def test_a_malformed_event_is_not_json():
    (action,) = injector("malformed").process(DELTA)
    assert isinstance(action, Send)
    assert action.data
    with pytest.raises(json.JSONDecodeError):
        json.loads(action.data)


def test_badbase64_changes_only_the_delta():
    (event,) = sent(injector("badbase64").process(DELTA))
    assert {**event, "delta": "AAAA"} == DELTA
    assert "*" in event["delta"]


def test_an_unknown_event_comes_before_the_event():
    unknown, event = sent(injector("unknown").process(DELTA))
    assert unknown["type"] == "peer.unknown_event"
    assert event == DELTA


def test_an_error_comes_before_the_event():
    error, event = sent(injector("error-server_error").process(DELTA))
    assert error["error"]["code"] == "server_error"
    assert event == DELTA


@pytest.mark.parametrize("code", CLOSE_CODES)
def test_some_error_codes_close_with_the_close_code_of_the_service(code):
    actions = injector(f"error-{code}").process(DELTA)
    assert sent(actions)[0]["error"]["code"] == code
    assert actions[1] == Close(CLOSE_CODES[code], code)


@pytest.mark.parametrize(
    ("text", "details"),
    [
        ("incomplete", {"type": "incomplete", "reason": "max_output_tokens"}),
        (
            "incomplete-content_filter",
            {"type": "incomplete", "reason": "content_filter"},
        ),
    ],
)
def test_an_incomplete_response_has_its_reason(text, details):
    (event,) = sent(injector(text).process(DONE))
    assert event["response"]["status"] == "incomplete"
    assert event["response"]["status_details"] == details


def test_a_failed_response_has_its_code():
    (event,) = sent(injector("failed-insufficient_quota").process(DONE))
    assert event["response"]["status"] == "failed"
    assert event["response"]["status_details"]["error"]["code"] == "insufficient_quota"


def test_missing_late_twice_and_binary_keep_the_content_of_the_event():
    assert injector("missing").process(DONE) == []
    assert sent(injector("twice").process(DONE)) == [DONE, DONE]
    (late,) = injector("late-0.25@response.done").process(DONE)
    assert isinstance(late, Send)
    assert (late.delay, json.loads(late.data)) == (0.25, DONE)
    (binary,) = injector("binary@response.done").process(DONE)
    assert isinstance(binary, Send)
    assert binary.binary


def test_beta_gives_later_events_their_names_of_before_ga():
    connection = injector("beta@session.updated")
    connection.process(OTHER)
    (event,) = sent(connection.process(DELTA))
    assert event == {**DELTA, "type": "response.audio.delta"}
    assert connection.process({"type": "conversation.item.done"}) == []
    (added,) = sent(connection.process({"type": "conversation.item.added"}))
    assert added["type"] == "conversation.item.created"


def test_a_shared_fault_is_injected_on_one_connection():
    shared = ArmedFaults()
    first, second = (
        FaultInjector(ArmedFaults(), shared),
        FaultInjector(ArmedFaults(), shared),
    )
    shared.arm(Fault.parse("drop"))
    assert first.process(DELTA) == [Drop()]
    assert sent(second.process(DELTA)) == [DELTA]


def test_a_refusal_is_taken_once():
    armed = ArmedFaults([Fault.parse("drop"), Fault.parse("refuse-429")])
    assert armed.take_refusal() == 429
    assert armed.take_refusal() is None


def test_two_faults_of_one_event_are_injected_in_their_order():
    actions = injector("twice@response.output_audio.delta", "unknown").process(DELTA)
    assert [event["type"] for event in sent(actions)] == [
        "peer.unknown_event",
        DELTA["type"],
        DELTA["type"],
    ]


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ("drop@now", [Drop()]),
        ("close-1000@now", [Close(1000)]),
        ("stall@now", []),
        ("beta@now", []),
    ],
)
def test_a_fault_is_applied_without_an_event(text, actions):
    assert injector().apply(Fault.parse(text)) == actions


def test_a_fault_applied_without_an_event_may_send_one():
    kinds = ("error-server_error", "unknown", "binary", "malformed")
    actions = [injector().apply(Fault.parse(f"{kind}@now")) for kind in kinds]
    (error,), (unknown,), (binary,), (malformed,) = actions
    assert isinstance(binary, Send)
    assert binary.binary
    assert isinstance(malformed, Send)
    assert b"peer.unknown".startswith(malformed.data[9:20])
    assert sent([error])[0]["error"]["code"] == "server_error"
    assert sent([unknown]) == sent([binary])


def test_an_applied_stall_lasts_until_the_connection_breaks():
    connection = injector()
    connection.apply(Fault.parse("stall@now"))
    assert (
        connection.process(DELTA) == connection.apply(Fault.parse("unknown@now")) == []
    )
    assert connection.apply(Fault.parse("drop@now")) == [Drop()]
