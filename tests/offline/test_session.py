from __future__ import annotations

import base64
import itertools
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter

from realtalk_async.offline.answers.policy import choose_answer
from realtalk_async.offline.effects import (
    FRAME_BYTES,
    DetectVoice,
    Effect,
    FeedRecogniser,
    FindAnswer,
    Message,
    Recognise,
    ResetRecogniser,
    SendEvent,
    Transcribe,
)
from realtalk_async.offline.faults.injector import ArmedFaults, FaultInjector, Send
from realtalk_async.offline.faults.kinds import CLOSE_CODES, Fault
from realtalk_async.offline.input_buffer import LONGEST_UTTERANCE_MS
from realtalk_async.offline.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

Event: TypeAlias = dict[str, Any]

OFFICIAL: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
SECOND = bytes(48_000)


NOT_IN_THE_SDK = {".session.object", ".session.id", ".session.expires_at"}
"""Fields that the service sends and the SDK's type of a session lacks."""


class Client:
    """Executes effects like `Connection`, and validates each event with the SDK."""

    def __init__(self, **session: object) -> None:
        numbers = itertools.count(1)
        self.session = Session(
            model="m",
            session_id="sess_1",
            new_id=lambda kind: f"{kind}_{next(numbers)}",
            expires_at=9,
        )
        self.events: list[Event] = []
        self.answer_requests: list[FindAnswer] = []
        self.to_recognise: list[str] = []
        self.fed_bytes = 0
        self.do(self.session.opened())
        if session:
            self.send("session.update", session={"type": "realtime", **session})

    def send(self, kind: str, **fields: object) -> list[Event]:
        """Send a client event; return the server events."""
        return self.do(
            self.session.receive({"type": kind, "event_id": "evt", **fields})
        )

    def append(self, pcm: bytes, *, voiced: bool = False) -> list[Event]:
        """Send audio; *voiced* is the decision of voice detection."""
        seen = len(self.events)
        audio = base64.b64encode(pcm).decode()
        event: Event = {"type": "input_audio_buffer.append", "audio": audio}
        for effect in self.session.receive(event):
            if isinstance(effect, DetectVoice):
                frames = len(effect.pcm) // FRAME_BYTES
                self.do(self.session.voice_detected(effect.pcm, [voiced] * frames))
            else:
                self.do([effect])
        return self.events[seen:]

    def speak_turn(self) -> list[Event]:
        """Send a second of speech and the silence that ends it."""
        return self.append(SECOND, voiced=True) + self.append(SECOND)

    def recognise(self, text: str) -> list[Event]:
        """Recognise the oldest item that waits for it."""
        return self.do(self.session.recognised(self.to_recognise.pop(0), text))

    def answer(self, text: str = "Twelve.", audio: bytes = SECOND) -> list[Event]:
        """Give the whole answer of the newest request."""
        seen, session, response = (
            len(self.events),
            self.session,
            self.answer_requests[-1].response_id,
        )
        self.do(session.begin(response))
        self.do(session.add_text(response, text))
        self.do(session.add_audio(response, audio))
        self.do(session.complete(response))
        return self.events[seen:]

    def do(self, effects: list[Effect]) -> list[Event]:
        """Execute the effects; return the events among them."""
        seen = len(self.events)
        for effect in effects:
            match effect:
                case SendEvent():
                    self.events.append(official(effect.event))
                case FindAnswer():
                    self.answer_requests.append(effect)
                case Recognise() | Transcribe():
                    self.to_recognise.append(effect.item_id)
                case FeedRecogniser():
                    self.fed_bytes += len(effect.pcm)
                case ResetRecogniser():
                    self.fed_bytes = 0
        return self.events[seen:]


def official(event: Event) -> Event:
    """Return *event* if the official SDK knows its type and all its fields."""
    parsed = OFFICIAL.validate_python(event)
    assert parsed.type == event["type"]
    assert set(unknown(parsed)) <= NOT_IN_THE_SDK
    return event


def unknown(thing: object, name: str = "") -> Iterator[str]:
    """Yield the names of fields that the SDK does not know, dotted."""
    if isinstance(thing, list):
        for each in thing:
            yield from unknown(each, name)
    if isinstance(thing, BaseModel):
        yield from (f"{name}.{extra}" for extra in thing.model_extra or ())
        for field in type(thing).model_fields:
            yield from unknown(getattr(thing, field), f"{name}.{field}")


