"""The session without a network: events and time in, messages and decisions out."""

import base64
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import TypeAdapter

from realtalk_async.voice import events
from realtalk_async.voice.events import Status
from realtalk_async.voice.protocol import messages
from realtalk_async.voice.protocol.connection_state import State
from realtalk_async.voice.protocol.microphone import InputFilter
from realtalk_async.voice.protocol.playback import Part
from realtalk_async.voice.protocol.requests.session_config import (
    ServerVad,
    SessionConfig,
)
from realtalk_async.voice.protocol.responses import RequestState
from realtalk_async.voice.protocol.session import Session

OFFICIAL = TypeAdapter[object](RealtimeClientEvent)


class Harness:
    """A session without a network; records the sent, published and played data."""

    def __init__(self, config=None, **limits):
        self.session = Session(config or SessionConfig(), **limits)
        self.session.sound.add(self)
        self.now = 100.0
        self.sent = []
        self.published = []
        self.received_audio = []
        self.tools = []

    def recorded(self, pcm, at):
        pass

    def played(self, part, pcm, at):
        pass

    def received(self, part, pcm, at):
        self.received_audio.append((part, pcm))

    def take(self):
        """Collect messages and events; validate the messages with the SDK."""
        for event in self.session.events_received():
            self.published.append(event)
            if isinstance(event, events.ToolCalled):
                self.call_tool(event.call_id)
        while message := self.session.next_message(self.now):
            OFFICIAL.validate_python(message)
            assert message["event_id"]
            self.sent.append(message)
            self.send(message)
        self.published += self.session.events_received()

    def call_tool(self, call_id):
        self.tools.append(call_id)

    def send(self, message):
        pass

    def event(self, kind, **fields):
        """Let the service send an event."""
        raw = messages.encode({"type": kind, "event_id": "event_s", **fields})
        self.session.receive_data(raw, self.now)
        self.take()

    def open(self, wall=0.0):
        """Open a connection."""
        self.session.connected(self.now, wall)
        self.take()

    def connect(self):
        """Open a connection, and let the service confirm the configuration."""
        self.open()
        self.event("session.created", session={"id": "sess_1", "type": "realtime"})
        self.event("session.updated", session={"id": "sess_1", "type": "realtime"})
        return self

    def lose(self, reason="broken"):
        """Lose the connection."""
        self.session.connection_lost(reason, self.now)
        self.take()

    def tick(self, now):
        """Let the session act at time *now*; `self.now` stays."""
        self.session.tick(now)
        self.take()

    def interrupt(self):
        """Let the app interrupt."""
        self.session.interrupt(self.now)
        self.take()

    def listen(self, ms):
        """Play *ms* milliseconds: 60 at once, then 40 every 40 ms."""
        self.session.audio_due(self.now)
        for _ in range((ms - 60) // 40):
            self.now += 0.04
            self.session.audio_due(self.now)

    def break_in(self):
        """Let the service detect that the user speaks."""
        self.event("input_audio_buffer.speech_started", item_id="u2")

    def push(self, ms):
        """Let the recorder deliver *ms* milliseconds."""
        self.session.push_audio(bytes(ms * 48), self.now)
        self.take()

    def start_turn(self):
        self.session.start_turn(self.now)
        self.take()

    def end_turn(self, **options):
        answered = self.session.end_turn(self.now, **options)
        self.take()
        return answered

    @property
    def error(self):
        """The reason for closing the connection, or None."""
        error = self.session.connection.error
        if error is None:
            return None
        return str(error).removeprefix("the service ended the session: ")

    def say(self, text="Hi", *, role="user", trigger=True):
        """Let the app send a text."""
        send_text = self.session.send_text
        request = send_text(text, role, self.now, trigger_response=trigger)
        self.take()
        return request

    def begin(self, response_id="r1", item_id="i1"):
        """Let the service begin a response."""
        self.event("response.created", response={"id": response_id})
        item = {"id": item_id, "type": "message", "role": "assistant", "content": []}
        self.event("response.output_item.added", response_id=response_id, item=item)
        self.event("conversation.item.added", previous_item_id=None, item=item)

    def speak(self, text="Hello there.", ms=100, response_id="r1", item_id="i1"):
        """Let the service send a piece of a response."""
        place = {"response_id": response_id, "item_id": item_id, "content_index": 0}
        self.event("response.output_audio_transcript.delta", **place, delta=text)
        pcm = base64.b64encode(bytes(ms * 48)).decode()
        self.event("response.output_audio.delta", **place, delta=pcm)

    def done(self, status="completed", response_id="r1", **details):
        """Let the service end a response."""
        response = {"id": response_id, "status": status, "output": []}
        self.event("response.done", response={**response, **details})

    def types(self):
        """Return the types of the sent messages except ``session.update``."""
        return [m["type"] for m in self.sent if m["type"] != "session.update"]

    def outcomes(self):
        """Return the status of each ended response."""
        return [outcome.status for outcome in self.session.responses.outcomes]


# --- Configuration ----------------------------------------------------------------


def test_a_new_connection_is_configured_first():
    """It is ready when the service has confirmed the configuration."""
    harness = Harness()
    harness.open()
    assert [m["type"] for m in harness.sent] == ["session.update"]
    harness.event("session.created", session={"id": "sess_1", "expires_at": 1799})
    assert not harness.session.ready
    assert harness.session.connection.expires_at == 1799
    harness.event("session.updated", session={"id": "sess_1"})
    assert harness.session.ready
    assert harness.published == [events.Connected("sess_1", "gpt-realtime-2.1")]
    harness.event("session.updated", session={"id": "sess_1"})
    assert len(harness.published) == 1


def test_a_server_that_never_confirms_counts_as_ready_after_a_timeout():
    """The app gets an event about this."""
    harness = Harness(setup_grace=5.0)
    harness.open()
    harness.event("session.created", session={"id": "sess_1", "type": "realtime"})
    assert harness.session.deadline == 105.0
    harness.tick(104.9)
    assert not harness.session.ready
    harness.tick(105.0)
    assert harness.session.ready
    assert harness.session.deadline == 100.0 + 3540  # the replacement of the connection
    assert [type(e) for e in harness.published] == [
        events.ProtocolProblem,
        events.Connected,
    ]


def test_a_server_without_any_event_is_no_realtime_service():
    """Even though it accepted the websocket."""
    harness = Harness(setup_grace=5.0)
    harness.open()
    harness.tick(105.0)
    assert harness.error == "the service sent nothing within 5 s"
    assert not harness.session.ready
    assert harness.session.deadline is None


def test_the_connection_of_a_silent_service_is_closed_after_an_unanswered_keepalive():
    """Also if no caller waits for a response: the next one would never come."""
    harness = Harness(stall_after=30.0, setup_grace=5.0).connect()
    assert harness.session.deadline == 130.0
    harness.tick(130.0)
    assert harness.sent[-1]["session"] == {"type": "realtime"}
    assert harness.session.deadline == 135.0
    harness.tick(135.0)
    silent = "the service sent nothing for 35.0 s"
    assert harness.error == silent
    harness.now = 135.0
    harness.lose(silent)
    assert harness.published[-1] == events.ConnectionLost(silent)
    harness.now = 136.0
    harness.connect()
    assert harness.published[-1] == events.ConnectionRestored(1.0, 0)


def test_any_event_of_the_service_keeps_its_connection():
    harness = Harness(stall_after=30.0, setup_grace=5.0).connect()
    harness.tick(130.0)
    harness.now = 131.0
    harness.event("session.updated", session={"id": "sess_1", "type": "realtime"})
    assert harness.session.deadline == 161.0
    assert harness.error is None
    assert [type(event) for event in harness.published] == [events.Connected]


def test_an_error_about_the_keepalive_is_an_answer_and_not_reported():
    harness = Harness(stall_after=30.0, setup_grace=5.0).connect()
    harness.tick(130.0)
    harness.now = 131.0
    about = harness.sent[-1]["event_id"]
    harness.event("error", error={"code": "odd", "message": "no", "event_id": about})
    assert harness.session.deadline == 161.0
    assert [type(event) for event in harness.published] == [events.Connected]


def test_a_service_that_never_confirms_is_lost_when_a_response_stalls():
    """Such a service gets no keepalive."""
    harness = Harness(stall_after=30.0, setup_grace=5.0)
    harness.open()
    harness.event("session.created", session={"id": "sess_1", "type": "realtime"})
    harness.tick(105.0)
    harness.tick(200.0)
    assert harness.error is None
    harness.now = 200.0
    harness.say()
    harness.tick(230.0)
    assert harness.outcomes() == [Status.STALLED]
    assert harness.error == "the service sent nothing for 130.0 s"


def test_a_spoken_turn_without_any_response_is_stalled():
    """The service should have created one."""
    harness = Harness(stall_after=30.0).connect()
    harness.event("input_audio_buffer.speech_started", item_id="u1")
    harness.event("input_audio_buffer.speech_stopped", item_id="u1")
    harness.event("input_audio_buffer.committed", item_id="u1")
    assert harness.session.deadline == 130.0
    harness.tick(130.0)
    assert harness.outcomes() == [Status.STALLED]
    harness.begin()
    harness.done()
    assert harness.outcomes() == [Status.STALLED, Status.COMPLETED]


def test_an_error_about_a_needless_cancel_is_not_reported():
    """The response ended while the cancel was on its way."""
    harness = Harness().connect()
    harness.begin()
    harness.interrupt()
    cancel = next(m for m in harness.sent if m["type"] == "response.cancel")
    error = {"code": "response_cancel_not_active", "event_id": cancel["event_id"]}
    harness.event("error", error={**error, "message": "no active response"})
    assert not any(isinstance(e, events.ServiceError) for e in harness.published)


def test_a_refused_configuration_ends_the_session_with_the_reason():
    """An unknown voice would be refused again and again."""
    harness = Harness()
    harness.open()
    error = {"code": "invalid_value", "message": "no such voice", "event_id": "evt_1"}
    harness.event("error", error=error)
    assert harness.error == "invalid_value: no such voice"


def test_audio_waits_for_the_configuration():
    """Also on a new connection; the writer of the websocket is not woken before."""
    harness = Harness()
    harness.push(100)
    assert not harness.session.has_message
    harness.open()
    assert not harness.session.has_message
    assert harness.types() == []
    harness.event("session.updated", session={"id": "sess_1"})
    assert harness.types() == ["input_audio_buffer.append"] * 3
    assert not harness.session.has_message


# --- A spoken turn ----------------------------------------------------------------


def test_a_spoken_turn_gives_its_events_and_a_transcript():
    """The service sends the transcript last."""
    harness = Harness().connect()
    harness.event("input_audio_buffer.speech_started", item_id="u1", audio_start_ms=5)
    harness.event("input_audio_buffer.speech_stopped", item_id="u1", audio_end_ms=900)
    harness.event("input_audio_buffer.committed", item_id="u1", previous_item_id=None)
    harness.begin()
    harness.event("conversation.item.added", previous_item_id="u1", item={"id": "i1"})
    harness.speak("The answer ")
    harness.speak("is five.")
    place = {"response_id": "r1", "item_id": "i1", "content_index": 0}
    transcript = "response.output_audio_transcript.done"
    harness.event(transcript, **place, transcript="The answer is five.")
    harness.event("response.output_audio.done", **place)
    harness.done()
    kind = "conversation.item.input_audio_transcription.completed"
    harness.event(kind, item_id="u1", content_index=0, transcript=" Two plus three? ")

    assert [str(e) for e in harness.session.conversation.entries()] == [
        "User [audio]: Two plus three?",
        "Assistant [audio]: The answer is five.",
    ]
    (outcome,) = harness.session.responses.outcomes
    assert (outcome.status, outcome.text) == (Status.COMPLETED, "The answer is five.")
    assert [part for part, _ in harness.received_audio] == [Part("i1", 0)] * 2
    assert not harness.session.responses.responding
    assert [type(e) for e in harness.published[1:]] == [
        *(events.SpeechStarted, events.SpeechStopped, events.ResponseStarted),
        *(events.ResponseText, events.ResponseText, events.ResponseFinished),
        events.UserTranscript,
    ]


def test_beta_names_make_the_same_turn():
    """Azure and other servers still use them."""
    harness = Harness().connect()
    item = {"id": "i1", "type": "message", "role": "assistant", "content": []}
    place = {"response_id": "r1", "item_id": "i1", "content_index": 0}
    harness.event("response.created", response={"id": "r1"})
    harness.event("conversation.item.created", previous_item_id=None, item=item)
    harness.event("response.audio_transcript.delta", **place, delta="Hello.")
    harness.event("response.audio.delta", **place, delta="AAAA")
    harness.done()
    assert harness.session.responses.outcomes[0].text == "Hello."
    assert harness.received_audio == [(Part("i1", 0), b"\0\0\0")]


def test_a_late_response_created_changes_nothing():
    """Some servers send the first deltas before it."""
    harness = Harness().connect()
    harness.speak("Hello.")
    harness.event("response.created", response={"id": "r1"})
    harness.done()
    assert [type(e) for e in harness.published].count(events.ResponseStarted) == 1
    assert harness.outcomes() == [Status.COMPLETED]


def test_response_done_completes_items_that_were_not_streamed():
    """Some servers send the whole response at its end."""
    harness = Harness().connect()
    content = [{"type": "output_audio", "transcript": "All at once."}]
    item = {"id": "i9", "type": "message", "role": "assistant", "content": content}
    harness.event("response.created", response={"id": "r1"})
    harness.done(output=[item])
    assert harness.session.responses.outcomes[0].text == "All at once."
    (entry,) = harness.session.conversation.entries()
    assert (entry.medium, entry.complete) == ("audio", True)


# --- Barge-in ---------------------------------------------------------------------


def interrupted_harness(heard_ms=500):
    """Return a harness whose user interrupts a response in its middle."""
    harness = Harness().connect()
    harness.begin()
    harness.speak("one two three four", ms=1000)
    harness.listen(heard_ms)
    harness.break_in()
    return harness


def test_the_users_voice_clears_the_queue_and_truncates_the_item():
    harness = interrupted_harness()
    assert harness.session.playback.queued == 0
    truncate = harness.sent[-1]
    assert truncate["type"] == "conversation.item.truncate"
    assert (truncate["item_id"], truncate["content_index"]) == ("i1", 0)
    assert truncate["audio_end_ms"] == 500
    assert harness.published[-1] == events.Interrupted("i1", 500, 1000, "one two")
    (entry,) = harness.session.conversation.entries()
    assert (entry.content, entry.interrupted) == ("one two", True)


def test_later_deltas_of_an_interrupted_response_are_dropped():
    """The service had sent them already."""
    harness = interrupted_harness()
    played = len(harness.received_audio)
    harness.speak(" five six")
    harness.done("cancelled", status_details={"reason": "turn_detected"})
    harness.speak(" seven eight")
    assert len(harness.received_audio) == played
    (outcome,) = harness.session.responses.outcomes
    assert (outcome.status, outcome.text) == (Status.CANCELLED, "one two")
    assert outcome.reason == "turn_detected"
    assert harness.session.conversation.text("i1") == "one two"


def test_the_response_after_an_interruption_is_played():
    harness = interrupted_harness()
    harness.done("cancelled")
    harness.begin("r2", "i2")
    harness.speak("Yes?", response_id="r2", item_id="i2")
    assert harness.received_audio[-1][0] == Part("i2", 0)


def test_an_unfinished_response_with_an_empty_queue_is_truncated_too():
    harness = interrupted_harness(heard_ms=1020)
    assert harness.sent[-1]["audio_end_ms"] == 1000


def test_a_response_that_ended_but_still_plays_is_truncated():
    """Audio arrives faster than it plays, so the outcome is known long before."""
    harness = Harness().connect()
    harness.begin()
    harness.speak("one two three four", ms=1000)
    harness.done()
    harness.listen(260)
    harness.break_in()
    assert harness.sent[-1]["audio_end_ms"] == 260
    assert harness.session.conversation.text("i1") == "one"
    assert harness.outcomes() == [Status.COMPLETED]


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(1, 500))
def test_a_truncation_is_more_than_0_ms_and_at_most_the_received_audio(heard, received):
    harness = Harness().connect()
    harness.begin()
    harness.speak(ms=received)
    if heard:
        harness.listen(heard)
    harness.break_in()
    assert 0 < harness.sent[-1]["audio_end_ms"] <= received


