"""The protocol of one session, without a socket, a model or a clock."""

from __future__ import annotations

import base64
import itertools
import json
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter

from realtalk_async.offline.effects import (
    FRAME_BYTES,
    Answer,
    Effect,
    Emit,
    Forget,
    Judge,
    Listen,
    Message,
    Recognise,
    Transcribe,
)
from realtalk_async.offline.faults import FATAL, Fault, Faults, Send, Wire
from realtalk_async.offline.input_buffer import LONGEST_UTTERANCE_MS
from realtalk_async.offline.session import Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

Event: TypeAlias = dict[str, Any]

OFFICIAL: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
SECOND = bytes(48_000)


SENT_ALL_THE_SAME = {".session.object", ".session.id", ".session.expires_at"}
"""The SDK's type of a session has only what a client may set."""


class Client:
    """Drives `Turns` as a link would, and holds each event against the SDK's types."""

    def __init__(self, **session: object) -> None:
        numbers = itertools.count(1)
        self.turns = Turns(
            model="m",
            session_id="sess_1",
            new_id=lambda kind: f"{kind}_{next(numbers)}",
            expires_at=9,
        )
        self.events: list[Event] = []
        self.asked: list[Answer] = []
        self.to_recognise: list[str] = []
        self.listened = 0
        self.do(self.turns.opened())
        if session:
            self.send("session.update", session={"type": "realtime", **session})

    def send(self, kind: str, **fields: object) -> list[Event]:
        """Send a client event; return the server events it brought."""
        return self.do(self.turns.receive({"type": kind, "event_id": "evt", **fields}))

    def append(self, pcm: bytes, *, voiced: bool = False) -> list[Event]:
        """Send audio; *voiced* is what voice activity makes of it."""
        seen = len(self.events)
        audio = base64.b64encode(pcm).decode()
        event: Event = {"type": "input_audio_buffer.append", "audio": audio}
        for effect in self.turns.receive(event):
            if isinstance(effect, Judge):
                frames = len(effect.pcm) // FRAME_BYTES
                self.do(self.turns.heard(effect.pcm, [voiced] * frames))
            else:
                self.do([effect])
        return self.events[seen:]

    def speak(self) -> list[Event]:
        """A second of speech and the silence that ends it."""
        return self.append(SECOND, voiced=True) + self.append(SECOND)

    def recognise(self, text: str) -> list[Event]:
        """Have the oldest unheard item recognised."""
        return self.do(self.turns.recognised(self.to_recognise.pop(0), text))

    def answer(self, text: str = "Twelve.", audio: bytes = SECOND) -> list[Event]:
        """Give the whole answer that was asked for."""
        seen, turns, response = len(self.events), self.turns, self.asked[-1].response_id
        self.do(turns.begin(response))
        self.do(turns.say(response, text))
        self.do(turns.sound(response, audio))
        self.do(turns.finish(response))
        return self.events[seen:]

    def do(self, effects: list[Effect]) -> list[Event]:
        """Note the effects; return the events among them."""
        seen = len(self.events)
        for effect in effects:
            match effect:
                case Emit():
                    self.events.append(official(effect.event))
                case Answer():
                    self.asked.append(effect)
                case Recognise() | Transcribe():
                    self.to_recognise.append(effect.item_id)
                case Listen():
                    self.listened += len(effect.pcm)
                case Forget():
                    self.listened = 0
        return self.events[seen:]


def official(event: Event) -> Event:
    """Return *event* if the official SDK knows its type and all its fields."""
    parsed = OFFICIAL.validate_python(event)
    assert parsed.type == event["type"]
    assert set(unknown(parsed)) <= SENT_ALL_THE_SAME
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
    told: Event = events[0]["error"]
    return told


def test_the_session_is_shown_first():
    """With its id and its end."""
    session = Client().events[0]["session"]
    assert (session["id"], session["expires_at"]) == ("sess_1", 9)
    assert session["model"] == "m"


