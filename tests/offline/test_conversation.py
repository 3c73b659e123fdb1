"""The conversation's items and their order."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.offline.conversation import Item, Items, decode_audio, from_client
from realtalk_async.offline.effects import (
    JsonObject,
    Message,
    Rejected,
    as_list,
    as_object,
)


def item(item_id: str, text: str = "") -> Item:
    """Return a user's message."""
    part = {"type": "input_text", "text": text}
    body = {"id": item_id, "type": "message", "role": "user", "content": [part]}
    return Item({**body})


def created(body: object) -> Item:
    """Return what a client's item becomes."""
    return from_client(body, lambda kind: f"{kind}_1")


def test_items_go_where_the_client_says():
    """At the end, at the root, or behind another."""
    items = Items()
    places = [
        items.add(item("a")),
        items.add(item("b")),
        items.add(item("first"), after="root"),
        items.add(item("c"), after="a"),
    ]
    assert places == [None, "a", None, "a"]
    assert [entry.id for entry in items] == ["first", "a", "c", "b"]
    assert items.last_id == "b"
    assert items.before("c") == "a"


def test_a_removed_item_is_gone():
    """And cannot be removed again."""
    items = Items()
    items.add(item("a"))
    items.remove("a")
    assert len(items) == 0
    with pytest.raises(Rejected, match="not found"):
        items.remove("a")


@pytest.mark.parametrize(("item_id", "after"), [("a", None), ("b", "nowhere")])
def test_a_taken_id_and_a_missing_place_are_refused(item_id, after):
    """Nothing is added."""
    items = Items()
    items.add(item("a"))
    with pytest.raises(Rejected):
        items.add(item(item_id), after=after)
    assert len(items) == 1


def test_messages_say_who_said_what():
    """Transcripts count as text; a function call says nothing, its output does."""
    items = Items()
    call: JsonObject = {"type": "function_call", "name": "f", "arguments": "{}"}
    output: JsonObject = {
        "type": "function_call_output",
        "call_id": "c",
        "output": "42",
    }
    heard = {"type": "output_audio", "transcript": "Hello."}
    said: JsonObject = {"type": "message", "role": "assistant", "content": [heard]}
    for index, body in enumerate([said, call, output]):
        items.add(created({"id": f"i{index}", **body}))
    assert items.messages() == (Message("assistant", "Hello."), Message("tool", "42"))


def test_audio_in_an_item_is_kept_apart():
    """It is not shown again with every event."""
    audio = base64.b64encode(bytes(960)).decode()
    part = {"type": "input_audio", "audio": audio}
    made = created({"type": "message", "role": "user", "content": [part]})
    assert len(made.sound) == 960
    assert made.body["content"] == [{"type": "input_audio"}]


def spoken(item_id: str, size: int) -> Item:
    """Return a user's message with that much audio."""
    part = {"type": "input_audio", "transcript": "Hello."}
    body = {"id": item_id, "type": "message", "role": "user", "content": [part]}
    return Item({**body}, sound=bytearray(size), sound_ms=size // 48)


def test_an_item_is_retrieved_with_its_audio():
    heard = spoken("a", 960)
    (part,) = map(as_object, as_list(heard.with_sound()["content"]))
    assert base64.b64decode(str(part["audio"])) == bytes(960)
    assert heard.contents == [{"type": "input_audio", "transcript": "Hello."}]
    heard.sound.clear()
    assert heard.with_sound() == heard.body
    assert item("b", "text").with_sound() == item("b", "text").body


def test_truncation_cuts_the_audio_and_drops_the_transcript():
    part = {"type": "output_audio", "transcript": "Hello."}
    body = {"id": "a", "type": "message", "role": "assistant", "content": [part]}
    said = Item({**body}, sound=bytearray(960), sound_ms=20)
    said.truncate(0, 5)
    assert (len(said.sound), said.sound_ms) == (240, 5)
    assert said.contents[0]["transcript"] is None


@given(st.lists(st.integers(0, 100)), st.integers(0, 300))
def test_only_the_newest_audio_is_kept(sizes, limit):
    """Never more than the limit, and never an older item's instead of a newer one's."""
    items = Items()
    for index, size in enumerate(sizes):
        items.add(spoken(str(index), size))
    items.keep_sound(limit)
    left = [len(entry.sound) for entry in items]
    assert sum(left) <= limit
    dropped = sum(size > kept for size, kept in zip(sizes, left, strict=True))
    kept = [index for index in range(len(sizes)) if sum(sizes[index:]) <= limit]
    assert all(left[index] == sizes[index] for index in kept)
    assert dropped <= len(sizes) - len(kept)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (None, "item.type"),
        ({"type": "thought"}, "item.type"),
        ({"type": "message", "role": "king", "content": []}, "item.role"),
        ({"type": "message", "role": "user"}, "item.content"),
        (
            {"type": "message", "role": "user", "content": [{"type": "output_text"}]},
            "item.content[0].type",
        ),
        (
            {"type": "message", "role": "system", "content": [{"type": "input_text"}]},
            "item.content[0].text",
        ),
        (
            {"type": "message", "role": "user", "content": [{"type": "input_audio"}]},
            "item.content[0].audio",
        ),
        ({"type": "function_call_output", "output": "x"}, "item.call_id"),
        ({"type": "function_call", "name": "f"}, "item.arguments"),
    ],
)
def test_what_cannot_be_an_item_is_refused(body, param):
    """With the field at fault."""
    with pytest.raises(Rejected) as caught:
        created(body)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "audio", ["***", "AAA=AA==", base64.b64encode(b"odd").decode()]
)
def test_what_is_no_audio_is_refused(audio):
    """Not base64, or half a sample."""
    with pytest.raises(Rejected, match="base64"):
        decode_audio(audio, "audio")
