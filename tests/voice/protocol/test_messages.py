"""Messages of the protocol: parsing server events, building client events."""

import base64

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.realtime import RealtimeClientEvent
from pydantic import TypeAdapter

from realtalk_async.voice.protocol import messages
from realtalk_async.voice.protocol.messages import (
    Malformed,
    ServerEvent,
)
from realtalk_async.voice.protocol.requests.session_config import (
    SemanticVad,
    ServerVad,
    SessionConfig,
    session_update,
)

OFFICIAL = TypeAdapter[object](RealtimeClientEvent)

MESSAGES = [
    session_update(SessionConfig()),
    session_update(SessionConfig(turn_detection=SemanticVad())),
    session_update(SessionConfig(turn_detection=None, transcription=None)),
    session_update(SessionConfig(modality="text", instructions="Be brief.")),
    messages.append_audio(bytes(960)),
    messages.commit_audio(),
    messages.clear_audio(),
    messages.create_item("item_1", "user", "Hello"),
    messages.create_item("item_2", "assistant", "Hello"),
    messages.create_item("item_3", "system", "It is noon."),
    messages.truncate_item("item_4", 0, 1200),
    messages.create_response(),
    messages.cancel_response("resp_1"),
]


def official(message):
    """Return *message* as the official SDK parses it."""
    return OFFICIAL.validate_json(messages.encode({**message, "event_id": "evt_1"}))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m["type"])
def test_the_official_sdk_parses_every_message_unchanged(message):
    read = official(message)
    assert read.type == message["type"]
    assert read.to_dict(mode="json") == {**message, "event_id": "evt_1"}


def test_the_session_has_its_type_and_both_formats_with_their_rate():
    """A wrong guess of the server would garble all audio."""
    session = session_update(SessionConfig())["session"]
    pcm = {"type": "audio/pcm", "rate": 24000}
    assert session["type"] == "realtime"
    assert session["audio"]["input"]["format"] == pcm
    assert session["audio"]["output"]["format"] == pcm
    assert session["audio"]["input"]["turn_detection"] == ServerVad().to_message()
    assert session["audio"]["input"]["transcription"] == {"model": "gpt-transcribe"}
    assert session["audio"]["output"]["voice"] == "marin"


def test_push_to_talk_is_an_explicit_null():
    """Without the field the service would keep its turn detection."""
    session = SessionConfig(turn_detection=None).to_message()
    assert (
        orjson.loads(orjson.dumps(session))["audio"]["input"]["turn_detection"] is None
    )


@pytest.mark.parametrize(
    ("beta", "ga"),
    [
        ("response.audio.delta", "response.output_audio.delta"),
        ("response.audio_transcript.done", "response.output_audio_transcript.done"),
        ("response.text.delta", "response.output_text.delta"),
        ("conversation.item.created", "conversation.item.added"),
        ("response.done", "response.done"),
    ],
)
def test_beta_names_are_read_as_ga_names(beta, ga):
    """Azure and other servers still use them."""
    event = messages.parse(orjson.dumps({"type": beta, "delta": "x"}))
    assert event.type == ga
    assert event.data["type"] == beta


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"1", b"null", b"{}", b'{"type": 5}', b"\xff", '{"type":""}'],
)
def test_a_frame_that_is_no_event_is_malformed(raw):
    with pytest.raises(Malformed):
        messages.parse(raw)


@settings(deadline=None)
@given(st.binary())
def test_parsing_raises_no_other_exception(raw):
    try:
        event = messages.parse(raw)
    except Malformed:
        return
    assert event.type


def test_fields_of_the_wrong_type_read_as_absent():
    """So that no event can break the session."""
    event = ServerEvent("x", {"a": {"b": 5, "flag": True}, "list": [{}, 1], "s": "t"})
    assert event.text("a", "b") == ""
    assert event.text("s", "deeper") == ""
    assert event.number("a", "b") == 5
    assert event.number("a", "flag") is None
    assert event.number("s") is None
    assert event.objects("list") == [{}]
    assert event.objects("s") == []
    assert event.within("s").data == {}
    assert event.within("a").number("b") == 5


@settings(deadline=None)
@given(st.binary())
def test_audio_survives_base64_unchanged(pcm):
    message = messages.append_audio(pcm)
    assert messages.decode_audio(str(message["audio"])) == pcm


@pytest.mark.parametrize("text", ["%%%", "A", "AAA", "ÄÖ", "AA AA"])
def test_bad_base64_is_malformed(text):
    with pytest.raises(Malformed):
        messages.decode_audio(text)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(), max_size=20))
def test_any_text_can_be_sent(text):
    """JSON cannot contain lone surrogates, so they become "?"."""
    raw = messages.encode(messages.create_item("item_1", "user", text))
    sent = orjson.loads(raw)["item"]["content"][0]["text"]
    assert sent == text.encode(errors="replace").decode()
    assert base64.b64encode(raw)  # bytes, not text