def test_a_spoken_turn_has_the_services_order():
    """From speech_started to response.done, each event once."""
    client = Client(audio={"input": {"transcription": {"model": "gpt-transcribe"}}})
    seen = len(client.events)
    client.speak()
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


def test_the_recogniser_hears_the_padding_and_the_speech():
    """Speech is detected late; what came before it is heard all the same."""
    client = Client()
    client.append(SECOND)
    started = client.append(SECOND, voiced=True)[0]
    assert started["audio_start_ms"] == 1080 - 400  # 300 of padding, 100 of onset
    assert client.listened == len(SECOND) + 320 * 48  # padding, and what the onset took


def test_the_question_is_asked_only_when_it_is_understood():
    """The response exists at once, the answer waits for the words."""
    client = Client()
    client.speak()
    assert client.asked == []
    client.recognise("hello")
    assert client.asked[0].question.messages == (Message("user", "Hello."),)


def test_items_are_chained_by_their_predecessors():
    """User and assistant, in their order."""
    client = Client()
    client.speak()
    client.recognise("one")
    client.answer()
    client.speak()
    added = [e for e in client.events if e["type"] == "conversation.item.added"]
    chain = [(e["previous_item_id"], e["item"]["id"]) for e in added]
    assert [previous for previous, _ in chain] == [
        None,
        *(own for _, own in chain[:-1]),
    ]


def test_no_transcription_is_sent_unless_it_is_asked_for():
    """As with the service, it is off by default."""
    client = Client()
    client.speak()
    assert types(client.recognise("hello")) == []


def test_speech_during_an_answer_interrupts_it():
    """The response is cancelled, its item incomplete; late words are dropped."""
    client = Client()
    client.speak()
    client.recognise("count to ten")
    response = client.asked[0].response_id
    client.do(client.turns.begin(response))
    client.do(client.turns.say(response, "One, two"))
    client.do(client.turns.sound(response, SECOND))
    events = client.append(SECOND, voiced=True)
    assert types(events)[0] == "input_audio_buffer.speech_started"
    done = next(e for e in events if e["type"] == "response.done")["response"]
    assert done["status"] == "cancelled"
    assert done["status_details"]["reason"] == "turn_detected"
    assert done["output"][0]["status"] == "incomplete"
    assert not client.turns.is_active(response)
    for late in (client.turns.sound(response, SECOND), client.turns.finish(response)):
        assert late == []


def test_an_answer_that_must_not_be_interrupted_goes_on():
    """And the next response is refused while it lasts."""
    detection = {"type": "server_vad", "interrupt_response": False}
    client = Client(audio={"input": {"turn_detection": detection}})
    client.speak()
    client.recognise("hello")
    events = client.speak()
    assert client.turns.is_active(client.asked[0].response_id)
    assert events[-1]["error"]["code"] == "conversation_already_has_active_response"


def test_create_response_false_leaves_it_to_the_client():
    """The turn is committed, no response made."""
    detection = {"type": "server_vad", "create_response": False}
    client = Client(audio={"input": {"turn_detection": detection}})
    assert types(client.speak())[-1] == "conversation.item.done"
    assert types(client.send("response.create")) == ["response.created"]


def test_push_to_talk_needs_a_commit_and_a_response():
    """Nothing is detected while turn detection is off."""
    client = Client(audio={"input": {"turn_detection": None}})
    assert client.append(SECOND, voiced=True) == []
    assert client.listened == len(SECOND)
    committed = client.send("input_audio_buffer.commit")
    assert types(committed)[0] == "input_audio_buffer.committed"
    assert types(client.send("response.create")) == ["response.created"]
    client.recognise("hello")
    assert len(client.asked) == 1