def test_an_interruption_without_confirmation_counts_as_cancelled_after_the_grace():
    harness = interrupted_harness()
    assert harness.session.deadline == harness.now + 3.0
    harness.tick(harness.now + 3.0)
    assert harness.outcomes() == [Status.CANCELLED]
    harness.done("cancelled")
    assert harness.outcomes() == [Status.CANCELLED]


def test_with_interrupt_response_off_the_response_goes_on():
    harness = Harness(SessionConfig(turn_detection=ServerVad(interrupt_response=False)))
    harness.connect()
    harness.begin()
    harness.speak()
    harness.break_in()
    assert harness.session.playback.queued
    assert not any(isinstance(event, events.Interrupted) for event in harness.published)


def test_a_response_is_interrupted_once():
    """By the user or the app, however often."""
    harness = Harness().connect()
    harness.begin()
    harness.speak("one two three four", ms=1000)
    for _ in range(2):
        harness.interrupt()
    assert harness.types() == ["response.cancel", "conversation.item.truncate"]
    assert [type(e) for e in harness.published].count(events.Interrupted) == 1


def test_a_response_that_has_not_begun_can_be_interrupted():
    """Nothing of it is played; the next question is answered."""
    harness = Harness().connect()
    harness.say("Tell me a story")
    harness.interrupt()
    harness.say("And now?")
    harness.begin()
    harness.speak()
    assert harness.received_audio == []
    assert harness.sent[-1]["type"] == "response.cancel"
    assert harness.sent[-1]["response_id"] == "r1"
    harness.done("cancelled")
    harness.begin("r2", "i2")
    harness.speak(response_id="r2", item_id="i2")
    harness.done(response_id="r2")
    assert harness.outcomes() == [Status.CANCELLED, Status.COMPLETED]
    assert len(harness.received_audio) == 1