def types(events: list[Event]) -> list[str]:
    """Return the types of *events*."""
    return [event["type"] for event in events]


def text_item(text: str, role: str = "user", **fields: object) -> Event:
    """Return a message as a client sends it."""
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": text}]
    return {"type": "message", "role": role, "content": content, **fields}


def error(events: list[Event]) -> Event:
    """Return the error, which must be the only event."""
    assert types(events) == ["error"]
    details: Event = events[0]["error"]
    return details


def test_session_created_is_the_first_event():
    session = Client().events[0]["session"]
    assert (session["id"], session["expires_at"]) == ("sess_1", 9)
    assert session["model"] == "m"


def test_the_events_of_a_spoken_turn_have_the_order_of_the_service():
    client = Client(audio={"input": {"transcription": {"model": "gpt-transcribe"}}})
    seen = len(client.events)
    client.speak_turn()
    client.recognise("what is seven plus five")
    client.answer("Seven plus")
    assert types(client.events[seen:]) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio_transcript.done",
        "response.output_audio.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]


def test_the_recogniser_gets_the_padding_and_the_speech():
    client = Client()
    client.append(SECOND)
    started = client.append(SECOND, voiced=True)[0]
    assert started["audio_start_ms"] == 1080 - 400  # 300 of padding, 100 of onset
    assert (
        client.fed_bytes == len(SECOND) + 320 * 48
    )  # the padding and the time of the onset


def test_the_answer_is_requested_after_recognition():
    client = Client()
    client.speak_turn()
    assert client.answer_requests == []
    client.recognise("hello")
    assert client.answer_requests[0].question.messages == (Message("user", "Hello."),)


def test_each_item_names_its_previous_item():
    client = Client()
    client.speak_turn()
    client.recognise("one")
    client.answer()
    client.speak_turn()
    added = [e for e in client.events if e["type"] == "conversation.item.added"]
    chain = [(e["previous_item_id"], e["item"]["id"]) for e in added]
    assert [previous for previous, _ in chain] == [
        None,
        *(own for _, own in chain[:-1]),
    ]


def test_transcription_is_off_by_default():
    client = Client()
    client.speak_turn()
    assert types(client.recognise("hello")) == []


def test_speech_cancels_the_response_and_drops_its_late_audio():
    client = Client()
    client.speak_turn()
    client.recognise("count to ten")
    response = client.answer_requests[0].response_id
    client.do(client.session.begin(response))
    client.do(client.session.add_text(response, "One, two"))
    client.do(client.session.add_audio(response, SECOND))
    events = client.append(SECOND, voiced=True)
    assert types(events)[0] == "input_audio_buffer.speech_started"
    done = next(e for e in events if e["type"] == "response.done")["response"]
    assert done["status"] == "cancelled"
    assert done["status_details"]["reason"] == "turn_detected"
    assert done["output"][0]["status"] == "incomplete"
    assert not client.session.is_active(response)
    for late in (
        client.session.add_audio(response, SECOND),
        client.session.complete(response),
    ):
        assert late == []


def test_speech_does_not_cancel_a_response_with_interrupt_response_off():
    detection = {"type": "server_vad", "interrupt_response": False}
    client = Client(audio={"input": {"turn_detection": detection}})
    client.speak_turn()
    client.recognise("hello")
    events = client.speak_turn()
    assert client.session.is_active(client.answer_requests[0].response_id)
    assert events[-1]["error"]["code"] == "conversation_already_has_active_response"


def test_create_response_off_commits_the_turn_only():
    detection = {"type": "server_vad", "create_response": False}
    client = Client(audio={"input": {"turn_detection": detection}})
    assert types(client.speak_turn())[-1] == "conversation.item.done"
    assert types(client.send("response.create")) == ["response.created"]


def test_push_to_talk_needs_a_commit_and_a_response():
    client = Client(audio={"input": {"turn_detection": None}})
    assert client.append(SECOND, voiced=True) == []
    assert client.fed_bytes == len(SECOND)
    committed = client.send("input_audio_buffer.commit")
    assert types(committed)[0] == "input_audio_buffer.committed"
    assert types(client.send("response.create")) == ["response.created"]
    client.recognise("hello")
    assert len(client.answer_requests) == 1


