"""What a new connection gets of a long conversation."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.voice.protocol.conversation import (
    AnsweredCall,
    Conversation,
    Entry,
)
from realtalk_async.voice.protocol.history.limits import HistoryLimits
from realtalk_async.voice.protocol.history.replay import describe, select
from realtalk_async.voice.protocol.requests.session_config import SessionConfig
from realtalk_async.voice.protocol.session import Session


def entry(number, content="12345", role="user"):
    return Entry(role, "text", content, f"i{number}")


def call(number, arguments="{}", output="fine"):
    return AnsweredCall(f"i{number}", f"c{number}", "look", arguments, "o", output)


def ids(items):
    return [item.item_id for item in items]


def test_the_newest_items_are_replayed_in_order():
    history = [entry(number) for number in range(5)]
    replayed, older = select(history, HistoryLimits(replay_items=2))
    assert (ids(replayed), ids(older)) == (["i3", "i4"], ["i0", "i1", "i2"])


def test_the_characters_of_texts_arguments_and_outputs_count():
    history = [entry(0), call(1, "{}", "fine"), entry(2)]
    replayed, _ = select(history, HistoryLimits(replay_characters=11))
    assert ids(replayed) == ["i1", "i2"]
    replayed, _ = select(history, HistoryLimits(replay_characters=10))
    assert ids(replayed) == ["i2"]


@pytest.mark.parametrize("size", [1, 5, 20])
def test_a_newest_item_that_is_too_long_is_cut(size):
    history = [entry(0), entry(1, "x" * 50)]
    (only,), older = select(history, HistoryLimits(replay_characters=size))
    assert len(only.content) == size
    assert ids(older) == ["i0"]
    (only,), _ = select([call(0, "{}", "x" * 50)], HistoryLimits(replay_characters=20))
    assert (only.arguments, len(only.output)) == ("{}", 18)


def test_the_last_status_message_is_replayed_first_of_all():
    history = [entry(0, role="system"), *(entry(n) for n in range(1, 9))]
    replayed, _ = select(history, HistoryLimits(replay_items=3), status="i0")
    assert ids(replayed) == ["i0", "i7", "i8"]


@pytest.mark.parametrize("bound", ["replay_items", "replay_characters"])
def test_nothing_is_replayed_with_a_bound_of_zero(bound):
    replayed, older = select([entry(0), entry(1)], HistoryLimits(**{bound: 0}))
    assert (replayed, ids(older)) == ([], ["i0", "i1"])


@given(
    st.lists(st.text(max_size=20), max_size=20), st.integers(0, 9), st.integers(0, 60)
)
def test_the_bounds_hold_and_no_item_is_both_or_neither(texts, items, characters):
    history = [entry(number, text) for number, text in enumerate(texts)]
    limits = HistoryLimits(replay_items=items, replay_characters=characters)
    replayed, older = select(history, limits)
    assert len(replayed) <= items
    assert len("".join(item.content for item in replayed)) <= characters
    assert ids(older) + ids(replayed) == ids(history)


def test_one_line_counts_what_is_left_out():
    left_out = [entry(0), entry(1, role="assistant"), call(2), entry(3)]
    assert describe(left_out, 0) == (
        "The conversation began earlier: 4 older messages (2 of the user, 1 of the "
        "assistant, 1 tool calls) are not repeated here."
    )
    assert "10 older messages are not" in describe(left_out, 6)


# --- The session ------------------------------------------------------------------


def replay(session, summary=""):
    """Open a connection; return the texts of the items that it gets, and the event."""
    session.connected(2.0, 2.0, summary)
    texts = []
    while message := session.next_message(2.0):
        if item := message.get("item"):
            texts.append(item["content"][0]["text"])
    session.receive_data(b'{"type": "session.updated", "session": {}}', 2.0)
    *_, event = session.events_received()
    return texts, event


def session_with(messages, **limits):
    session = Session(SessionConfig(), history=HistoryLimits(**limits))
    session.connected(0.0, 0.0)
    session.receive_data(b'{"type": "session.updated", "session": {}}', 0.0)
    for number in range(messages):
        session.send_text(f"text {number}", "user", 1.0, trigger_response=False)
    while session.next_message(1.0):
        pass
    session.connection_lost("broken", 1.0)
    return session


def test_a_new_connection_gets_the_line_and_the_newest_and_the_event_counts_both():
    texts, event = replay(session_with(9, replay_items=2))
    assert texts[0].startswith("The conversation began earlier: 7 older messages")
    assert texts[1:] == ["text 7", "text 8"]
    assert (event.replayed, event.left_out) == (2, 7)
    assert str(event).endswith("2 messages replayed, 7 older ones summed up")


def test_the_line_is_no_part_of_the_conversation_and_is_not_replayed_itself():
    session = session_with(9, replay_items=2)
    for _ in range(3):
        texts, _event = replay(session)
        assert len(texts) == 3
        session.connection_lost("broken", 3.0)
    assert len(session.conversation.entries()) == 9


def test_a_summary_of_the_app_replaces_the_line_and_is_bounded():
    texts, _ = replay(session_with(9, replay_items=2), "They counted to seven.")
    assert texts == ["They counted to seven.", "text 7", "text 8"]
    texts, _ = replay(session_with(9, replay_items=2), "x" * 100_000)
    assert len(texts[0]) == 8_000


def test_within_the_bounds_nothing_is_summed_up():
    texts, event = replay(session_with(3), "unused")
    assert texts == ["text 0", "text 1", "text 2"]
    assert event.left_out == 0
    assert str(event).endswith("3 messages replayed")


def test_messages_that_are_not_kept_any_more_are_counted_too():
    texts, event = replay(session_with(100, kept_items=20, replay_items=5))
    assert texts[1:] == [f"text {number}" for number in range(95, 100)]
    assert (event.replayed, event.left_out) == (5, 95)


def test_only_the_last_status_message_is_replayed_however_many_were_sent():
    session = Session(SessionConfig(), history=HistoryLimits(replay_items=1))
    session.connected(0.0, 0.0)
    session.receive_data(b'{"type": "session.updated", "session": {}}', 0.0)
    for number in range(3):
        session.set_status(f"status {number}")
        for kind in ("created", "done"):
            raw = f'{{"type": "response.{kind}", "response": {{"id": "r{number}"}}}}'
            session.receive_data(raw, 0.0)
    assert len(session.conversation.entries()) == 3
    session.connection_lost("broken", 1.0)
    texts, event = replay(session)
    assert (texts, event.left_out) == (["status 2"], 0)


# --- The conversation -------------------------------------------------------------


def test_the_oldest_items_are_dropped_in_order_and_counted():
    conversation = Conversation(most=20)
    for number in range(100):
        conversation.add(f"i{number}", "user", f"i{number - 1}" if number else None)
        conversation.set_text(f"i{number}", 0, str(number))
    said = [int(entry.content) for entry in conversation.entries()]
    assert said == list(range(100 - len(said), 100))
    assert conversation.dropped == 100 - len(said)
    assert 18 <= len(said) <= 20


@given(st.lists(st.sampled_from([0, 0, 1, 3, 99]), max_size=40))
def test_dropping_keeps_the_order_of_what_is_left(backs):
    """Items name one of the last items, so that some stand between two others."""
    bounded, whole = Conversation(most=20), Conversation(most=10_000)
    names = []
    for number, back in enumerate(backs):
        previous = names[-1 - back] if len(names) > back else None
        for conversation in (bounded, whole):
            conversation.add(f"i{number}", "user", previous)
            conversation.set_text(f"i{number}", 0, str(number))
        names.append(f"i{number}")
    left = [entry.item_id for entry in bounded.entries()]
    kept = set(left)
    assert [e.item_id for e in whole.entries() if e.item_id in kept] == left


@pytest.mark.parametrize(
    "wrong",
    [
        {"replay_items": -1},
        {"replay_characters": 1.5},
        {"kept_items": 0},
        {"kept_outcomes": None},
        {"kept_events": True},
        {"summarize": "a text"},
        {"summarize_timeout": 0},
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(InvalidConfiguration, match=name):
        HistoryLimits(**wrong)
    assert name in {field.name for field in dataclasses.fields(HistoryLimits)}