def test_an_interruption_ends_with_its_connection():
    harness = Harness().connect()
    harness.say("Tell me a story")
    harness.interrupt()
    harness.lose("broken")
    harness.connect()
    harness.say("And now?")
    harness.begin()
    harness.speak()
    assert len(harness.received_audio) == 1


def test_audio_of_a_lost_connection_is_truncated_locally_only():
    """The new connection has the response as text, without audio."""
    harness = Harness().connect()
    harness.begin()
    harness.speak("one two three four", ms=1000)
    harness.done()
    harness.lose("broken")
    harness.connect()
    harness.sent.clear()
    harness.listen(500)
    harness.interrupt()
    assert harness.types() == []
    (entry,) = harness.session.conversation.entries()
    assert (entry.content, entry.interrupted) == ("one two", True)


def test_an_interruption_by_the_app_also_cancels_the_response():
    harness = Harness().connect()
    harness.begin()
    harness.speak(ms=1000)
    harness.interrupt()
    assert harness.types()[-2:] == ["response.cancel", "conversation.item.truncate"]
    assert harness.sent[-2]["response_id"] == "r1"
    assert harness.session.playback.queued == 0


# --- Outcomes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "details", "reason"),
    [
        ("completed", {}, ""),
        ("cancelled", {"reason": "client_cancelled"}, "client_cancelled"),
        ("incomplete", {"reason": "max_output_tokens"}, "max_output_tokens"),
        ("failed", {"error": {"code": "oops", "message": "sorry"}}, "oops: sorry"),
        ("failed", None, "failed"),
    ],
)
def test_an_outcome_has_the_status_and_reason_of_the_service(status, details, reason):
    harness = Harness().connect()
    harness.begin()
    harness.done(status, status_details=details)
    (outcome,) = harness.session.responses.outcomes
    assert (outcome.status, outcome.reason) == (status, reason)
    assert harness.published[-1] == events.ResponseFinished(outcome)


def test_a_lost_connection_ends_the_response_as_lost():
    """And one that was requested and had not begun."""
    harness = Harness().connect()
    harness.say()
    harness.lose("1006")
    harness.connect()
    harness.begin()
    harness.speak("one two")
    harness.lose("1001 going away")
    first, second = harness.session.responses.outcomes
    assert (first.status, first.response_id) == (Status.LOST, "")
    assert (second.status, second.text) == (Status.LOST, "one two")
    assert second.reason == "1001 going away"
    assert not harness.session.responses.responding
    assert not harness.session.ready


def test_a_spoken_question_whose_response_had_not_begun_is_lost_with_its_connection():
    """A waiting caller gets that outcome."""
    harness = Harness().connect()
    harness.event("input_audio_buffer.committed", item_id="u1", previous_item_id=None)
    harness.lose("broken")
    assert harness.outcomes() == [Status.LOST]
    harness.lose("broken again")
    assert len(harness.outcomes()) == 1


def test_a_turn_that_was_committed_is_over():
    """Even without ``speech_stopped``."""
    harness = Harness().connect()
    harness.event("input_audio_buffer.speech_started", item_id="u1")
    harness.event("input_audio_buffer.committed", item_id="u1")
    harness.begin()
    harness.done()
    harness.lose("it broke")
    assert harness.outcomes() == [Status.COMPLETED]


def test_a_turn_that_had_only_begun_is_lost_with_its_connection():
    """No service received it completely."""
    harness = Harness().connect()
    harness.event("input_audio_buffer.speech_started", item_id="u1")
    harness.lose("it broke")
    assert harness.outcomes() == [Status.LOST]
    harness.connect()
    harness.lose("it broke")
    assert harness.outcomes() == [Status.LOST]


def test_a_spoken_question_that_was_answered_is_not_lost():
    """Nor one that the service was not to answer."""
    harness = Harness().connect()
    harness.event("input_audio_buffer.committed", item_id="u1", previous_item_id=None)
    harness.begin()
    harness.done()
    harness.lose("broken")
    assert harness.outcomes() == [Status.COMPLETED]
    harness = Harness(SessionConfig(turn_detection=None)).connect()
    harness.event("input_audio_buffer.committed", item_id="u1", previous_item_id=None)
    harness.lose("broken")
    assert harness.outcomes() == []


def test_a_response_without_further_events_is_stalled():
    """A missing response.done must not block a caller."""
    harness = Harness(stall_after=30.0).connect()
    harness.begin()
    harness.now += 20
    harness.speak("one")
    assert harness.session.deadline == harness.now + 30
    harness.tick(harness.now + 29.9)
    assert harness.outcomes() == []
    harness.tick(harness.now + 30)
    assert harness.outcomes() == [Status.STALLED]
    assert [m["type"] for m in harness.sent[-2:]] == [
        "response.cancel",
        "session.update",
    ]
    harness.speak("two")  # too late
    harness.done()
    assert harness.outcomes() == [Status.STALLED]
    assert harness.session.conversation.text("i1") == "one"


def test_a_requested_response_that_never_begins_is_stalled():
    harness = Harness(stall_after=30.0).connect()
    harness.say()
    harness.tick(harness.now + 30)
    assert harness.outcomes() == [Status.STALLED]


def test_at_the_end_of_the_session_responses_are_lost_without_a_lost_connection():
    harness = Harness().connect()
    harness.begin()
    harness.session.end("stopped", harness.now)
    harness.take()
    assert harness.outcomes() == [Status.LOST]
    assert not any(isinstance(e, events.ConnectionLost) for e in harness.published)