@pytest.mark.parametrize(("ms", "enough"), [(0, False), (99, False), (100, True)])
def test_a_commit_takes_a_tenth_of_a_second(ms, enough):
    """Less is refused, and says how much there was."""
    client = Client(audio={"input": {"turn_detection": None}})
    client.append(bytes(48 * ms))
    events = client.send("input_audio_buffer.commit")
    if enough:
        assert types(events)[0] == "input_audio_buffer.committed"
    else:
        assert error(events)["code"] == "input_audio_buffer_commit_empty"
        assert f"{ms}.00ms" in error(events)["message"]


def test_clearing_the_buffer_forgets_what_was_said():
    """A commit then has nothing."""
    client = Client(audio={"input": {"turn_detection": None}})
    client.append(SECOND)
    assert types(client.send("input_audio_buffer.clear")) == [
        "input_audio_buffer.cleared"
    ]
    assert client.listened == 0
    assert types(client.send("input_audio_buffer.commit")) == ["error"]


def test_clearing_during_speech_ends_the_turn_unheard():
    """No speech_stopped follows."""
    client = Client()
    client.append(SECOND, voiced=True)
    client.send("input_audio_buffer.clear")
    assert client.append(SECOND) == []


def test_a_text_answer_has_text_events():
    """``output_modalities: ["text"]``, for one response."""
    client = Client()
    client.send("conversation.item.create", item=text_item("hello"))
    client.send("response.create", response={"output_modalities": ["text"]})
    assert not client.asked[0].spoken
    response = client.asked[0].response_id
    client.do(client.turns.begin(response))
    client.do(client.turns.say(response, "Hello there."))
    done = client.do(client.turns.finish(response))
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


def test_deltas_joined_are_the_transcript():
    """Also over several sentences."""
    client = Client()
    client.send("response.create")
    response = client.asked[0].response_id
    client.do(client.turns.begin(response))
    client.do(client.turns.say(response, "Hello. How"))
    client.do(client.turns.say(response, "are you?"))
    client.do(client.turns.finish(response))
    deltas = [e["delta"] for e in client.events if "transcript.delta" in e["type"]]
    assert "".join(deltas) == "Hello. How are you?"


def test_a_function_is_called_and_its_output_answered():
    """Name and call_id first, the arguments after; then a new response."""
    client = Client()
    client.send("response.create")
    call = client.do(client.turns.call(client.asked[0].response_id, "f", '{"a": 1}'))
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
    assert client.asked[-1].question.messages == (Message("tool", "42"),)


def test_a_failed_answer_is_a_failed_response():
    """The session goes on."""
    client = Client()
    client.send("response.create")
    failed = client.do(client.turns.fail(client.asked[0].response_id, "oops", "No."))
    assert failed[0]["response"]["status_details"]["error"]["code"] == "oops"
    assert types(client.send("response.create")) == ["response.created"]


def test_only_one_response_at_a_time():
    """The error names the client's event."""
    client = Client()
    client.send("response.create")
    told = error(client.send("response.create"))
    assert told["code"] == "conversation_already_has_active_response"
    assert told["event_id"] == "evt"


@pytest.mark.parametrize("fields", [{}, {"response_id": "resp_other"}])
def test_cancelling_nothing_is_an_error(fields):
    """No response, or another one than was meant."""
    client = Client()
    if fields:
        client.send("response.create")
    told = error(client.send("response.cancel", **fields))
    assert told["code"] == "response_cancel_not_active"


def test_cancelling_ends_the_response():
    """Before it has said anything too."""
    client = Client()
    client.send("response.create")
    done = client.send("response.cancel")[0]["response"]
    assert done["status_details"]["reason"] == "client_cancelled"
    assert done["output"] == []


def test_a_response_outside_the_conversation_leaves_no_item():
    """It answers what it is given, and is not remembered."""
    client = Client()
    client.send("conversation.item.create", item=text_item("hello"))
    options = {"conversation": "none", "input": [text_item("what is one plus one")]}
    created = client.send("response.create", response=options)[0]["response"]
    assert created["conversation_id"] is None
    assert [m.text for m in client.asked[0].question.messages] == [
        "what is one plus one"
    ]
    events = client.answer()
    assert "conversation.item.added" not in types(events)
    assert len(client.turns.items) == 1


