"""The conversation: order, late transcripts, truncation."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtalk_async.voice.protocol.conversation import Conversation, cut_text


def order(conversation):
    """Return the ids in the order of the conversation."""
    return [entry.item_id for entry in conversation.entries()]


def say(conversation, item_id, previous=None, role="user"):
    """Add an item whose text is its id."""
    conversation.add(item_id, role, previous)
    conversation.set_text(item_id, 0, item_id)


@pytest.mark.parametrize("arrival", list(itertools.permutations("abcd")))
def test_a_chain_of_items_is_in_order_for_any_order_of_arrival(arrival):
    """Each item names its predecessor."""
    conversation = Conversation()
    previous = {"a": None, "b": "a", "c": "b", "d": "c"}
    for item_id in arrival:
        say(conversation, item_id, previous[item_id])
    assert order(conversation) == ["a", "b", "c", "d"]


def test_an_inserted_item_follows_its_predecessor_immediately():
    conversation = Conversation()
    for item_id, previous in [("a", None), ("b", "a"), ("c", "b"), ("x", "a")]:
        say(conversation, item_id, previous)
    assert order(conversation) == ["a", "x", "b", "c"]


def test_items_without_a_predecessor_are_in_the_order_of_arrival():
    """Some servers never name a predecessor."""
    conversation = Conversation()
    for item_id in "abc":
        say(conversation, item_id)
    assert order(conversation) == ["a", "b", "c"]


def test_a_later_event_may_name_the_predecessor():
    """The first event about an item often does not name it."""
    conversation = Conversation()
    say(conversation, "b")
    say(conversation, "a")
    conversation.add("b", "user", "a")
    assert order(conversation) == ["a", "b"]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from([None, *"abcdefz"])),
        max_size=20,
    )
)
def test_no_item_is_lost_or_doubled_for_any_predecessors(links):
    """Cycles, unknown predecessors, and an item that names itself."""
    conversation = Conversation()
    for item_id, previous in links:
        say(conversation, item_id, previous)
    assert sorted(order(conversation)) == sorted({item_id for item_id, _ in links})


def test_a_late_transcript_is_at_the_place_of_its_item():
    """It arrives after the response to it."""
    conversation = Conversation()
    conversation.add("u", "user", None, medium="audio")
    conversation.add("r", "assistant", "u", medium="audio")
    conversation.append_text("r", 0, "Five.")
    assert [e.content for e in conversation.entries()] == ["Five."]
    conversation.set_text("u", 0, "Two plus three?")
    assert [str(e) for e in conversation.entries()] == [
        "User [audio]: Two plus three?",
        "Assistant [audio]: Five.",
    ]


def test_the_final_text_replaces_the_deltas():
    conversation = Conversation()
    conversation.add("r", "assistant")
    conversation.append_text("r", 0, "Hel")
    conversation.append_text("r", 0, "lo")
    conversation.append_text("r", 1, "there")
    assert conversation.text("r") == "Hello there"
    conversation.set_text("r", 0, "Hello,")
    assert conversation.text("r") == "Hello, there"


def test_an_interrupted_response_keeps_the_text_that_was_heard():
    """Later events about it change nothing."""
    conversation = Conversation()
    conversation.add("r", "assistant", medium="audio")
    conversation.set_text("r", 0, "one two three four")
    assert conversation.interrupt("r", 0.5) == "one two"
    conversation.append_text("r", 0, " five")
    conversation.set_text("r", 0, "one two three four five")
    assert conversation.interrupt("r", 0.9) == "one two"
    (entry,) = conversation.entries()
    assert (entry.content, entry.interrupted, entry.complete) == ("one two", True, True)
    assert str(entry) == "Assistant [audio]: one two [interrupted]"


@settings(deadline=None)
@given(st.text(), st.floats(0, 1))
def test_a_cut_text_is_a_prefix_that_ends_with_a_whole_word(text, fraction):
    """It is no longer than its share."""
    cut = cut_text(text, fraction)
    assert text.startswith(cut)
    assert len(cut) <= len(text) * fraction + 1
    rest = text[len(cut) :]
    assert not cut or not rest or rest[0].isspace()


@pytest.mark.parametrize(
    ("fraction", "left"),
    [(0, ""), (0.3, "one"), (0.7, "one two"), (0.95, "one two"), (1, "one two six")],
)
def test_examples_of_cut_texts(fraction, left):
    assert cut_text("one two six", fraction) == left


def test_the_followers_of_a_deleted_item_keep_their_place():
    conversation = Conversation()
    for item_id, previous in [("a", None), ("b", "a"), ("c", "b"), ("d", None)]:
        say(conversation, item_id, previous)
    conversation.delete("b")
    assert order(conversation) == ["a", "c", "d"]


def test_events_about_unknown_items_are_ignored():
    conversation = Conversation()
    conversation.set_text("x", 0, "text")
    conversation.append_text("x", 0, "text")
    conversation.finish("x")
    conversation.delete("x")
    assert conversation.interrupt("x", 0.5) == ""
    assert conversation.entries() == []
    assert len(conversation) == 0