@pytest.mark.parametrize("code", sorted(messages.FATAL_CODES))
def test_a_response_that_failed_for_a_fatal_reason_ends_the_session(code):
    """The next one would fail as well."""
    harness = Harness().connect()
    harness.begin()
    harness.done("failed", status_details={"error": {"code": code, "message": "no"}})
    assert harness.outcomes() == [Status.FAILED]
    assert harness.error == f"{code}: {code}: no"


# --- Errors -----------------------------------------------------------------------


def test_an_error_is_an_event_with_its_client_message_and_the_session_goes_on():
    harness = Harness().connect()
    harness.say("Hi", trigger=False)
    about = harness.sent[-1]["event_id"]
    error = {"code": "bad", "message": "no", "event_id": about, "type": "x"}
    harness.event("error", error=error)
    item = "conversation.item.create"
    assert harness.published[-1] == events.ServiceError(
        "bad", "no", about, item, fatal=False
    )
    assert harness.error is None
    assert harness.session.ready
    # The service does not have the item, so the session drops it.
    assert harness.session.conversation.entries() == []


def test_a_refused_request_has_failed_with_the_reason():
    harness = Harness().connect()
    harness.say()
    about = harness.sent[-1]["event_id"]
    harness.event("error", error={"code": "bad", "message": "no", "event_id": about})
    (outcome,) = harness.session.responses.outcomes
    assert (outcome.status, outcome.reason) == (Status.FAILED, "bad: no")


def test_a_request_during_a_response_is_repeated_after_it():
    """The service had begun to answer the user's voice at the same moment."""
    harness = Harness().connect()
    request = harness.say()
    code = "conversation_already_has_active_response"
    about = harness.sent[-1]["event_id"]
    harness.begin()
    harness.event("error", error={"code": code, "message": "busy", "event_id": about})
    assert harness.types().count("response.create") == 1
    harness.done()
    assert request.outcome is None
    assert harness.types().count("response.create") == 2
    harness.begin("r2", "i2")
    harness.done(response_id="r2")
    assert request.outcome is not None
    assert request.outcome.response_id == "r2"
    assert harness.outcomes() == [Status.COMPLETED] * 2


def test_a_request_that_an_unknown_response_blocks_is_repeated_with_delays():
    harness = Harness().connect()
    request = harness.say()
    code = "conversation_already_has_active_response"
    for _ in range(3):
        about = harness.sent[-1]["event_id"]
        harness.event(
            "error", error={"code": code, "message": "busy", "event_id": about}
        )
        asked = harness.types().count("response.create")
        assert harness.session.deadline == harness.now + 0.5
        harness.tick(harness.now + 0.4)
        assert harness.types().count("response.create") == asked
        harness.now += 0.5
        harness.tick(harness.now)
        assert harness.types().count("response.create") == asked + 1
    harness.begin()
    harness.done()
    assert request.outcome is not None
    assert request.outcome.response_id == "r1"
    assert harness.outcomes() == [Status.COMPLETED]


def test_a_request_that_waits_to_be_repeated_is_lost_with_its_connection():
    harness = Harness().connect()
    harness.say()
    code = "conversation_already_has_active_response"
    about = harness.sent[-1]["event_id"]
    harness.event("error", error={"code": code, "message": "busy", "event_id": about})
    harness.lose("broke")
    assert harness.outcomes() == [Status.LOST]


def test_a_response_that_is_announced_late_precedes_the_requested_one():
    """The service refused the request because of it."""
    harness = Harness().connect()
    request = harness.say()
    code = "conversation_already_has_active_response"
    about = harness.sent[-1]["event_id"]
    harness.event("error", error={"code": code, "message": "busy", "event_id": about})
    harness.begin()
    harness.done()
    assert request.outcome is None
    assert harness.types().count("response.create") == 2
    harness.begin("r2", "i2")
    harness.done(response_id="r2")
    assert request.outcome is not None
    assert request.outcome.response_id == "r2"
    assert harness.outcomes() == [Status.COMPLETED] * 2


@pytest.mark.parametrize("code", sorted(messages.FATAL_CODES))
def test_fatal_codes_end_the_session(code):
    harness = Harness().connect()
    harness.event("error", error={"code": code, "message": "no"})
    assert harness.error == f"{code}: no"
    assert harness.published[-1].fatal


def test_an_expired_session_is_dialled_again():
    """It ends after an hour, and some servers leave the socket open."""
    harness = Harness().connect()
    harness.event("error", error={"code": "session_expired", "message": "60 minutes"})
    assert harness.error == "the session has expired: session_expired: 60 minutes"


def test_unknown_events_are_passed_on():
    """The app may use events that this package does not know."""
    harness = Harness().connect()
    harness.event("response.telepathy.delta", delta="hm")
    assert harness.published[-1].type == "response.telepathy.delta"
    assert harness.published[-1].data["delta"] == "hm"


def test_all_events_of_the_official_sdk_are_known_except_those_of_unused_features():
    """Remote tools and telephone keys are passed on like unknown events."""
    (union, *_) = get_args(RealtimeServerEvent)
    named = (
        get_args(event.model_fields["type"].annotation) for event in get_args(union)
    )
    unknown = set()
    for kind in {kind for kinds in named for kind in kinds}:
        harness = Harness().connect()
        harness.event(kind)
        unknown |= {
            e.type for e in harness.published if isinstance(e, events.UnknownEvent)
        }
    assert unknown
    assert all("mcp" in kind or "dtmf" in kind for kind in unknown)


def test_events_without_a_use_are_only_in_the_event_log():
    harness = Harness().connect()
    told = len(harness.published)
    harness.event("rate_limits.updated", rate_limits=[])
    harness.event("conversation.item.truncated", item_id="i1")
    assert len(harness.published) == told


def test_invalid_audio_is_skipped_and_reported():
    """The rest of the response plays."""
    harness = Harness().connect()
    place = {"response_id": "r1", "item_id": "i1", "content_index": 0}
    harness.event("response.output_audio.delta", **place, delta="%%%")
    assert isinstance(harness.published[-1], events.ProtocolProblem)
    harness.speak()
    harness.done()
    assert len(harness.received_audio) == 1
    assert harness.outcomes() == [Status.COMPLETED]


def test_a_malformed_frame_is_skipped_and_reported():
    harness = Harness().connect()
    harness.session.receive_data(b"[]", harness.now)
    harness.take()
    assert harness.published[-1] == events.ProtocolProblem("not an object: b'[]'")
    assert harness.session.ready


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "item", "role", "content", "response", "status", "error", "code"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
KNOWN_TYPES = st.sampled_from(sorted(Session(SessionConfig())._handlers))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            KNOWN_TYPES,
            st.dictionaries(
                st.sampled_from(
                    [
                        "item",
                        "item_id",
                        "response",
                        "response_id",
                        "delta",
                        "error",
                        "session",
                        "content_index",
                        "transcript",
                        "previous_item_id",
                    ]
                ),
                JSON,
            ),
        ),
        max_size=12,
    )
)
def test_no_event_of_any_shape_breaks_the_session(server_events):
    """Known types with hostile contents; the sent messages stay valid."""
    harness = Harness().connect()
    for kind, fields in server_events:
        harness.event(kind, **fields)
        if harness.session.state is State.CLOSING:
            harness.lose()
            harness.connect()
    harness.interrupt()
    harness.tick(harness.now + 1000)
    assert not harness.session.responses.responding
    harness.lose("gone")


# --- The app's texts --------------------------------------------------------------


def test_a_text_is_sent_at_once_and_is_in_the_conversation():
    """With its request for a response."""
    harness = Harness().connect()
    harness.say(" Hello ")
    assert harness.types() == ["conversation.item.create", "response.create"]
    item = harness.sent[1]["item"]
    assert item["content"] == [{"type": "input_text", "text": "Hello"}]
    assert [str(e) for e in harness.session.conversation.entries()] == [
        "User [text]: Hello"
    ]
    assert harness.session.responses.responding