def test_a_bad_input_makes_no_response():
    """Refused before it exists: the next one is free."""
    client = Client()
    options = {"input": [{"type": "item_reference", "id": "nothing"}]}
    assert error(client.send("response.create", response=options))
    assert types(client.send("response.create")) == ["response.created"]


def truncate(client: Client, item_id: str, end: object, index: int = 0) -> list[Event]:
    """Send a truncation."""
    kind = "conversation.item.truncate"
    return client.send(kind, item_id=item_id, content_index=index, audio_end_ms=end)


def test_truncation_drops_the_words():
    """What was not heard is not in the context."""
    client = Client()
    client.send("response.create")
    item_id = client.answer("One two three")[0]["item"]["id"]
    assert types(truncate(client, item_id, 400)) == ["conversation.item.truncated"]
    shown = client.send("conversation.item.retrieve", item_id=item_id)[0]["item"]
    assert shown["content"][0]["transcript"] is None
    assert client.turns.items.messages() == (Message("assistant", ""),)


@pytest.mark.parametrize(
    ("end", "index", "param"),
    [
        (1001, 0, "audio_end_ms"),
        (-1, 0, "audio_end_ms"),
        ("400", 0, "audio_end_ms"),
        (400, 1, "content_index"),
    ],
)
def test_a_truncation_that_cannot_be_is_refused(end, index, param):
    """Beyond the second that was sent, for one."""
    client = Client()
    client.send("response.create")
    item_id = client.answer()[0]["item"]["id"]
    assert error(truncate(client, item_id, end, index))["param"] == param


def test_only_what_the_assistant_said_can_be_truncated():
    """Not what the user said, nor what is not there."""
    client = Client()
    client.send("conversation.item.create", item=text_item("hello", id="mine"))
    assert error(truncate(client, "mine", 0))["param"] == "item_id"
    told = error(truncate(client, "nothing", 0))
    assert told["code"] == "item_truncate_invalid_item_id"


def test_items_are_created_retrieved_and_deleted():
    """Where the client wants them."""
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
    told = error(client.send("conversation.item.retrieve", item_id="c"))
    assert told["code"] == "item_retrieve_invalid_item_id"


def test_deleting_an_item_that_is_not_understood_yet_frees_the_answer():
    """Else the response would wait for ever."""
    client = Client()
    client.speak()
    assert client.asked == []
    client.send("conversation.item.delete", item_id=client.to_recognise[0])
    assert len(client.asked) == 1
    assert client.recognise("too late") == []


def test_audio_inside_an_item_is_recognised():
    """A response waits for it."""
    client = Client()
    audio = base64.b64encode(SECOND).decode()
    content = [{"type": "input_audio", "audio": audio}]
    item = {"type": "message", "role": "user", "content": content}
    client.send("conversation.item.create", item=item)
    client.send("response.create")
    assert client.asked == []
    client.recognise("hello")
    assert client.asked[0].question.messages == (Message("user", "Hello."),)


def test_the_voice_is_fixed_once_it_was_heard():
    """Before that it may change."""
    change = {"type": "realtime", "audio": {"output": {"voice": "cedar"}}}
    client = Client()
    assert types(client.send("session.update", session=change)) == ["session.updated"]
    client.send("response.create")
    client.answer()
    other = {"type": "realtime", "audio": {"output": {"voice": "marin"}}}
    told = error(client.send("session.update", session=other))
    assert told["code"] == "cannot_update_voice"


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
def test_what_is_wrong_is_an_error_event_and_no_more(event, param):
    """The session goes on."""
    client = Client()
    told = error(client.do(client.turns.receive(event)))
    assert told["param"] == param
    assert types(client.send("response.create")) == ["response.created"]


