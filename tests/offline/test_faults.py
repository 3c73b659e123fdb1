"""Faults on demand: what becomes of the events."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.offline import faults
from realtalk_async.offline.faults import Close, Drop, Fault, Faults, Send, Wire

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


def wire(*texts: str) -> Wire:
    """Return the wire of a connection with these faults."""
    return Wire(Faults(map(Fault.parse, texts)), Faults())


def sent(acts: list[faults.Act]) -> list[Event]:
    """Return the events that are sent, whole."""
    return [json.loads(act.data) for act in acts if isinstance(act, Send)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("drop", Fault("drop", "", DELTA["type"], 1)),
        ("drop:5", Fault("drop", "", DELTA["type"], 5)),
        ("close-1001:2", Fault("close", "1001", DELTA["type"], 2)),
        ("stall@session.created", Fault("stall", "", "session.created", 1)),
        ("late-1.5@response.done:3", Fault("late", "1.5", "response.done", 3)),
        (
            "error-rate_limit_exceeded@*:9",
            Fault("error", "rate_limit_exceeded", "*", 9),
        ),
        ("missing", Fault("missing", "", "response.done", 1)),
    ],
)
def test_a_fault_is_read(text, fault):
    """Kind, argument, event and count, most of them optional."""
    assert Fault.parse(text) == fault


@pytest.mark.parametrize(
    "text",
    [
        "",
        "explode",
        "drop:0",
        "drop:x",
        "close-99",
        "close-soon",
        "late-x",
        "refuse-200",
        "close-1006",
        "missing@now",
        "drop@now:2",
    ],
)
def test_what_is_no_fault_is_refused(text):
    """With the kinds there are, or the numbers that may be."""
    with pytest.raises(InvalidConfiguration):
        Fault.parse(text)


def test_every_kind_is_documented():
    """In the table at the top of the module, and in the README."""
    assert faults.__doc__ is not None
    documented = set(re.findall(r"^``([a-z0-9]+)[`\[-]", faults.__doc__, re.MULTILINE))
    assert documented == set(faults._EVENTS)
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    shown = set(re.findall(r"^\| `([a-z0-9]+)[`-]", readme, re.MULTILINE))
    assert shown >= documented
    for code in faults.FATAL:
        assert f"`{code}`" in readme


def test_without_faults_all_events_pass():
    """As they are."""
    assert sent(wire().send(DELTA)) == [DELTA]


def test_a_fault_strikes_at_its_event_only_and_once():
    """The second delta, neither the first nor the third."""
    line = wire("drop:2")
    acts = [line.send(event) for event in (OTHER, DELTA, DELTA, DELTA)]
    assert [act == [Drop()] for act in acts] == [False, False, True, False]


def test_any_event_counts_for_a_star():
    """Whatever its type."""
    line = wire("close-1001@*:2")
    assert sent(line.send(OTHER)) == [OTHER]
    assert line.send(DELTA) == [Close(1001)]


def test_after_a_stall_nothing_is_sent():
    """The event itself neither."""
    line = wire("stall")
    assert sent(line.send(OTHER)) == [OTHER]
    assert line.send(DELTA) == line.send(OTHER) == []


def test_malformed_is_no_json():
    """But it is something."""
    (act,) = wire("malformed").send(DELTA)
    assert isinstance(act, Send)
    assert act.data
    with pytest.raises(json.JSONDecodeError):
        json.loads(act.data)


def test_bad_base64_keeps_the_rest_of_the_event():
    """Only the delta is spoilt."""
    (event,) = sent(wire("badbase64").send(DELTA))
    assert {**event, "delta": "AAAA"} == DELTA
    assert "*" in event["delta"]


def test_an_unknown_event_comes_before():
    """And takes nothing away."""
    unknown, event = sent(wire("unknown").send(DELTA))
    assert unknown["type"] == "peer.unknown_event"
    assert event == DELTA


def test_an_error_leaves_the_session_alive():
    """Unless its code is fatal."""
    error, event = sent(wire("error-server_error").send(DELTA))
    assert error["error"]["code"] == "server_error"
    assert event == DELTA


@pytest.mark.parametrize("code", faults.FATAL)
def test_a_fatal_error_closes(code):
    """With the service's close code."""
    acts = wire(f"error-{code}").send(DELTA)
    assert sent(acts)[0]["error"]["code"] == code
    assert acts[1] == Close(faults.FATAL[code], code)


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
def test_an_incomplete_response_says_why(text, details):
    """In place of its success."""
    (event,) = sent(wire(text).send(DONE))
    assert event["response"]["status"] == "incomplete"
    assert event["response"]["status_details"] == details