def test_texts_wait_while_a_response_is_under_way():
    """They are sent in order, up to the next request."""
    harness = Harness().connect()
    harness.begin()
    harness.say("one", trigger=False)
    harness.say("two")
    harness.say("three", role="system", trigger=False)
    assert harness.types() == []
    harness.done()
    create, ask = "conversation.item.create", "response.create"
    assert harness.types() == [create, create, ask]
    harness.begin("r2", "i2")
    harness.done(response_id="r2")
    assert harness.types() == [create, create, ask, create]
    assert harness.sent[-1]["item"]["role"] == "system"


def test_texts_wait_for_the_connection():
    """Before the start, and while the connection is lost."""
    harness = Harness()
    harness.say()
    assert harness.sent == []
    harness.connect()
    assert harness.types() == ["conversation.item.create", "response.create"]


def test_the_servers_item_of_a_sent_text_is_no_second_item():
    """With the client's id, or with the server's own."""
    harness = Harness().connect()
    harness.say("Hello", trigger=False)
    content = [{"type": "input_text", "text": "Hello"}]
    ours = {**harness.sent[-1]["item"], "status": "completed"}
    harness.event("conversation.item.added", previous_item_id=None, item=ours)
    harness.say("Hello", trigger=False)
    theirs = {"id": "x7", "type": "message", "role": "user", "content": content}
    harness.event("conversation.item.added", previous_item_id=ours["id"], item=theirs)
    harness.event("conversation.item.done", previous_item_id=ours["id"], item=theirs)
    harness.event("conversation.item.added", previous_item_id="x7", item={"id": "x8"})
    assert [e.content for e in harness.session.conversation.entries()] == ["Hello"] * 2


def test_the_status_message_follows_each_finished_response():
    """As a system message, before the queued texts."""
    harness = Harness().connect()
    harness.session.set_status("It is noon.")
    assert harness.types() == []
    for number in (1, 2):
        harness.begin(f"r{number}", f"i{number}")
        harness.say("next", trigger=False)
        harness.done(response_id=f"r{number}")
    assert [m["item"]["role"] for m in harness.sent if "item" in m] == [
        "system",
        "user",
    ] * 2
    harness.session.set_status("")
    harness.begin("r3", "i3")
    harness.done(response_id="r3")
    assert harness.types().count("conversation.item.create") == 4


# --- Requests ---------------------------------------------------------------------


def test_the_latest_request_is_the_last_whose_outcome_was_not_handed_out():
    harness = Harness().connect()
    responses = harness.session.responses
    assert responses.latest is None
    request = harness.say()
    assert responses.latest is request
    harness.begin()
    harness.done()
    assert responses.latest is request
    responses.handed_out(request)
    assert responses.latest is None


def test_each_request_has_the_outcome_of_its_own_response():
    """A response under way comes before both."""
    harness = Harness().connect()
    harness.begin()
    one, two = harness.say("one"), harness.say("two")
    harness.done()
    assert (one.outcome, two.outcome) == (None, None)
    for number in (2, 3):
        harness.begin(f"r{number}", f"i{number}")
        harness.done(response_id=f"r{number}")
    assert one.outcome.response_id == "r2"
    assert two.outcome.response_id == "r3"


def test_a_request_that_was_sent_is_lost_with_its_connection_and_a_queued_one_is_not():
    harness = Harness().connect()
    one, two = harness.say("one"), harness.say("two")
    harness.lose()
    assert one.outcome.status is Status.LOST
    harness.connect()
    harness.begin()
    harness.done()
    assert two.outcome.response_id == "r1"


def test_a_request_that_is_refused_again_and_again_ends_as_failed():
    """The service knows of a response that never ends."""
    harness = Harness(stall_after=5.0).connect()
    request = harness.say()
    error = {"code": messages.RESPONSE_ACTIVE, "message": "Active."}
    for _ in range(20):
        asked = harness.sent[-1]
        assert asked["type"] == "response.create"
        harness.event("error", error={**error, "event_id": asked["event_id"]})
        if request.outcome is not None:
            break
        harness.now = harness.session.deadline
        harness.tick(harness.now)
    assert request.outcome.status is Status.FAILED
    assert request.outcome.reason == f"{messages.RESPONSE_ACTIVE}: refused for 5 s"
    assert harness.published[-1] == events.ResponseFinished(request.outcome)
    assert not harness.session.responses.must_repeat


def test_a_request_whose_response_calls_a_tool_has_the_outcome_of_the_next_response():
    harness = Harness().connect()
    request = harness.say()
    harness.event("response.created", response={"id": "r1"})
    call(harness)
    assert request.outcome is None
    answer(harness)
    harness.begin("r2", "i2")
    harness.done(response_id="r2")
    assert request.outcome is not None
    assert request.outcome.response_id == "r2"


def test_a_request_after_tools_survives_a_lost_connection():
    harness = Harness().connect()
    request = harness.say()
    harness.event("response.created", response={"id": "r1"})
    call(harness)
    harness.lose()
    harness.connect()
    answer(harness)
    harness.begin("r2", "i2")
    harness.done(response_id="r2")
    assert request.outcome is not None
    assert request.outcome.response_id == "r2"


# --- Another connection -----------------------------------------------------------


def test_a_new_connection_gets_the_conversation_as_text():
    """Interrupted responses as they were heard."""
    harness = Harness().connect()
    harness.event("input_audio_buffer.committed", item_id="u1", previous_item_id=None)
    kind = "conversation.item.input_audio_transcription.completed"
    harness.event(kind, item_id="u1", content_index=0, transcript="Count.")
    harness.begin()
    harness.speak("one two three four", ms=1000)
    harness.listen(500)
    harness.break_in()
    harness.done("cancelled")
    harness.say("Thanks", trigger=False)
    harness.lose("1006")
    harness.sent.clear()
    harness.now += 2.5
    harness.connect()
    replayed = [(m["item"]["role"], m["item"]["content"][0]) for m in harness.sent[1:]]
    assert replayed == [
        ("user", {"type": "input_text", "text": "Count."}),
        ("assistant", {"type": "output_text", "text": "one two"}),
        ("user", {"type": "input_text", "text": "Thanks"}),
    ]
    assert harness.published[-1] == events.ConnectionRestored(2.5, 3)


def test_the_servers_items_of_a_replay_are_no_new_items():
    """Whatever ids the new session gives them."""
    harness = Harness().connect()
    harness.say("one", trigger=False)
    harness.say("two", trigger=False)
    harness.lose("1006")
    harness.connect()
    previous = None
    for name, text in (("n1", "one"), ("n2", "two")):
        content = [{"type": "input_text", "text": text}]
        item = {"id": name, "type": "message", "role": "user", "content": content}
        harness.event("conversation.item.added", previous_item_id=previous, item=item)
        previous = name
    harness.event("input_audio_buffer.committed", item_id="u1", previous_item_id="n1")
    kind = "conversation.item.input_audio_transcription.completed"
    harness.event(kind, item_id="u1", content_index=0, transcript="between")
    contents = [e.content for e in harness.session.conversation.entries()]
    assert contents == ["one", "between", "two"]


def test_only_the_last_status_message_is_replayed():
    """It has replaced the others."""
    harness = Harness().connect()
    for number in (1, 2):
        harness.session.set_status(f"status {number}")
        harness.begin(f"r{number}", f"i{number}")
        harness.done(response_id=f"r{number}")
    harness.lose("1006")
    harness.sent.clear()
    harness.connect()
    assert [m["item"]["content"][0]["text"] for m in harness.sent[1:]] == ["status 2"]


def test_the_downtime_of_a_connection_that_is_lost_twice_counts_from_the_first_loss():
    harness = Harness().connect()
    harness.now = 100.0
    harness.lose("1006")
    harness.now = 101.0
    harness.lose("refused")
    harness.now = 103.0
    harness.connect()
    assert harness.published[-1] == events.ConnectionRestored(3.0, 0)


# --- Tools ------------------------------------------------------------------------


