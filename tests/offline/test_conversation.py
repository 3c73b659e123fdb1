from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.offline.conversation import (
    Conversation,
    Item,
    decode_audio,
    item_from_client,
)
from realtalk_async.offline.effects import (
    InvalidRequest,
    JsonObject,
    Message,
    as_list,
    as_object,
)


def item(item_id: str, text: str = "") -> Item:
    """Return a user's message."""
    part = {"type": "input_text", "text": text}
    body = {"id": item_id, "type": "message", "role": "user", "content": [part]}
    return Item({**body})


def created(body: object) -> Item:
    """Return the item that the conversation creates from a client's item."""
    return item_from_client(body, lambda kind: f"{kind}_1")


def test_items_are_inserted_at_the_end_the_root_or_behind_another():
    conversation = Conversation()
    places = [
        conversation.add(item("a")),
        conversation.add(item("b")),
        conversation.add(item("first"), after="root"),
        conversation.add(item("c"), after="a"),
    ]
    assert places == [None, "a", None, "a"]
    assert [entry.id for entry in conversation] == ["first", "a", "c", "b"]
    assert conversation.last_id == "b"
    assert conversation.previous_id("c") == "a"


def test_an_item_is_removed_once():
    conversation = Conversation()
    conversation.add(item("a"))
    conversation.remove("a")
    assert len(conversation) == 0
    with pytest.raises(InvalidRequest, match="not found"):
        conversation.remove("a")


@pytest.mark.parametrize(("item_id", "after"), [("a", None), ("b", "nowhere")])
def test_a_taken_id_and_an_unknown_previous_item_are_refused(item_id, after):
    conversation = Conversation()
    conversation.add(item("a"))
    with pytest.raises(InvalidRequest):
        conversation.add(item(item_id), after=after)
    assert len(conversation) == 1


def test_transcripts_and_function_outputs_are_messages_and_function_calls_are_not():
    conversation = Conversation()
    call: JsonObject = {"type": "function_call", "name": "f", "arguments": "{}"}
    output: JsonObject = {
        "type": "function_call_output",
        "call_id": "c",
        "output": "42",
    }
    part = {"type": "output_audio", "transcript": "Hello."}
    said: JsonObject = {"type": "message", "role": "assistant", "content": [part]}
    for index, body in enumerate([said, call, output]):
        conversation.add(created({"id": f"i{index}", **body}))
    assert conversation.messages() == (
        Message("assistant", "Hello."),
        Message("tool", "42"),
    )


def test_the_audio_of_an_item_is_not_in_its_body():
    audio = base64.b64encode(bytes(960)).decode()
    part = {"type": "input_audio", "audio": audio}
    made = created({"type": "message", "role": "user", "content": [part]})
    assert len(made.audio) == 960
    assert made.body["content"] == [{"type": "input_audio"}]


def spoken(item_id: str, size: int) -> Item:
    """Return a user's message with that much audio."""
    part = {"type": "input_audio", "transcript": "Hello."}
    body = {"id": item_id, "type": "message", "role": "user", "content": [part]}
    return Item({**body}, audio=bytearray(size), audio_ms=size // 48)


def test_an_item_is_retrieved_with_its_audio():
    message = spoken("a", 960)
    (part,) = map(as_object, as_list(message.with_audio()["content"]))
    assert base64.b64decode(str(part["audio"])) == bytes(960)
    assert message.contents == [{"type": "input_audio", "transcript": "Hello."}]
    message.audio.clear()
    assert message.with_audio() == message.body
    assert item("b", "text").with_audio() == item("b", "text").body


def test_truncation_cuts_the_audio_and_drops_the_transcript():
    part = {"type": "output_audio", "transcript": "Hello."}
    body = {"id": "a", "type": "message", "role": "assistant", "content": [part]}
    said = Item({**body}, audio=bytearray(960), audio_ms=20)
    said.truncate(0, 5)
    assert (len(said.audio), said.audio_ms) == (240, 5)
    assert said.contents[0]["transcript"] is None


@given(st.lists(st.integers(0, 100)), st.integers(0, 300))
def test_only_the_newest_audio_is_kept(sizes, limit):
    conversation = Conversation()
    for index, size in enumerate(sizes):
        conversation.add(spoken(str(index), size))
    conversation.limit_audio(limit)
    left = [len(entry.audio) for entry in conversation]
    assert sum(left) <= limit
    dropped = sum(size > kept for size, kept in zip(sizes, left, strict=True))
    kept = [index for index in range(len(sizes)) if sum(sizes[index:]) <= limit]
    assert all(left[index] == sizes[index] for index in kept)
    assert dropped <= len(sizes) - len(kept)


GIF = {"type": "input_image", "image_url": "data:image/gif;base64,AAAA"}


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
        (
            {"type": "message", "role": "user", "content": [GIF]},
            "item.content[0].image_url",
        ),
        ({"type": "function_call_output", "output": "x"}, "item.call_id"),
        ({"type": "function_call", "name": "f"}, "item.arguments"),
    ],
)
def test_an_invalid_item_is_refused_with_its_field(body, param):
    with pytest.raises(InvalidRequest) as caught:
        created(body)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "audio", ["***", "AAA=AA==", base64.b64encode(b"odd").decode()]
)
def test_invalid_base64_and_half_samples_are_refused(audio):
    with pytest.raises(InvalidRequest, match="base64"):
        decode_audio(audio, "audio")