def test_audio_may_come_in_any_sizes():
    """Frames are put together from odd pieces."""
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
def test_every_response_ends_once_whatever_happens(
    steps: list[tuple[str, bool | None]],
):
    """Any order of events: each created response is done at most once, none overlap."""
    client = Client()
    for step, voiced in steps:
        take(client, step, voiced=bool(voiced))
    client.send("response.cancel")
    named = ("response.created", "response.done")
    told = [e for e in client.events if e["type"] in named]
    pairs = list(zip(told[::2], told[1::2], strict=True))
    assert all(types(list(pair)) == list(named) for pair in pairs)
    assert all(a["response"]["id"] == b["response"]["id"] for a, b in pairs)
    ids = [e["event_id"] for e in client.events]
    assert len(set(ids)) == len(ids)


def take(client: Client, step: str, *, voiced: bool) -> None:
    """Do one step of a random life."""
    response = client.asked[-1].response_id if client.asked else "resp_none"
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
            if client.turns.is_active(response) and response in begun(client):
                client.do(client.turns.say(response, "word"))
        case "finish":
            client.do(client.turns.finish(response))
        case _:
            client.send(step)


def begun(client: Client) -> set[str]:
    """Return the responses that have an item."""
    kind = "response.output_item.added"
    return {e["response_id"] for e in client.events if e["type"] == kind}


def begin_once(client: Client, response: str) -> None:
    """Begin the answer unless it has begun."""
    if response not in begun(client):
        client.do(client.turns.begin(response))


# --- bounds -----------------------------------------------------------------------


def test_a_turn_that_does_not_end_is_cut_at_its_greatest_length():
    """What follows is the next one; the buffer begins anew."""
    client = Client()
    seconds = LONGEST_UTTERANCE_MS // 1000
    cut: list[int] = []
    for second in range(seconds + 2):
        if "input_audio_buffer.committed" in types(client.append(SECOND, voiced=True)):
            cut.append(second)
    assert len(cut) == 1
    assert seconds - 2 <= cut[0] <= seconds
    assert client.to_recognise != []
    item = client.turns.items.get(client.to_recognise[0], code="")
    assert item.sound_ms == LONGEST_UTTERANCE_MS