def call(harness, call_id="c1", response_id="r1", item_id="f1", *, done=True):
    """Let the service call a tool, with all events that announce a call."""
    item = {"id": item_id, "type": "function_call", "call_id": call_id, "name": "look"}
    place = {"response_id": response_id, "item_id": item_id}
    told = {"response_id": response_id}
    harness.event("response.output_item.added", **told, item={**item, "arguments": ""})
    harness.event("response.function_call_arguments.delta", **place, delta="{")
    harness.event("response.function_call_arguments.done", **place, arguments="{}")
    complete = {**item, "arguments": "{}", "status": "completed"}
    harness.event("response.output_item.done", **told, item=complete)
    if done:
        harness.done(response_id=response_id, output=[complete])


def answer(harness, call_id="c1", output="sunny"):
    """Let a tool of the app return its output."""
    result = events.ToolFinished(call_id, "look", output, 0.1)
    harness.session.tool_finished(result, harness.now)
    harness.take()


def test_tools_are_part_of_the_configuration():
    tool = {"type": "function", "name": "look", "parameters": {"type": "object"}}
    harness = Harness(SessionConfig(tools=(tool,))).connect()
    assert harness.sent[0]["session"]["tools"] == [tool]


def test_a_tool_is_called_once_and_a_response_to_its_output_requested():
    """However many events announce the call."""
    harness = Harness().connect()
    harness.event("response.created", response={"id": "r1"})
    call(harness)
    assert harness.tools == ["c1"]
    assert harness.types() == []
    assert harness.session.responses.outcomes[0].calls == ("look",)
    answer(harness)
    assert harness.types() == ["conversation.item.create", "response.create"]
    assert harness.sent[-2]["item"] == {
        "id": "item_realtalk_1",
        "type": "function_call_output",
        "call_id": "c1",
        "output": "sunny",
    }
    answer(harness)
    assert len(harness.types()) == 2


def test_a_call_with_a_single_event_is_made_too():
    """Some servers send fewer events."""
    harness = Harness().connect()
    place = {"response_id": "r1", "item_id": "f1", "call_id": "c1", "name": "look"}
    harness.event("response.function_call_arguments.done", **place, arguments="{}")
    assert harness.tools == ["c1"]


def test_the_output_of_a_quick_tool_waits_for_the_end_of_the_response():
    """The service would refuse a request meanwhile."""
    harness = Harness().connect()
    harness.event("response.created", response={"id": "r1"})
    call(harness, done=False)
    answer(harness)
    assert harness.types() == []
    harness.done()
    assert harness.types() == ["conversation.item.create", "response.create"]


def test_one_response_is_requested_when_all_tools_have_returned():
    harness = Harness().connect()
    harness.event("response.created", response={"id": "r1"})
    call(harness, "c1", done=False)
    call(harness, "c2", item_id="f2")
    answer(harness, "c2")
    assert harness.types() == ["conversation.item.create"]
    answer(harness, "c1")
    assert harness.types()[1:] == ["conversation.item.create", "response.create"]


@pytest.mark.parametrize("results_first", ["no result", "one of two"])
def test_a_text_is_sent_and_answered_while_tools_work(results_first):
    """Each request has the outcome of its own response."""
    harness = Harness().connect()
    question = harness.say()
    harness.event("response.created", response={"id": "r1"})
    call(harness, "c1", done=False)
    call(harness, "c2", item_id="f2")
    if results_first == "one of two":
        answer(harness, "c2")
    filler = harness.say("One moment.")
    assert harness.types()[-2:] == ["conversation.item.create", "response.create"]
    harness.begin("r2", "i2")
    for call_id in ("c1", "c2"):
        answer(harness, call_id)
    harness.done(response_id="r2")
    assert filler.outcome.response_id == "r2"
    assert question.state is RequestState.SENT
    assert harness.types()[-1] == "response.create"
    harness.begin("r3", "i3")
    harness.done(response_id="r3")
    assert question.outcome.response_id == "r3"


def test_a_tool_that_returns_before_the_filler_begins_is_answered_afterwards():
    harness = Harness().connect()
    question = harness.say()
    harness.event("response.created", response={"id": "r1"})
    call(harness)
    filler = harness.say("One moment.")
    answer(harness)
    harness.begin("r2", "i2")
    harness.done(response_id="r2")
    assert filler.outcome.response_id == "r2"
    assert question.state is RequestState.SENT
    harness.begin("r3", "i3")
    harness.done(response_id="r3")
    assert question.outcome.response_id == "r3"


def test_two_fillers_have_a_response_each_while_a_tool_works():
    harness = Harness().connect()
    harness.event("response.created", response={"id": "r1"})
    call(harness)
    fillers = [harness.say("One moment."), harness.say("Still looking.")]
    for number, filler in enumerate(fillers, start=2):
        harness.begin(f"r{number}", f"i{number}")
        harness.done(response_id=f"r{number}")
        assert filler.outcome.response_id == f"r{number}"


def cancel(harness, call_id="c1"):
    """Let a call of a tool be cancelled."""
    result = events.ToolFinished(
        *(call_id, "look", "error: cancelled", 0.1), failed=True, cancelled=True
    )
    harness.session.tool_finished(result, harness.now)
    harness.take()


def test_a_break_in_tells_which_calls_are_under_way():
    harness = Harness().connect()
    harness.event("response.created", response={"id": "r1"})
    call(harness)
    harness.break_in()
    assert harness.published[-1] == events.ToolsInterrupted(("c1",))
    answer(harness)
    harness.published.clear()
    harness.interrupt()
    assert harness.published == []


def test_a_cancelled_call_is_answered_without_asking_for_a_response():
    """The user's own words have one."""
    harness = Harness().connect()
    question = harness.say()
    harness.event("response.created", response={"id": "r1"})
    call(harness)
    harness.break_in()
    cancel(harness)
    assert harness.types()[-1] == "conversation.item.create"
    assert harness.sent[-1]["item"]["output"] == "error: cancelled"
    assert question.outcome.status is Status.CANCELLED
    assert question.outcome.reason == "cancelled while tools worked"
    assert harness.session.is_quiet
    answer(harness)  # too late
    assert harness.types()[-1] == "conversation.item.create"


def test_a_call_that_goes_on_after_a_break_in_gets_its_response():
    harness = Harness().connect()
    question = harness.say()
    harness.event("response.created", response={"id": "r1"})
    call(harness, "c1", done=False)
    call(harness, "c2", item_id="f2")
    harness.break_in()
    cancel(harness, "c1")
    assert question.state is RequestState.TOOLS
    answer(harness, "c2")
    assert harness.types()[-2:] == ["conversation.item.create", "response.create"]
    harness.begin("r2", "i2")
    harness.done(response_id="r2")
    assert question.outcome.response_id == "r2"


def test_an_interrupted_response_ends_once_although_its_call_is_cancelled():
    harness = Harness().connect()
    question = harness.say()
    harness.event("response.created", response={"id": "r1"})
    call(harness, done=False)
    harness.interrupt()
    cancel(harness)
    harness.done("cancelled")
    assert harness.outcomes() == [Status.CANCELLED]
    assert question.outcome.response_id == "r1"


def test_a_request_that_waits_for_tools_is_lost_with_the_session():
    harness = Harness().connect()
    question = harness.say()
    harness.event("response.created", response={"id": "r1"})
    call(harness)
    harness.session.end("stop_streaming", harness.now)
    cancel(harness)
    assert (question.outcome.status, question.outcome.reason) == (
        *(Status.LOST, "stop_streaming"),
    )
    assert len(harness.outcomes()) == 2


def loop(harness, steps):
    """Let the service call a tool in that many responses in a row."""
    for number in range(1, steps + 1):
        names = f"r{number}", f"c{number}", f"f{number}"
        harness.event("response.created", response={"id": names[0]})
        call(harness, names[1], names[0], names[2])
        if names[1] in harness.tools:
            answer(harness, names[1])