@pytest.mark.parametrize(("ms", "enough"), [(0, False), (99, False), (100, True)])
def test_a_commit_needs_100_ms_of_audio(ms, enough):
    client = Client(audio={"input": {"turn_detection": None}})
    client.append(bytes(48 * ms))
    events = client.send("input_audio_buffer.commit")
    if enough:
        assert types(events)[0] == "input_audio_buffer.committed"
    else:
        assert error(events)["code"] == "input_audio_buffer_commit_empty"
        assert f"{ms}.00ms" in error(events)["message"]


def test_clearing_the_buffer_drops_its_audio():
    client = Client(audio={"input": {"turn_detection": None}})
    client.append(SECOND)
    assert types(client.send("input_audio_buffer.clear")) == [
        "input_audio_buffer.cleared"
    ]
    assert client.fed_bytes == 0
    assert types(client.send("input_audio_buffer.commit")) == ["error"]


def test_clearing_during_speech_ends_the_turn_without_speech_stopped():
    client = Client()
    client.append(SECOND, voiced=True)
    client.send("input_audio_buffer.clear")
    assert client.append(SECOND) == []


def test_a_text_response_has_text_events():
    client = Client()
    client.send("conversation.item.create", item=text_item("hello"))
    client.send("response.create", response={"output_modalities": ["text"]})
    assert not client.answer_requests[0].spoken
    response = client.answer_requests[0].response_id
    client.do(client.session.begin(response))
    client.do(client.session.add_text(response, "Hello there."))
    done = client.do(client.session.complete(response))
    assert types(client.events)[-8:] == [
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    part = done[-2]["response"]["output"][0]["content"][0]
    assert part == {"type": "output_text", "text": "Hello there."}


def test_joined_deltas_are_the_transcript():
    client = Client()
    client.send("response.create")
    response = client.answer_requests[0].response_id
    client.do(client.session.begin(response))
    client.do(client.session.add_text(response, "Hello. How"))
    client.do(client.session.add_text(response, "are you?"))
    client.do(client.session.complete(response))
    deltas = [e["delta"] for e in client.events if "transcript.delta" in e["type"]]
    assert "".join(deltas) == "Hello. How are you?"


def test_a_function_is_called_and_its_output_answered():
    client = Client()
    client.send("response.create")
    session, response = client.session, client.answer_requests[0].response_id
    called = session.call_function(response, "f", '{"a": 1}')
    call = client.do([*called, *session.complete(response)])
    assert types(call)[:6] == [
        "response.output_item.added",
        "conversation.item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "conversation.item.done",
        "response.output_item.done",
    ]
    call_id = call[0]["item"]["call_id"]
    assert (call[0]["item"]["name"], call[3]["call_id"]) == ("f", call_id)
    output = {"type": "function_call_output", "call_id": call_id, "output": "42"}
    client.send("conversation.item.create", item=output)
    client.send("response.create")
    assert client.answer_requests[-1].question.messages == (Message("tool", "42"),)


def test_a_response_may_have_a_message_and_several_calls():
    client = Client()
    client.send("response.create")
    session, response = client.session, client.answer_requests[0].response_id
    seen = len(client.events)
    client.do(session.begin(response))
    client.do(session.add_text(response, "One moment."))
    client.do(session.add_audio(response, SECOND))
    client.do(session.end_output(response))
    for name in ("f", "g"):
        client.do(session.call_function(response, name, "{}"))
        client.do(session.end_output(response))
    done = client.do(session.complete(response))[0]["response"]
    output = [(item["type"], item.get("name")) for item in done["output"]]
    calls = [("function_call", "f"), ("function_call", "g")]
    assert output == [("message", None), *calls]
    events = client.events[seen:]
    for kind in ("response.output_item.added", "response.output_item.done"):
        found = [e["output_index"] for e in events if e["type"] == kind]
        assert found == [0, 1, 2]
    assert done["usage"]["output_token_details"]["text_tokens"] == 2


def test_a_failed_response_leaves_the_session_usable():
    client = Client()
    client.send("response.create")
    failed = client.do(
        client.session.fail(client.answer_requests[0].response_id, "oops", "No.")
    )
    assert failed[0]["response"]["status_details"]["error"]["code"] == "oops"
    assert types(client.send("response.create")) == ["response.created"]


def test_a_second_response_is_refused_while_one_is_active():
    client = Client()
    client.send("response.create")
    details = error(client.send("response.create"))
    assert details["code"] == "conversation_already_has_active_response"
    assert details["event_id"] == "evt"


@pytest.mark.parametrize("fields", [{}, {"response_id": "resp_other"}])
def test_cancelling_without_an_active_response_is_an_error(fields):
    client = Client()
    if fields:
        client.send("response.create")
    details = error(client.send("response.cancel", **fields))
    assert details["code"] == "response_cancel_not_active"


def test_cancelling_ends_a_response_without_output():
    client = Client()
    client.send("response.create")
    done = client.send("response.cancel")[0]["response"]
    assert done["status_details"]["reason"] == "client_cancelled"
    assert done["output"] == []


def test_a_response_outside_the_conversation_adds_no_item():
    client = Client()
    client.send("conversation.item.create", item=text_item("hello"))
    options = {"conversation": "none", "input": [text_item("what is one plus one")]}
    created = client.send("response.create", response=options)[0]["response"]
    assert created["conversation_id"] is None
    assert [m.text for m in client.answer_requests[0].question.messages] == [
        "what is one plus one"
    ]
    events = client.answer()
    assert "conversation.item.added" not in types(events)
    assert len(client.session.conversation) == 1


def test_an_invalid_input_creates_no_response():
    client = Client()
    options = {"input": [{"type": "item_reference", "id": "nothing"}]}
    assert error(client.send("response.create", response=options))
    assert types(client.send("response.create")) == ["response.created"]


def truncate(client: Client, item_id: str, end: object, index: int = 0) -> list[Event]:
    """Send a truncation."""
    kind = "conversation.item.truncate"
    return client.send(kind, item_id=item_id, content_index=index, audio_end_ms=end)


def test_truncation_drops_the_transcript():
    client = Client()
    client.send("response.create")
    item_id = client.answer("One two three")[0]["item"]["id"]
    assert types(truncate(client, item_id, 400)) == ["conversation.item.truncated"]
    shown = client.send("conversation.item.retrieve", item_id=item_id)[0]["item"]
    assert shown["content"][0]["transcript"] is None
    assert client.session.conversation.messages() == (Message("assistant", ""),)


@pytest.mark.parametrize(
    ("end", "index", "param"),
    [
        (1001, 0, "audio_end_ms"),
        (-1, 0, "audio_end_ms"),
        ("400", 0, "audio_end_ms"),
        (400, 1, "content_index"),
    ],
)
def test_an_invalid_truncation_is_refused(end, index, param):
    client = Client()
    client.send("response.create")
    item_id = client.answer()[0]["item"]["id"]
    assert error(truncate(client, item_id, end, index))["param"] == param


def test_only_messages_of_the_assistant_can_be_truncated():
    client = Client()
    client.send("conversation.item.create", item=text_item("hello", id="typed"))
    assert error(truncate(client, "typed", 0))["param"] == "item_id"
    details = error(truncate(client, "nothing", 0))
    assert details["code"] == "item_truncate_invalid_item_id"


def test_items_are_created_retrieved_and_deleted():
    client = Client()
    for name in ("a", "b"):
        client.send("conversation.item.create", item=text_item(name, id=name))
    item = text_item("system word", role="system", id="c")
    added = client.send("conversation.item.create", item=item, previous_item_id="a")
    assert types(added) == ["conversation.item.added", "conversation.item.done"]
    assert added[0]["previous_item_id"] == "a"
    assert (
        client.send("conversation.item.retrieve", item_id="c")[0]["item"]["id"] == "c"
    )
    assert types(client.send("conversation.item.delete", item_id="c")) == [
        "conversation.item.deleted"
    ]
    details = error(client.send("conversation.item.retrieve", item_id="c"))
    assert details["code"] == "item_retrieve_invalid_item_id"


def test_deleting_an_unrecognised_item_lets_the_response_go_on():
    client = Client()
    client.speak_turn()
    assert client.answer_requests == []
    client.send("conversation.item.delete", item_id=client.to_recognise[0])
    assert len(client.answer_requests) == 1
    assert client.recognise("too late") == []


def test_a_response_waits_for_the_audio_inside_an_item():
    client = Client()
    audio = base64.b64encode(SECOND).decode()
    content = [{"type": "input_audio", "audio": audio}]
    item = {"type": "message", "role": "user", "content": content}
    client.send("conversation.item.create", item=item)
    client.send("response.create")
    assert client.answer_requests == []
    client.recognise("hello")
    assert client.answer_requests[0].question.messages == (Message("user", "Hello."),)


def test_the_voice_is_fixed_after_the_first_audio():
    change = {"type": "realtime", "audio": {"output": {"voice": "cedar"}}}
    client = Client()
    assert types(client.send("session.update", session=change)) == ["session.updated"]
    client.send("response.create")
    client.answer()
    other = {"type": "realtime", "audio": {"output": {"voice": "marin"}}}
    details = error(client.send("session.update", session=other))
    assert details["code"] == "cannot_update_voice"


@pytest.mark.parametrize(
    ("event", "param"),
    [
        ({"type": "session.explode"}, "type"),
        ({"type": ["session.update"]}, "type"),
        ({}, "type"),
        ({"type": "input_audio_buffer.append"}, "audio"),
        ({"type": "input_audio_buffer.append", "audio": "***"}, "audio"),
        ({"type": "session.update", "session": {}}, "session"),
        ({"type": "response.create", "response": {"foo": 1}}, "response.foo"),
    ],
)
def test_an_invalid_event_gets_an_error_and_the_session_goes_on(event, param):
    client = Client()
    details = error(client.do(client.session.receive(event)))
    assert details["param"] == param
    assert types(client.send("response.create")) == ["response.created"]


def test_appended_audio_may_have_any_size():
    client = Client()
    for _ in range(2400):
        client.append(bytes(34), voiced=True)
    started = [e for e in client.events if e["type"].endswith("speech_started")]
    assert len(started) == 1


EVENTS = st.sampled_from(
    [
        ("append", True),
        ("append", False),
        ("commit", None),
        ("clear", None),
        ("recognise", None),
        ("response.create", None),
        ("response.cancel", None),
        ("begin", None),
        ("say", None),
        ("finish", None),
    ]
)


@given(st.lists(EVENTS, max_size=60))
def test_each_response_ends_once_and_none_overlap_in_any_order_of_events(
    steps: list[tuple[str, bool | None]],
):
    client = Client()
    for step, voiced in steps:
        take(client, step, voiced=bool(voiced))
    client.send("response.cancel")
    named = ("response.created", "response.done")
    details = [e for e in client.events if e["type"] in named]
    pairs = list(zip(details[::2], details[1::2], strict=True))
    assert all(types(list(pair)) == list(named) for pair in pairs)
    assert all(a["response"]["id"] == b["response"]["id"] for a, b in pairs)
    ids = [e["event_id"] for e in client.events]
    assert len(set(ids)) == len(ids)


def take(client: Client, step: str, *, voiced: bool) -> None:
    """Do one step of a random sequence."""
    response = (
        client.answer_requests[-1].response_id
        if client.answer_requests
        else "resp_none"
    )
    match step:
        case "append":
            client.append(SECOND, voiced=voiced)
        case "commit" | "clear":
            client.send(f"input_audio_buffer.{step}")
        case "recognise":
            if client.to_recognise:
                client.recognise("hello")
        case "begin":
            begin_once(client, response)
        case "say":
            if client.session.is_active(response) and response in begun(client):
                client.do(client.session.add_text(response, "word"))
        case "finish":
            client.do(client.session.complete(response))
        case _:
            client.send(step)


def begun(client: Client) -> set[str]:
    """Return the responses that have an item."""
    kind = "response.output_item.added"
    return {e["response_id"] for e in client.events if e["type"] == kind}


def begin_once(client: Client, response: str) -> None:
    """Begin the answer unless it has begun."""
    if response not in begun(client):
        client.do(client.session.begin(response))


# --- bounds -----------------------------------------------------------------------


def test_a_turn_is_split_at_its_greatest_length():
    client = Client()
    seconds = LONGEST_UTTERANCE_MS // 1000
    cut: list[int] = []
    for second in range(seconds + 2):
        if "input_audio_buffer.committed" in types(client.append(SECOND, voiced=True)):
            cut.append(second)
    assert len(cut) == 1
    assert seconds - 2 <= cut[0] <= seconds
    assert client.to_recognise != []
    item = client.session.conversation.get(client.to_recognise[0], code="")
    assert item.audio_ms == LONGEST_UTTERANCE_MS


def test_a_push_to_talk_buffer_is_limited_until_the_commit():
    client = Client(audio={"input": {"turn_detection": None}})
    for _ in range(LONGEST_UTTERANCE_MS // 1000):
        assert client.append(SECOND) == []
    details = error(client.append(SECOND[:960]))
    assert (details["code"], details["param"]) == ("input_audio_buffer_full", "audio")
    client.send("input_audio_buffer.commit")
    assert client.append(SECOND) == []


# --- idle timeout -----------------------------------------------------------------


IDLE_TIMEOUT = {
    "input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5000}}
}


def timeouts(events: list[Event]) -> list[Event]:
    """Return the timeouts among *events*."""
    kind = "input_audio_buffer.timeout_triggered"
    return [event for event in events if event["type"] == kind]


def answered(**session: Any) -> Client:
    """Return a client after one answer of a second."""
    client = Client(**session)
    client.speak_turn()
    client.recognise("hello")
    client.answer()
    return client


def test_the_idle_timeout_commits_the_silence_after_a_response():
    client = answered(audio=IDLE_TIMEOUT)
    for _ in range(5):
        assert timeouts(client.append(SECOND)) == []
    events = client.append(SECOND)
    (timeout,) = timeouts(events)
    # Two seconds of input before the answer, and one second of answer.
    assert (timeout["audio_start_ms"], timeout["audio_end_ms"]) == (3000, 8000)
    assert types(events) == [
        "input_audio_buffer.timeout_triggered",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    assert events[1]["item_id"] == timeout["item_id"]
    client.recognise("")
    assert client.answer_requests[-1].question.messages[-1] == Message("user", "")


def test_the_idle_timeout_is_triggered_once_per_response():
    client = answered(audio=IDLE_TIMEOUT)
    for _ in range(20):
        client.append(SECOND)
    assert len(timeouts(client.events)) == 1
    client.recognise("")
    client.answer()
    for _ in range(6):
        client.append(SECOND)
    assert len(timeouts(client.events)) == 2


def test_speech_stops_the_idle_timeout():
    """Without a response or without `idle_timeout_ms` there is none either."""
    client = answered(audio=IDLE_TIMEOUT)
    client.append(SECOND * 4)
    client.append(SECOND, voiced=True)
    client.append(SECOND * 20)
    assert timeouts(client.events) == []
    for quiet in (Client(audio=IDLE_TIMEOUT), answered()):
        quiet.append(SECOND * 20)
        assert timeouts(quiet.events) == []


# --- audio again ------------------------------------------------------------------


def test_the_audio_of_user_and_assistant_can_be_retrieved():
    client = answered()
    question, answer = [item.id for item in client.session.conversation]
    parts = []
    for item_id in (question, answer):
        (event,) = client.send("conversation.item.retrieve", item_id=item_id)
        parts += event["item"]["content"]
    assert [part["type"] for part in parts] == ["input_audio", "output_audio"]
    assert len(base64.b64decode(parts[0]["audio"])) >= len(SECOND)
    assert base64.b64decode(parts[1]["audio"]) == SECOND
    where = {"item_id": answer, "content_index": 0}
    client.send("conversation.item.truncate", audio_end_ms=250, **where)
    (event,) = client.send("conversation.item.retrieve", item_id=answer)
    assert len(base64.b64decode(event["item"]["content"][0]["audio"])) == 250 * 48


NEVER_SENT = {
    # Remote tools, telephone keys, and a media channel beside the websocket.
    *(f"mcp_list_tools.{state}" for state in ("completed", "failed", "in_progress")),
    *(f"response.mcp_call.{state}" for state in ("completed", "failed", "in_progress")),
    *("response.mcp_call_arguments.delta", "response.mcp_call_arguments.done"),
    "input_audio_buffer.dtmf_event_received",
    *(f"output_audio_buffer.{state}" for state in ("cleared", "started", "stopped")),
    # The API before GA, and diarising models.
    *("conversation.created", "conversation.item.created"),
    "conversation.item.input_audio_transcription.segment",
    # Sent by a fault only.
    "conversation.item.input_audio_transcription.failed",
}


def client_of_all_events() -> Client:
    """Return a client that has received every type of event."""
    detection = {"type": "server_vad", "idle_timeout_ms": 5000}
    audio_input = {"transcription": {"model": "m"}, "turn_detection": detection}
    tool = {"type": "function", "name": "get_weather", "parameters": {}}
    client = Client(audio={"input": audio_input}, tools=[tool])
    client.speak_turn()
    client.recognise("seven")
    client.answer()
    item = client.events[-2]["response"]["output"][0]["id"]
    client.send("conversation.item.retrieve", item_id=item)
    truncate(client, item, 10)
    client.send("conversation.item.delete", item_id=item)
    client.send("input_audio_buffer.clear")
    client.send("conversation.item.create", item=text_item("weather"))
    client.send("response.create", response={"output_modalities": ["text"]})
    client.answer(audio=b"")
    client.send("response.create")
    response = client.answer_requests[-1].response_id
    client.do(client.session.call_function(response, "get_weather", "{}"))
    client.do(client.session.complete(response))
    client.append(7 * SECOND)
    client.send("response.cancel")
    client.send("nonsense")
    return client


def test_every_event_of_the_official_sdk_is_sent_or_listed_as_never_sent():
    (union, *_) = get_args(RealtimeServerEvent)
    named = (get_args(kind.model_fields["type"].annotation) for kind in get_args(union))
    official_types = {kind for kinds in named for kind in kinds}
    assert official_types - set(types(client_of_all_events().events)) == NEVER_SENT


def test_the_official_sdk_accepts_the_events_of_faults():
    client = client_of_all_events()
    for text in (
        "failed-insufficient_quota",
        "incomplete-content_filter",
        "failed@conversation.item.input_audio_transcription.completed",
        *(f"error-{code}@response.done" for code in CLOSE_CODES),
        "error@response.done",
    ):
        injector = FaultInjector(ArmedFaults([Fault.parse(text)]), ArmedFaults())
        actions = [
            action for event in client.events for action in injector.process(event)
        ]
        sent = [
            json.loads(action.data) for action in actions if isinstance(action, Send)
        ]
        assert [official(event) for event in sent] != client.events


# --- Messages that are valid but for one value --------------------------------------

VALID: list[Event] = [
    {
        "type": "session.update",
        "session": {
            "type": "realtime",
            "model": "m",
            "instructions": "Be kind.",
            "output_modalities": ["audio"],
            "tools": [{"type": "function", "name": "look", "parameters": {}}],
            "tool_choice": "auto",
            "max_output_tokens": 100,
            "include": ["item.input_audio_transcription.logprobs"],
            "truncation": {"type": "retention_ratio", "retention_ratio": 0.5},
            "tracing": "auto",
            "prompt": {"id": "p1", "version": "2", "variables": {"a": "b"}},
            "audio": {
                "input": {
                    "noise_reduction": {"type": "near_field"},
                    "format": {"type": "audio/pcm", "rate": 24_000},
                    "transcription": {"model": "whisper-1"},
                    "turn_detection": {
                        "type": "server_vad",
                        "threshold": 0.5,
                        "create_response": True,
                    },
                },
                "output": {"voice": "marin", "speed": 1.0},
            },
        },
    },
    {
        "type": "conversation.item.create",
        "previous_item_id": "root",
        "item": {
            "id": "i9",
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is one plus one?"},
                {"type": "input_audio", "audio": base64.b64encode(SECOND).decode()},
            ],
        },
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
    },
    {
        "type": "conversation.item.create",
        "item": {
            "type": "function_call",
            "call_id": "c1",
            "name": "look",
            "arguments": "{}",
        },
    },
    {"type": "conversation.item.retrieve", "item_id": "i9"},
    {
        "type": "conversation.item.truncate",
        "item_id": "i9",
        "content_index": 0,
        "audio_end_ms": 10,
    },
    {"type": "conversation.item.delete", "item_id": "i9"},
    {"type": "input_audio_buffer.append", "audio": base64.b64encode(SECOND).decode()},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {
        "type": "response.create",
        "response": {
            "conversation": "none",
            "metadata": {"a": "b"},
            "instructions": "Say: hello",
            "output_modalities": ["text"],
            "tool_choice": {"type": "function", "name": "look"},
            "tools": [{"type": "function", "name": "look", "parameters": {}}],
            "input": [
                {
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": "hello"}],
                }
            ],
        },
    },
    {"type": "response.cancel", "response_id": "r1"},
]

WRONG: list[object] = [
    None, True, -1, 1e308, "", "nothing", [], [1], [[]], {}, {"type": []}, [{}, None],
]  # fmt: skip


def places(value: object) -> Iterator[tuple[object, ...]]:
    """Yield the path to each value within a message."""
    parts: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list):
        parts = list(enumerate(value))
    for key, part in parts:
        yield (key,)
        yield from ((key, *rest) for rest in places(part))


def replaced(value: Any, place: tuple[object, ...], wrong: object) -> Any:
    """Return a copy of a message with another value at one place."""
    if not place:
        return wrong
    changed = value.copy()
    changed[place[0]] = replaced(value[place[0]], place[1:], wrong)
    return changed


@pytest.mark.parametrize("message", VALID, ids=lambda one: one["type"])
def test_a_message_with_one_wrong_value_is_taken_or_gets_an_error_event(message):
    """Whatever the value, and wherever: the connection goes on."""
    for place in places(message):
        for wrong in WRONG:
            client = Client()
            client.send(**as_call(VALID[1]))
            client.send(**as_call(replaced(message, place, wrong)))
            answer = client.send("conversation.item.retrieve", item_id="gone")
            assert answer[-1]["type"] == "error", (place, wrong)


def as_call(message: Event) -> Event:
    """Return the arguments of `Client.send`."""
    return {"kind": message["type"], **{k: message[k] for k in message if k != "type"}}


# --- anything from a client -------------------------------------------------------

NAMES = st.sampled_from(
    [
        "type",
        "id",
        "role",
        "content",
        "text",
        "audio",
        "item_id",
        "previous_item_id",
        "content_index",
        "audio_end_ms",
        "session",
        "response",
        "item",
        "tools",
        "tool_choice",
        "input",
        "output",
        "audio",
        "format",
        "rate",
        "name",
        "call_id",
        "arguments",
        "turn_detection",
        "instructions",
        "metadata",
        "voice",
        "model",
        "image_url",
    ]
)
VALUES = st.one_of(
    *(st.none(), st.booleans(), st.integers(-5, 2**53), st.floats(allow_nan=False)),
    st.sampled_from(
        [
            "message",
            "function_call",
            "function_call_output",
            "input_text",
            "input_audio",
            "user",
            "system",
            "assistant",
            "auto",
            "none",
            "realtime",
            "server_vad",
            "semantic_vad",
            "item_reference",
            "mine",
            "AAAA",
        ]
    ),
    st.text(max_size=5),
)
ANY_JSON = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5)
    ),
    max_leaves=20,
)
CLIENT_EVENTS = tuple(Client().session._handlers)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(CLIENT_EVENTS), st.dictionaries(NAMES, ANY_JSON, max_size=6)
        ),
        max_size=12,
    )
)
def test_no_event_of_a_client_breaks_the_session(
    steps: list[tuple[str, dict[str, Any]]],
):
    client = Client()
    for kind, fields in steps:
        client.send(kind, **{k: v for k, v in fields.items() if k != "type"})
        while client.to_recognise:
            client.recognise("hello")
        if client.answer_requests:
            choose_answer(client.answer_requests.pop().question, datetime.now(UTC))
    client.send("response.cancel")
    client.send("conversation.item.create", item=text_item("hello"))
    assert types(client.send("response.create"))[0] == "response.created"