def test_a_push_to_talk_buffer_takes_no_more_than_its_limit():
    """The client is told; after a commit there is room again."""
    client = Client(audio={"input": {"turn_detection": None}})
    for _ in range(LONGEST_UTTERANCE_MS // 1000):
        assert client.append(SECOND) == []
    told = error(client.append(SECOND[:960]))
    assert (told["code"], told["param"]) == ("input_audio_buffer_full", "audio")
    client.send("input_audio_buffer.commit")
    assert client.append(SECOND) == []


# --- silence that nobody expected -------------------------------------------------


IMPATIENT = {
    "input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5000}}
}


def timeouts(events: list[Event]) -> list[Event]:
    """Return the timeouts among *events*."""
    kind = "input_audio_buffer.timeout_triggered"
    return [event for event in events if event["type"] == kind]


def answered(**session: Any) -> Client:
    """Return a client that has had one answer, a second long."""
    client = Client(**session)
    client.speak()
    client.recognise("hello")
    client.answer()
    return client


def test_a_silence_after_an_answer_is_a_turn_of_its_own():
    """After the answer was heard and the time is over: committed, and answered."""
    client = answered(audio=IMPATIENT)
    for _ in range(5):
        assert timeouts(client.append(SECOND)) == []
    events = client.append(SECOND)
    (timeout,) = timeouts(events)
    # Two seconds came before the answer, which itself lasts one.
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
    assert client.asked[-1].question.messages[-1] == Message("user", "")


def test_a_silence_is_told_once_an_answer():
    """The next one begins after the next answer."""
    client = answered(audio=IMPATIENT)
    for _ in range(20):
        client.append(SECOND)
    assert len(timeouts(client.events)) == 1
    client.recognise("")
    client.answer()
    for _ in range(6):
        client.append(SECOND)
    assert len(timeouts(client.events)) == 2


def test_who_speaks_in_time_is_not_hurried():
    """Nor is who has not been answered yet, or asked for no timeout."""
    client = answered(audio=IMPATIENT)
    client.append(SECOND * 4)
    client.append(SECOND, voiced=True)
    client.append(SECOND * 20)
    assert timeouts(client.events) == []
    for patient in (Client(audio=IMPATIENT), answered()):
        patient.append(SECOND * 20)
        assert timeouts(patient.events) == []


# --- audio again ------------------------------------------------------------------


def test_both_sides_audio_can_be_retrieved():
    """What was said, with what came before it; and what was answered."""
    client = answered()
    mine, theirs = [item.id for item in client.turns.items]
    parts = []
    for item_id in (mine, theirs):
        (event,) = client.send("conversation.item.retrieve", item_id=item_id)
        parts += event["item"]["content"]
    assert [part["type"] for part in parts] == ["input_audio", "output_audio"]
    assert len(base64.b64decode(parts[0]["audio"])) >= len(SECOND)
    assert base64.b64decode(parts[1]["audio"]) == SECOND
    where = {"item_id": theirs, "content_index": 0}
    client.send("conversation.item.truncate", audio_end_ms=250, **where)
    (event,) = client.send("conversation.item.retrieve", item_id=theirs)
    assert len(base64.b64decode(event["item"]["content"][0]["audio"])) == 250 * 48


NEVER_SENT = {
    # Remote tools, telephone keys, and a sound channel beside the websocket.
    *(f"mcp_list_tools.{state}" for state in ("completed", "failed", "in_progress")),
    *(f"response.mcp_call.{state}" for state in ("completed", "failed", "in_progress")),
    *("response.mcp_call_arguments.delta", "response.mcp_call_arguments.done"),
    "input_audio_buffer.dtmf_event_received",
    *(f"output_audio_buffer.{state}" for state in ("cleared", "started", "stopped")),
    # Of the API before GA, or of diarising models.
    *("conversation.created", "conversation.item.created"),
    "conversation.item.input_audio_transcription.segment",
    # By a fault only.
    "conversation.item.input_audio_transcription.failed",
}


def everything() -> Client:
    """Return a client that has brought about all that there is."""
    detection = {"type": "server_vad", "idle_timeout_ms": 5000}
    heard = {"transcription": {"model": "m"}, "turn_detection": detection}
    tool = {"type": "function", "name": "get_weather", "parameters": {}}
    client = Client(audio={"input": heard}, tools=[tool])
    client.speak()
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
    client.do(client.turns.call(client.asked[-1].response_id, "get_weather", "{}"))
    client.append(7 * SECOND)
    client.send("response.cancel")
    client.send("nonsense")
    return client


def test_all_events_of_the_official_sdk_are_sent_but_for_what_there_is_not():
    """Each was held against the SDK's types, with all its fields."""
    (union, *_) = get_args(RealtimeServerEvent)
    named = (get_args(kind.model_fields["type"].annotation) for kind in get_args(union))
    official_types = {kind for kinds in named for kind in kinds}
    assert official_types - set(types(everything().events)) == NEVER_SENT


def test_what_faults_send_is_official_too():
    """All that is not spoilt on purpose."""
    client = everything()
    for text in (
        "failed-insufficient_quota",
        "incomplete-content_filter",
        "failed@conversation.item.input_audio_transcription.completed",
        *(f"error-{code}@response.done" for code in FATAL),
        "error@response.done",
    ):
        wire = Wire(Faults([Fault.parse(text)]), Faults())
        acts = [act for event in client.events for act in wire.send(event)]
        sent = [json.loads(act.data) for act in acts if isinstance(act, Send)]
        assert [official(event) for event in sent] != client.events