def test_calls_in_a_row_without_an_answer_are_bounded():
    harness = Harness(max_tool_steps=2).connect()
    question = harness.say()
    loop(harness, 3)
    assert harness.tools == ["c1", "c2"]
    assert harness.sent[-2]["item"]["output"] == (
        "error: no more than 2 responses in a row may call tools: answer now, without "
        "tools"
    )
    assert harness.sent[-1]["response"] == {"tool_choice": "none"}
    assert events.ToolLimitReached("c3", "look", 2) in harness.published
    harness.begin("r4", "i4")
    harness.done(response_id="r4")
    assert question.outcome.response_id == "r4"
    loop(harness, 0)
    harness.event("response.created", response={"id": "r5"})
    call(harness, "c5", "r5", "f5")
    assert harness.tools == ["c1", "c2", "c5"]
    answer(harness, "c5")
    assert "response" not in harness.sent[-1]


def test_a_service_that_never_answers_is_asked_no_more():
    harness = Harness(max_tool_steps=1).connect()
    question = harness.say()
    loop(harness, 3)
    assert harness.tools == ["c1"]
    assert question.outcome.status is Status.FAILED
    assert question.outcome.reason == (
        "the service called tools again and again, and did not answer"
    )
    assert harness.types()[-1] == "conversation.item.create"
    assert harness.session.is_quiet


def test_fillers_do_not_count_as_answers_of_a_loop():
    harness = Harness(max_tool_steps=2).connect()
    harness.say()
    for number in range(1, 4):
        harness.event("response.created", response={"id": f"r{number}"})
        call(harness, f"c{number}", f"r{number}", f"f{number}")
        if f"c{number}" in harness.tools:
            harness.say("One moment.")
            harness.begin(f"filler{number}", f"i{number}")
            harness.done(response_id=f"filler{number}")
            answer(harness, f"c{number}")
    assert harness.tools == ["c1", "c2"]


def test_calls_are_counted_anew_when_the_user_speaks():
    harness = Harness(max_tool_steps=1).connect()
    harness.say()
    loop(harness, 1)
    harness.break_in()
    harness.event("response.created", response={"id": "r2"})
    call(harness, "c2", "r2", "f2")
    assert harness.tools == ["c1", "c2"]


def test_no_response_is_requested_if_one_began_after_the_output():
    """The service made it with the tool's output."""
    harness = Harness().connect()
    harness.event("response.created", response={"id": "r1"})
    call(harness, "c1", done=False)
    call(harness, "c2", item_id="f2")
    answer(harness, "c1")
    harness.begin("r2", "i2")
    answer(harness, "c2")
    harness.done(response_id="r2")
    assert harness.types().count("response.create") == 1


def test_a_new_connection_gets_the_call_before_its_output():
    harness = Harness().connect()
    harness.event("response.created", response={"id": "r1"})
    call(harness)
    harness.lose("broken")
    answer(harness)
    assert harness.types() == []
    harness.connect()
    assert [m["item"]["type"] for m in harness.sent if "item" in m] == [
        "function_call",
        "function_call_output",
    ]
    assert harness.types()[-1] == "response.create"


def harness_with_an_answered_call(**known):
    """Return a session with one call, its output and the response to it."""
    harness = Harness().connect()
    harness.say("How is it?")
    harness.event("response.created", response={"id": "r1"})
    call(harness)
    answer(harness)
    answered = harness.sent[-2]["item"]
    harness.event(
        "conversation.item.added",
        item={**answered, **known},
        previous_item_id="f1",
    )
    harness.begin("r2", "i2")
    place = {"response_id": "r2", "item_id": "i2", "content_index": 0}
    harness.event("response.output_text.done", **place, text="Sunny.")
    harness.done(response_id="r2")
    harness.say("Thanks", trigger=False)
    harness.sent.clear()
    return harness


def replayed(harness):
    """Return kind and text or call of each item on the newest connection."""
    items = [m["item"] for m in harness.sent if "item" in m]
    return [
        (i["type"], i.get("call_id") or i["content"][0]["text"], i["id"]) for i in items
    ]


REPLAYED = [
    ("message", "How is it?", "item_realtalk_1"),
    ("function_call", "c1", "f1"),
    ("function_call_output", "c1", "item_realtalk_2"),
    ("message", "Sunny.", "i2"),
    ("message", "Thanks", "item_realtalk_3"),
]


@pytest.mark.parametrize("known", [{}, {"id": "item_of_the_service"}])
def test_every_new_connection_gets_calls_and_outputs_in_their_place(known):
    """The model would not know the outputs otherwise."""
    harness = harness_with_an_answered_call(**known)
    for _ in range(2):
        harness.lose("broken")
        harness.connect()
        assert replayed(harness) == REPLAYED
        assert harness.published[-1].replayed == 4
        assert "response.create" not in harness.types()
        harness.sent.clear()
    assert [e.content for e in harness.session.conversation.entries()] == [
        "How is it?",
        "Sunny.",
        "Thanks",
    ]


def test_a_call_that_returned_between_connections_is_replayed_once():
    harness = Harness().connect()
    harness.event("response.created", response={"id": "r1"})
    call(harness)
    harness.lose("broken")
    harness.connect()
    assert replayed(harness) == []
    answer(harness)
    both = [
        ("function_call", "c1", "f1"),
        ("function_call_output", "c1", "item_realtalk_1"),
    ]
    assert replayed(harness) == both
    harness.begin("r2", "i2")
    harness.done(response_id="r2")
    harness.sent.clear()
    harness.lose("broken")
    harness.connect()
    assert replayed(harness) == both


def test_an_interrupted_response_calls_no_tool():
    harness = Harness().connect()
    harness.event("response.created", response={"id": "r1"})
    harness.interrupt()
    call(harness)
    assert harness.tools == []


# --- Push-to-harness -----------------------------------------------------------------


def push_to_talk():
    """Return a connected session with push-to-harness."""
    input_filter = InputFilter(push_to_talk=True)
    config = SessionConfig(turn_detection=None)
    return Harness(config, input_filter=input_filter).connect()


def kinds(harness):
    """Return the types of the sent messages, without audio."""
    return [kind for kind in harness.types() if kind != "input_audio_buffer.append"]


def test_a_turn_of_push_to_talk_is_committed_and_answered():
    """The buffer of the service is cleared at its beginning."""
    harness = push_to_talk()
    harness.start_turn()
    harness.push(100)
    assert harness.end_turn()
    request = harness.session.responses.latest
    assert kinds(harness) == [
        "input_audio_buffer.clear",
        "input_audio_buffer.commit",
        "response.create",
    ]
    harness.begin()
    harness.done()
    assert request.outcome.completed


def test_a_turn_is_committed_after_all_of_its_audio():
    """The recorder delivers faster than the websocket sends."""
    harness = push_to_talk()
    harness.start_turn()
    harness.session.push_audio(bytes(500 * 48), harness.now)
    harness.end_turn()
    sent = [m["type"] for m in harness.sent]
    assert sent.count("input_audio_buffer.append") == 13
    assert sent[-3:] == [
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "response.create",
    ]


def test_a_turn_waits_for_the_interrupted_response_to_end():
    """The service accepts one request at a time."""
    harness = push_to_talk()
    harness.begin()
    harness.start_turn()
    harness.push(500)
    harness.end_turn()
    assert "response.create" not in harness.types()
    assert harness.types()[-1] == "input_audio_buffer.commit"
    harness.done("cancelled")
    assert harness.types()[-1] == "response.create"
    assert harness.session.responses.latest.outcome is None


def test_a_turn_that_is_lost_with_its_connection_has_the_outcome_lost():
    harness = push_to_talk()
    harness.start_turn()
    harness.push(200)
    harness.lose()
    harness.end_turn()
    harness.connect()
    assert harness.outcomes() == [Status.LOST]
    assert harness.session.responses.latest.outcome.status is Status.LOST
    assert "input_audio_buffer.commit" not in harness.types()


def test_a_turn_that_ends_while_the_connection_is_lost_is_sent_when_it_is_back():
    harness = push_to_talk()
    harness.start_turn()
    harness.lose()
    harness.push(200)
    harness.end_turn()
    harness.connect()
    assert harness.types()[-2:] == ["input_audio_buffer.commit", "response.create"]