def test_a_failed_response_has_its_code():
    """Such as no quota."""
    (event,) = sent(wire("failed-insufficient_quota").send(DONE))
    assert event["response"]["status"] == "failed"
    assert event["response"]["status_details"]["error"]["code"] == "insufficient_quota"


def test_missing_late_twice_and_binary():
    """The event itself stays as it is."""
    assert wire("missing").send(DONE) == []
    assert sent(wire("twice").send(DONE)) == [DONE, DONE]
    (late,) = wire("late-0.25@response.done").send(DONE)
    assert isinstance(late, Send)
    assert (late.delay, json.loads(late.data)) == (0.25, DONE)
    (binary,) = wire("binary@response.done").send(DONE)
    assert isinstance(binary, Send)
    assert binary.binary


def test_beta_gives_events_their_old_names():
    """From there on; what there was not is not sent."""
    line = wire("beta@session.updated")
    line.send(OTHER)
    (event,) = sent(line.send(DELTA))
    assert event == {**DELTA, "type": "response.audio.delta"}
    assert line.send({"type": "conversation.item.done"}) == []
    (added,) = sent(line.send({"type": "conversation.item.added"}))
    assert added["type"] == "conversation.item.created"


def test_an_armed_fault_of_the_peer_strikes_one_connection():
    """Whichever comes first; the next is spared."""
    shared = Faults()
    first, second = Wire(Faults(), shared), Wire(Faults(), shared)
    shared.arm(Fault.parse("drop"))
    assert first.send(DELTA) == [Drop()]
    assert sent(second.send(DELTA)) == [DELTA]


def test_a_refusal_is_taken_once():
    """The status, then nothing."""
    armed = Faults([Fault.parse("drop"), Fault.parse("refuse-429")])
    assert armed.take_refusal() == 429
    assert armed.take_refusal() is None


def test_two_faults_may_strike_at_once():
    """One after the other, in the order they were given."""
    acts = wire("twice@response.output_audio.delta", "unknown").send(DELTA)
    assert [event["type"] for event in sent(acts)] == [
        "peer.unknown_event",
        DELTA["type"],
        DELTA["type"],
    ]


@pytest.mark.parametrize(
    ("text", "acts"),
    [
        ("drop@now", [Drop()]),
        ("close-1000@now", [Close(1000)]),
        ("stall@now", []),
        ("beta@now", []),
    ],
)
def test_a_fault_may_strike_now(text, acts):
    """Without any event."""
    assert wire().strike(Fault.parse(text)) == acts


def test_a_fault_that_strikes_now_may_have_something_to_send():
    """An error, an event that nobody knows, or that one spoilt."""
    kinds = ("error-server_error", "unknown", "binary", "malformed")
    acts = [wire().strike(Fault.parse(f"{kind}@now")) for kind in kinds]
    (error,), (unknown,), (binary,), (malformed,) = acts
    assert isinstance(binary, Send)
    assert binary.binary
    assert isinstance(malformed, Send)
    assert b"peer.unknown".startswith(malformed.data[9:20])
    assert sent([error])[0]["error"]["code"] == "server_error"
    assert sent([unknown]) == sent([binary])


def test_a_stall_now_lasts():
    """For all that is sent; the connection can break all the same."""
    line = wire()
    line.strike(Fault.parse("stall@now"))
    assert line.send(DELTA) == line.strike(Fault.parse("unknown@now")) == []
    assert line.strike(Fault.parse("drop@now")) == [Drop()]