def test_a_turn_that_is_followed_by_another_before_it_was_sent_is_cancelled():
    harness = push_to_talk()
    harness.start_turn()
    harness.lose()
    harness.push(200)
    harness.end_turn()
    harness.start_turn()
    assert harness.outcomes() == [Status.CANCELLED]


def test_a_discarded_turn_is_cleared_here_and_at_the_service():
    harness = push_to_talk()
    harness.start_turn()
    harness.session.push_audio(bytes(9600), harness.now)
    assert not harness.end_turn(discard=True)
    assert harness.types() == ["input_audio_buffer.clear"] * 2
    assert harness.outcomes() == []


def test_a_turn_that_is_too_short_is_cancelled():
    harness = push_to_talk()
    harness.start_turn()
    harness.push(99)
    assert not harness.end_turn()
    assert harness.outcomes() == [Status.CANCELLED]
    assert "input_audio_buffer.commit" not in harness.types()


# --- Replacing a connection before it expires -------------------------------------


def expiring(wall=1_000_000.0, lifetime=3600):
    """Return a harness on a connection that the service will end."""
    harness = Harness()
    harness.open(wall)
    told = {"id": "sess_1", "expires_at": wall + lifetime}
    harness.event("session.created", session=told)
    harness.event("session.updated", session=told)
    return harness


def tick(harness, now):
    """Let the time pass to *now*; return whether the connection is left."""
    harness.now = now
    harness.tick(now)
    closing = harness.session.state is State.CLOSING
    return closing and harness.session.connection.error is None


def test_a_quiet_connection_is_replaced_a_minute_before_it_expires():
    """Once, with an event."""
    harness = expiring()
    assert not tick(harness, 100.0 + 3539)
    assert tick(harness, 100.0 + 3540)
    assert harness.published[-1] == events.ConnectionRecycled(3540.0)
    assert not harness.session.ready
    assert harness.session.deadline is None
    harness.now += 0.5
    harness.connect()
    assert harness.published[-1] == events.ConnectionRestored(0.5, 0)
    assert harness.session.ready


def test_a_connection_is_replaced_only_while_user_model_tools_and_button_are_idle():
    """Two seconds after the last of them."""
    harness = expiring()
    harness.now = 100.0 + 3539
    harness.event("input_audio_buffer.speech_started", item_id="u1")
    assert not tick(harness, 100.0 + 3541)
    harness.event("input_audio_buffer.speech_stopped", item_id="u1")
    assert not tick(harness, 100.0 + 3542)
    harness.begin()
    assert not tick(harness, 100.0 + 3550)
    call(harness)
    assert not tick(harness, 100.0 + 3555)
    answer(harness)
    harness.begin("r2", "i2")
    harness.done(response_id="r2")
    harness.start_turn()
    assert not tick(harness, 100.0 + 3560)
    harness.end_turn(discard=True)
    assert not tick(harness, 100.0 + 3561.9)
    assert tick(harness, 100.0 + 3562)


# --- Random sequences -------------------------------------------------------------


class RandomSession(Harness):
    """A session whose service and app behave correctly, in a random order."""

    def __init__(self):
        super().__init__()
        self.number = 0
        self.questions = 0
        self.requests = []
        self.is_up = False
        self.pending = []  # calls that were not answered
        self.known = set()  # calls that this connection knows
        self.changes = []
        self.unconfirmed = 0  # changes that this connection got
        self.last_request = self.last_item = ""
        self.up()

    def call_tool(self, call_id):
        self.pending.append(call_id)
        self.known.add(call_id)

    def send(self, message):
        match message:
            case {"item": {"type": "function_call", "call_id": call_id}}:
                assert call_id not in self.known
                self.known.add(call_id)
            case {"item": {"type": "function_call_output", "call_id": call_id}}:
                assert call_id in self.known
        match message["type"]:
            case "session.update" if self.session.ready:
                self.unconfirmed += 1
            case "response.create":
                self.last_request = message["event_id"]
            case "conversation.item.create":
                self.last_item = message["event_id"]

    def up(self):
        if not self.is_up:
            self.is_up = True
            self.known.clear()
            self.last_request = self.last_item = ""
            self.unconfirmed = 0
            self.connect()

    def down(self):
        if self.is_up:
            self.is_up = False
            self.lose()

    def ask(self):
        self.questions += 1
        self.requests.append(self.say(f"question {self.questions}"))

    def tell(self):
        self.say("by the way", trigger=False)

    def start(self):
        """Let the service begin the requested response, if there is one."""
        if self.is_up and self.session.responses.sent_at is not None:
            self.number += 1
            self.begin(f"r{self.number}", f"i{self.number}")

    def current(self):
        return self.session.responses.newest if self.is_up else ""

    def talk_on(self):
        if response := self.current():
            self.speak("so ", 100, response, f"i{response[1:]}")

    def use_a_tool(self):
        if response := self.current():
            self.number += 1
            call(self, f"c{self.number}", response, f"f{self.number}", done=False)

    def finish(self):
        if response := self.current():
            self.done(response_id=response)

    def answer_a_call(self):
        if self.pending:
            answer(self, self.pending.pop(0))

    def cancel_a_call(self):
        if self.pending:
            cancel(self, self.pending.pop(0))

    def change(self):
        change = self.session.update_session({"instructions": "Sing."}, self.now)
        self.changes.append(change)
        self.take()

    def confirm(self):
        if self.unconfirmed:
            self.unconfirmed -= 1
            self.event("session.updated", session={})

    def refuse(self, event_id, code):
        if self.is_up and event_id:
            error = {"code": code, "message": "No.", "event_id": event_id}
            self.event("error", error=error)

    def refuse_a_request(self):
        if self.session.responses.sent_at is not None:
            self.refuse(self.last_request, messages.RESPONSE_ACTIVE)

    def refuse_a_message(self):
        self.refuse(self.last_item, "invalid_value")
        self.last_item = ""

    def wait(self):
        self.now += 7.0
        self.tick(self.now)
        if self.session.ready:  # prevents a keepalive
            self.event("rate_limits.updated")
        if self.session.state is State.CLOSING:
            if self.session.connection.error is None:
                self.is_up = False
                self.up()
            else:
                self.down()

    @property
    def is_idle(self):
        return self.session._outbox.is_idle

    def settle(self):
        """Let service and app finish everything that is under way."""
        self.up()
        for _ in range(200):
            responses = self.session.responses
            busy = responses.responding or not self.is_idle or self.unconfirmed
            if not busy and not self.pending and not responses.must_repeat:
                return
            if responses.must_repeat and not responses.responding:
                self.now += 0.5
                self.tick(self.now)
            self.confirm()
            self.answer_a_call()
            self.start()
            self.finish()
        pytest.fail("it never becomes idle")


ACTIONS = [
    *("up", "down", "ask", "tell", "start", "talk_on", "use_a_tool", "finish"),
    *("answer_a_call", "cancel_a_call", "interrupt", "wait", "change", "confirm"),
    *("refuse_a_request", "refuse_a_message"),
]


@given(st.lists(st.sampled_from(ACTIONS), max_size=40))
def test_every_request_has_one_outcome_in_any_order_of_events(
    actions,
):
    """And the next connection gets all texts, and no call twice."""
    session = RandomSession()
    for action in actions:
        getattr(session, action)()
    session.settle()
    finished = [
        event
        for event in session.published
        if isinstance(event, events.ResponseFinished)
    ]
    assert [event.outcome for event in finished] == list(
        session.session.responses.outcomes
    )
    assert len(finished) >= session.questions
    assert all(request.outcome for request in session.requests)
    assert all(change.is_over for change in session.changes)
    assert session.session.is_quiet
    session.down()
    session.sent.clear()
    session.up()
    history = session.session.conversation.history()
    told = [m["item"]["id"] for m in session.sent if "item" in m]
    expected = []
    for each in history:
        expected += [
            each.item_id,
            *([each.answer_id] if hasattr(each, "call_id") else []),
        ]
    assert told == expected
