"""The decisions of a session, without a network: events and the time in, decisions out."""

import base64
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import TypeAdapter

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.voice import events as words
from realtalk_async.voice.events import Status
from realtalk_async.voice.protocol import messages
from realtalk_async.voice.protocol.connection_state import State
from realtalk_async.voice.protocol.messages import (
    ServerVad,
    SessionConfig,
)
from realtalk_async.voice.protocol.microphone import InputFilter
from realtalk_async.voice.protocol.playback import Part
from realtalk_async.voice.protocol.session import Session

OFFICIAL = TypeAdapter[object](RealtimeClientEvent)


class Talk:
    """A session without a network, and what it sends, publishes and plays."""

    def __init__(self, config=None, **limits):
        self.session = Session(config or SessionConfig(), **limits)
        self.session.sound.add(self)
        self.now = 100.0
        self.sent = []
        self.told = []
        self.received_audio = []
        self.tools = []

    def recorded(self, pcm, at):
        pass

    def played(self, part, pcm, at):
        pass

    def received(self, part, pcm, at):
        self.received_audio.append((part, pcm))

    def take(self):
        """Take all that the session has to send and to say; check it with the SDK."""
        for event in self.session.events_received():
            self.told.append(event)
            if isinstance(event, words.ToolCalled):
                self.call_tool(event.call_id)
        while message := self.session.next_message(self.now):
            OFFICIAL.validate_python(message)
            assert message["event_id"]
            self.sent.append(message)
            self.send(message)
        self.told += self.session.events_received()

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
        """Let the time pass to *now*, unlike `self.now`."""
        self.session.tick(now)
        self.take()

    def interrupt(self):
        """Let the app interrupt."""
        self.session.interrupt(self.now)
        self.take()

    def listen(self, ms):
        """Play so many milliseconds: 60 at once, then 40 every 40 ms."""
        self.session.audio_due(self.now)
        for _ in range((ms - 60) // 40):
            self.now += 0.04
            self.session.audio_due(self.now)

    def break_in(self):
        """Let the service detect that the user speaks."""
        self.event("input_audio_buffer.speech_started", item_id="u2")

    def push(self, ms):
        """Let the recorder deliver so many milliseconds."""
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
        """Why the connection is to be closed."""
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
        """Let the service say a piece of a response."""
        place = {"response_id": response_id, "item_id": item_id, "content_index": 0}
        self.event("response.output_audio_transcript.delta", **place, delta=text)
        pcm = base64.b64encode(bytes(ms * 48)).decode()
        self.event("response.output_audio.delta", **place, delta=pcm)

    def done(self, status="completed", response_id="r1", **details):
        """Let the service end a response."""
        response = {"id": response_id, "status": status, "output": []}
        self.event("response.done", response={**response, **details})

    def types(self):
        """Return the types of all that was sent, the set-up left out."""
        return [m["type"] for m in self.sent if m["type"] != "session.update"]

    def outcomes(self):
        """Return how each response ended."""
        return [outcome.status for outcome in self.session.responses.outcomes]


# --- Setting up -------------------------------------------------------------------


def test_a_new_connection_is_set_up_first():
    """Ready is what the service has confirmed, not what we sent."""
    talk = Talk()
    talk.open()
    assert [m["type"] for m in talk.sent] == ["session.update"]
    talk.event("session.created", session={"id": "sess_1", "expires_at": 1799})
    assert not talk.session.ready
    assert talk.session.connection.expires_at == 1799
    talk.event("session.updated", session={"id": "sess_1"})
    assert talk.session.ready
    assert talk.told == [words.Connected("sess_1", "gpt-realtime-2.1")]
    talk.event("session.updated", session={"id": "sess_1"})
    assert len(talk.told) == 1


def test_a_server_that_never_confirms_is_taken_as_it_is():
    """After a while, and it is said."""
    talk = Talk(setup_grace=5.0)
    talk.open()
    talk.event("session.created", session={"id": "sess_1", "type": "realtime"})
    assert talk.session.deadline == 105.0
    talk.tick(104.9)
    assert not talk.session.ready
    talk.tick(105.0)
    assert talk.session.ready
    assert talk.session.deadline == 100.0 + 3540  # when the connection is left
    assert [type(e) for e in talk.told] == [words.ProtocolProblem, words.Connected]


def test_a_server_that_says_nothing_at_all_is_no_realtime_service():
    """Its websocket opened; that is not enough."""
    talk = Talk(setup_grace=5.0)
    talk.open()
    talk.tick(105.0)
    assert talk.error == "nothing came within 5 s"
    assert not talk.session.ready
    assert talk.session.deadline is None


def test_a_service_that_falls_silent_is_asked_and_left_if_it_does_not_answer():
    """Also while nobody waits for a response: the next one would never come."""
    talk = Talk(stall_after=30.0, setup_grace=5.0).connect()
    assert talk.session.deadline == 130.0
    talk.tick(130.0)
    assert talk.sent[-1]["session"] == {"type": "realtime"}
    assert talk.session.deadline == 135.0
    talk.tick(135.0)
    silent = "the service sent nothing for 35.0 s"
    assert talk.error == silent
    talk.now = 135.0
    talk.lose(silent)
    assert talk.told[-1] == words.ConnectionLost(silent)
    talk.now = 136.0
    talk.connect()
    assert talk.told[-1] == words.ConnectionRestored(1.0, 0)


def test_a_service_that_answers_is_not_left():
    """Whatever it says is a sign of life."""
    talk = Talk(stall_after=30.0, setup_grace=5.0).connect()
    talk.tick(130.0)
    talk.now = 131.0
    talk.event("session.updated", session={"id": "sess_1", "type": "realtime"})
    assert talk.session.deadline == 161.0
    assert talk.error is None
    assert [type(event) for event in talk.told] == [words.Connected]


def test_a_service_may_refuse_to_be_asked_whether_it_is_there():
    """That is an answer too, and no news for the app."""
    talk = Talk(stall_after=30.0, setup_grace=5.0).connect()
    talk.tick(130.0)
    talk.now = 131.0
    about = talk.sent[-1]["event_id"]
    talk.event("error", error={"code": "odd", "message": "no", "event_id": about})
    assert talk.session.deadline == 161.0
    assert [type(event) for event in talk.told] == [words.Connected]


def test_a_service_that_never_confirms_is_left_when_a_response_stalls_in_silence():
    """It cannot be asked; before that it is left in peace."""
    talk = Talk(stall_after=30.0, setup_grace=5.0)
    talk.open()
    talk.event("session.created", session={"id": "sess_1", "type": "realtime"})
    talk.tick(105.0)
    talk.tick(200.0)
    assert talk.error is None
    talk.now = 200.0
    talk.say()
    talk.tick(230.0)
    assert talk.outcomes() == [Status.STALLED]
    assert talk.error == "the service sent nothing for 130.0 s"


def test_a_spoken_turn_without_any_response_is_stalled():
    """The service had promised one."""
    talk = Talk(stall_after=30.0).connect()
    talk.event("input_audio_buffer.speech_started", item_id="u1")
    talk.event("input_audio_buffer.speech_stopped", item_id="u1")
    talk.event("input_audio_buffer.committed", item_id="u1")
    assert talk.session.deadline == 130.0
    talk.tick(130.0)
    assert talk.outcomes() == [Status.STALLED]
    talk.begin()
    talk.done()
    assert talk.outcomes() == [Status.STALLED, Status.COMPLETED]


def test_a_needless_cancel_is_no_news():
    """The response ended while we said so."""
    talk = Talk().connect()
    talk.begin()
    talk.interrupt()
    cancel = next(m for m in talk.sent if m["type"] == "response.cancel")
    error = {"code": "response_cancel_not_active", "event_id": cancel["event_id"]}
    talk.event("error", error={**error, "message": "no active response"})
    assert not any(isinstance(e, words.ServiceError) for e in talk.told)


def test_a_refused_set_up_ends_the_session_with_the_reason():
    """An unknown voice would be refused again and again."""
    talk = Talk()
    talk.open()
    error = {"code": "invalid_value", "message": "no such voice", "event_id": "evt_1"}
    talk.event("error", error=error)
    assert talk.error == "invalid_value: no such voice"


def test_audio_waits_for_the_configuration():
    """Also on a new connection; the writer of the websocket is not woken before."""
    talk = Talk()
    talk.push(100)
    assert not talk.session.has_message
    talk.open()
    assert not talk.session.has_message
    assert talk.types() == []
    talk.event("session.updated", session={"id": "sess_1"})
    assert talk.types() == ["input_audio_buffer.append"] * 3
    assert not talk.session.has_message


# --- A spoken turn ----------------------------------------------------------------


def test_a_spoken_turn_from_beginning_to_end():
    """In the order in which the service tells of it, the transcript last."""
    talk = Talk().connect()
    talk.event("input_audio_buffer.speech_started", item_id="u1", audio_start_ms=5)
    talk.event("input_audio_buffer.speech_stopped", item_id="u1", audio_end_ms=900)
    talk.event("input_audio_buffer.committed", item_id="u1", previous_item_id=None)
    talk.begin()
    talk.event("conversation.item.added", previous_item_id="u1", item={"id": "i1"})
    talk.speak("The answer ")
    talk.speak("is five.")
    place = {"response_id": "r1", "item_id": "i1", "content_index": 0}
    transcript = "response.output_audio_transcript.done"
    talk.event(transcript, **place, transcript="The answer is five.")
    talk.event("response.output_audio.done", **place)
    talk.done()
    heard = "conversation.item.input_audio_transcription.completed"
    talk.event(heard, item_id="u1", content_index=0, transcript=" Two plus three? ")

    assert [str(e) for e in talk.session.conversation.entries()] == [
        "User [audio]: Two plus three?",
        "Assistant [audio]: The answer is five.",
    ]
    (outcome,) = talk.session.responses.outcomes
    assert (outcome.status, outcome.text) == (Status.COMPLETED, "The answer is five.")
    assert [part for part, _ in talk.received_audio] == [Part("i1", 0)] * 2
    assert not talk.session.responses.responding
    assert [type(e) for e in talk.told[1:]] == [
        *(words.SpeechStarted, words.SpeechStopped, words.ResponseStarted),
        *(words.ResponseText, words.ResponseText, words.ResponseFinished),
        words.UserTranscript,
    ]


def test_beta_names_make_the_same_turn():
    """As Azure and other servers still say it."""
    talk = Talk().connect()
    item = {"id": "i1", "type": "message", "role": "assistant", "content": []}
    place = {"response_id": "r1", "item_id": "i1", "content_index": 0}
    talk.event("response.created", response={"id": "r1"})
    talk.event("conversation.item.created", previous_item_id=None, item=item)
    talk.event("response.audio_transcript.delta", **place, delta="Hello.")
    talk.event("response.audio.delta", **place, delta="AAAA")
    talk.done()
    assert talk.session.responses.outcomes[0].text == "Hello."
    assert talk.received_audio == [(Part("i1", 0), b"\0\0\0")]


def test_a_late_response_created_changes_nothing():
    """Some servers send the first deltas before it."""
    talk = Talk().connect()
    talk.speak("Hello.")
    talk.event("response.created", response={"id": "r1"})
    talk.done()
    assert [type(e) for e in talk.told].count(words.ResponseStarted) == 1
    assert talk.outcomes() == [Status.COMPLETED]


def test_the_final_list_of_items_fills_in_what_was_never_streamed():
    """A server may say it all at the end."""
    talk = Talk().connect()
    content = [{"type": "output_audio", "transcript": "All at once."}]
    item = {"id": "i9", "type": "message", "role": "assistant", "content": content}
    talk.event("response.created", response={"id": "r1"})
    talk.done(output=[item])
    assert talk.session.responses.outcomes[0].text == "All at once."
    (entry,) = talk.session.conversation.entries()
    assert (entry.medium, entry.complete) == ("audio", True)


# --- Barge-in ---------------------------------------------------------------------


def interrupted_talk(heard_ms=500):
    """Return a talk whose user interrupts a response in its middle."""
    talk = Talk().connect()
    talk.begin()
    talk.speak("one two three four", ms=1000)
    talk.listen(heard_ms)
    talk.break_in()
    return talk


def test_the_users_voice_silences_the_response_and_the_service_learns_what_was_heard():
    """Clear the queue, then truncate to the millisecond."""
    talk = interrupted_talk()
    assert talk.session.playback.queued == 0
    truncate = talk.sent[-1]
    assert truncate["type"] == "conversation.item.truncate"
    assert (truncate["item_id"], truncate["content_index"]) == ("i1", 0)
    assert truncate["audio_end_ms"] == 500
    assert talk.told[-1] == words.Interrupted("i1", 500, 1000, "one two")
    (entry,) = talk.session.conversation.entries()
    assert (entry.content, entry.interrupted) == ("one two", True)


def test_later_deltas_of_an_interrupted_response_are_dropped():
    """They were on their way already."""
    talk = interrupted_talk()
    played = len(talk.received_audio)
    talk.speak(" five six")
    talk.done("cancelled", status_details={"reason": "turn_detected"})
    talk.speak(" seven eight")
    assert len(talk.received_audio) == played
    (outcome,) = talk.session.responses.outcomes
    assert (outcome.status, outcome.text) == (Status.CANCELLED, "one two")
    assert outcome.reason == "turn_detected"
    assert talk.session.conversation.text("i1") == "one two"


def test_the_next_response_is_played_again():
    """Only the interrupted one is dropped."""
    talk = interrupted_talk()
    talk.done("cancelled")
    talk.begin("r2", "i2")
    talk.speak("Yes?", response_id="r2", item_id="i2")
    assert talk.received_audio[-1][0] == Part("i2", 0)


def test_a_response_that_played_all_that_came_is_truncated_too_while_more_would_come():
    """The queue was empty, but the response was not at its end."""
    talk = interrupted_talk(heard_ms=1020)
    assert talk.sent[-1]["audio_end_ms"] == 1000


def test_a_response_that_ended_but_still_plays_is_truncated():
    """Audio comes faster than it plays: the outcome was long known."""
    talk = Talk().connect()
    talk.begin()
    talk.speak("one two three four", ms=1000)
    talk.done()
    talk.listen(260)
    talk.break_in()
    assert talk.sent[-1]["audio_end_ms"] == 260
    assert talk.session.conversation.text("i1") == "one"
    assert talk.outcomes() == [Status.COMPLETED]


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(1, 500))
def test_the_truncation_is_within_what_the_service_takes(heard, received):
    """More than nothing, and not more than it sent."""
    talk = Talk().connect()
    talk.begin()
    talk.speak(ms=received)
    if heard:
        talk.listen(heard)
    talk.break_in()
    assert 0 < talk.sent[-1]["audio_end_ms"] <= received


def test_a_service_that_never_confirms_the_interruption_does_not_hang_us():
    """The response counts as cancelled after the grace."""
    talk = interrupted_talk()
    assert talk.session.deadline == talk.now + 3.0
    talk.tick(talk.now + 3.0)
    assert talk.outcomes() == [Status.CANCELLED]
    talk.done("cancelled")
    assert talk.outcomes() == [Status.CANCELLED]


def test_without_interruption_the_response_goes_on():
    """As it was asked of the service."""
    talk = Talk(SessionConfig(turn_detection=ServerVad(interrupt_response=False)))
    talk.connect()
    talk.begin()
    talk.speak()
    talk.break_in()
    assert talk.session.playback.queued
    assert not any(isinstance(event, words.Interrupted) for event in talk.told)


def test_a_response_is_interrupted_once():
    """Whoever does it, and however often."""
    talk = Talk().connect()
    talk.begin()
    talk.speak("one two three four", ms=1000)
    for _ in range(2):
        talk.interrupt()
    assert talk.types() == ["response.cancel", "conversation.item.truncate"]
    assert [type(e) for e in talk.told].count(words.Interrupted) == 1


def test_a_response_that_has_not_begun_can_be_interrupted():
    """Nothing of it is played; the next question is answered."""
    talk = Talk().connect()
    talk.say("Tell me a story")
    talk.interrupt()
    talk.say("And now?")
    talk.begin()
    talk.speak()
    assert talk.received_audio == []
    assert talk.sent[-1]["type"] == "response.cancel"
    assert talk.sent[-1]["response_id"] == "r1"
    talk.done("cancelled")
    talk.begin("r2", "i2")
    talk.speak(response_id="r2", item_id="i2")
    talk.done(response_id="r2")
    assert talk.outcomes() == [Status.CANCELLED, Status.COMPLETED]
    assert len(talk.received_audio) == 1


def test_what_was_interrupted_and_lost_does_not_concern_the_next_response():
    """An interruption is over with the connection."""
    talk = Talk().connect()
    talk.say("Tell me a story")
    talk.interrupt()
    talk.lose("broken")
    talk.connect()
    talk.say("And now?")
    talk.begin()
    talk.speak()
    assert len(talk.received_audio) == 1


def test_what_still_plays_of_a_lost_connection_is_cut_here_only():
    """The new one knows it as text, and has no audio of it to be cut."""
    talk = Talk().connect()
    talk.begin()
    talk.speak("one two three four", ms=1000)
    talk.done()
    talk.lose("broken")
    talk.connect()
    talk.sent.clear()
    talk.listen(500)
    talk.interrupt()
    assert talk.types() == []
    (entry,) = talk.session.conversation.entries()
    assert (entry.content, entry.interrupted) == ("one two", True)


def test_the_app_can_interrupt_too():
    """As if the user had spoken; the service is told to stop."""
    talk = Talk().connect()
    talk.begin()
    talk.speak(ms=1000)
    talk.interrupt()
    assert talk.types()[-2:] == ["response.cancel", "conversation.item.truncate"]
    assert talk.sent[-2]["response_id"] == "r1"
    assert talk.session.playback.queued == 0


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
def test_a_response_ends_as_the_service_says(status, details, reason):
    """With its reason."""
    talk = Talk().connect()
    talk.begin()
    talk.done(status, status_details=details)
    (outcome,) = talk.session.responses.outcomes
    assert (outcome.status, outcome.reason) == (status, reason)
    assert talk.told[-1] == words.ResponseFinished(outcome)


def test_a_lost_connection_ends_the_response_as_lost():
    """And one that was asked for and had not begun."""
    talk = Talk().connect()
    talk.say()
    talk.lose("1006")
    talk.connect()
    talk.begin()
    talk.speak("one two")
    talk.lose("1001 going away")
    first, second = talk.session.responses.outcomes
    assert (first.status, first.response_id) == (Status.LOST, "")
    assert (second.status, second.text) == (Status.LOST, "one two")
    assert second.reason == "1001 going away"
    assert not talk.session.responses.responding
    assert not talk.session.ready


def test_a_spoken_question_whose_response_had_not_begun_is_lost_with_its_connection():
    """Whoever waits for the response is told."""
    talk = Talk().connect()
    talk.event("input_audio_buffer.committed", item_id="u1", previous_item_id=None)
    talk.lose("broken")
    assert talk.outcomes() == [Status.LOST]
    talk.lose("broken again")
    assert len(talk.outcomes()) == 1


def test_a_turn_that_was_committed_is_over():
    """Even if nobody said that the user had stopped."""
    talk = Talk().connect()
    talk.event("input_audio_buffer.speech_started", item_id="u1")
    talk.event("input_audio_buffer.committed", item_id="u1")
    talk.begin()
    talk.done()
    talk.lose("it broke")
    assert talk.outcomes() == [Status.COMPLETED]


def test_a_turn_that_had_only_begun_is_lost_with_its_connection():
    """No service has heard it to its end; who waits for the response may say so."""
    talk = Talk().connect()
    talk.event("input_audio_buffer.speech_started", item_id="u1")
    talk.lose("it broke")
    assert talk.outcomes() == [Status.LOST]
    talk.connect()
    talk.lose("it broke")
    assert talk.outcomes() == [Status.LOST]


def test_a_spoken_question_that_was_answered_is_not_lost():
    """Nor one that the service was not to answer."""
    talk = Talk().connect()
    talk.event("input_audio_buffer.committed", item_id="u1", previous_item_id=None)
    talk.begin()
    talk.done()
    talk.lose("broken")
    assert talk.outcomes() == [Status.COMPLETED]
    talk = Talk(SessionConfig(turn_detection=None)).connect()
    talk.event("input_audio_buffer.committed", item_id="u1", previous_item_id=None)
    talk.lose("broken")
    assert talk.outcomes() == []


def test_a_response_about_which_nothing_more_comes_is_stalled():
    """A missing response.done must hang nobody."""
    talk = Talk(stall_after=30.0).connect()
    talk.begin()
    talk.now += 20
    talk.speak("one")
    assert talk.session.deadline == talk.now + 30
    talk.tick(talk.now + 29.9)
    assert talk.outcomes() == []
    talk.tick(talk.now + 30)
    assert talk.outcomes() == [Status.STALLED]
    assert [m["type"] for m in talk.sent[-2:]] == ["response.cancel", "session.update"]
    talk.speak("two")  # too late
    talk.done()
    assert talk.outcomes() == [Status.STALLED]
    assert talk.session.conversation.text("i1") == "one"


def test_a_response_that_was_asked_for_and_never_begins_is_stalled():
    """The service swallowed our question."""
    talk = Talk(stall_after=30.0).connect()
    talk.say()
    talk.tick(talk.now + 30)
    assert talk.outcomes() == [Status.STALLED]


def test_the_end_of_the_session_loses_what_is_under_way_without_a_lost_connection():
    """We closed it: nothing broke."""
    talk = Talk().connect()
    talk.begin()
    talk.session.end("stopped", talk.now)
    talk.take()
    assert talk.outcomes() == [Status.LOST]
    assert not any(isinstance(e, words.ConnectionLost) for e in talk.told)


@pytest.mark.parametrize("code", sorted(messages.FATAL_CODES))
def test_a_response_that_failed_for_a_fatal_reason_ends_the_session(code):
    """It would fail again, and cost the user's time."""
    talk = Talk().connect()
    talk.begin()
    talk.done("failed", status_details={"error": {"code": code, "message": "no"}})
    assert talk.outcomes() == [Status.FAILED]
    assert talk.error == f"{code}: {code}: no"


# --- Errors -----------------------------------------------------------------------


def test_an_error_is_told_with_what_it_is_about_and_the_session_goes_on():
    """Errors are events."""
    talk = Talk().connect()
    talk.say("Hi", trigger=False)
    about = talk.sent[-1]["event_id"]
    error = {"code": "bad", "message": "no", "event_id": about, "type": "x"}
    talk.event("error", error=error)
    item = "conversation.item.create"
    assert talk.told[-1] == words.ServiceError("bad", "no", about, item, fatal=False)
    assert talk.error is None
    assert talk.session.ready
    # It is not in the service's conversation, so not in ours.
    assert talk.session.conversation.entries() == []


def test_a_refused_question_has_failed():
    """Whoever waits for the response learns why there is none."""
    talk = Talk().connect()
    talk.say()
    about = talk.sent[-1]["event_id"]
    talk.event("error", error={"code": "bad", "message": "no", "event_id": about})
    (outcome,) = talk.session.responses.outcomes
    assert (outcome.status, outcome.reason) == (Status.FAILED, "bad: no")


def test_a_question_that_came_too_late_is_asked_again_after_the_response():
    """The service had begun to answer the user's voice in the same moment."""
    talk = Talk().connect()
    request = talk.say()
    code = "conversation_already_has_active_response"
    about = talk.sent[-1]["event_id"]
    talk.begin()
    talk.event("error", error={"code": code, "message": "busy", "event_id": about})
    assert talk.types().count("response.create") == 1
    talk.done()
    assert request.outcome is None
    assert talk.types().count("response.create") == 2
    talk.begin("r2", "i2")
    talk.done(response_id="r2")
    assert request.outcome.response_id == "r2"
    assert talk.outcomes() == [Status.COMPLETED] * 2


def test_a_question_that_an_unknown_response_bars_is_asked_again_at_leisure():
    """Not at once, and again and again: the service would be asked in a storm."""
    talk = Talk().connect()
    request = talk.say()
    code = "conversation_already_has_active_response"
    for _ in range(3):
        about = talk.sent[-1]["event_id"]
        talk.event("error", error={"code": code, "message": "busy", "event_id": about})
        asked = talk.types().count("response.create")
        assert talk.session.deadline == talk.now + 0.5
        talk.tick(talk.now + 0.4)
        assert talk.types().count("response.create") == asked
        talk.now += 0.5
        talk.tick(talk.now)
        assert talk.types().count("response.create") == asked + 1
    talk.begin()
    talk.done()
    assert request.outcome.response_id == "r1"
    assert talk.outcomes() == [Status.COMPLETED]


def test_a_question_that_was_to_be_asked_again_is_lost_with_its_connection():
    """Who waits for it would wait for ever."""
    talk = Talk().connect()
    talk.say()
    code = "conversation_already_has_active_response"
    about = talk.sent[-1]["event_id"]
    talk.event("error", error={"code": code, "message": "busy", "event_id": about})
    talk.lose("broke")
    assert talk.outcomes() == [Status.LOST]


def test_a_response_that_is_announced_late_comes_before_the_one_asked_for():
    """The question was refused because of it, before we knew of it."""
    talk = Talk().connect()
    request = talk.say()
    code = "conversation_already_has_active_response"
    about = talk.sent[-1]["event_id"]
    talk.event("error", error={"code": code, "message": "busy", "event_id": about})
    talk.begin()
    talk.done()
    assert request.outcome is None
    assert talk.types().count("response.create") == 2
    talk.begin("r2", "i2")
    talk.done(response_id="r2")
    assert request.outcome.response_id == "r2"
    assert talk.outcomes() == [Status.COMPLETED] * 2


@pytest.mark.parametrize("code", sorted(messages.FATAL_CODES))
def test_fatal_codes_end_the_session(code):
    """No second try can mend them."""
    talk = Talk().connect()
    talk.event("error", error={"code": code, "message": "no"})
    assert talk.error == f"{code}: no"
    assert talk.told[-1].fatal


def test_an_expired_session_is_dialled_again():
    """It ends after an hour, and some servers leave the socket open."""
    talk = Talk().connect()
    talk.event("error", error={"code": "session_expired", "message": "60 minutes"})
    assert talk.error == "the session is used up: session_expired: 60 minutes"


def test_unknown_events_are_passed_on():
    """Tomorrow's events are the app's to use."""
    talk = Talk().connect()
    talk.event("response.telepathy.delta", delta="hm")
    assert talk.told[-1].type == "response.telepathy.delta"
    assert talk.told[-1].data["delta"] == "hm"


def test_all_events_of_the_official_sdk_are_known_but_for_what_we_never_ask_for():
    """Remote tools and telephone keys are passed on like any unknown event."""
    (union, *_) = get_args(RealtimeServerEvent)
    named = (
        get_args(event.model_fields["type"].annotation) for event in get_args(union)
    )
    unknown = set()
    for kind in {kind for kinds in named for kind in kinds}:
        talk = Talk().connect()
        talk.event(kind)
        unknown |= {e.type for e in talk.told if isinstance(e, words.UnknownEvent)}
    assert unknown
    assert all("mcp" in kind or "dtmf" in kind for kind in unknown)


def test_events_without_use_are_not_told_of():
    """The event log has them."""
    talk = Talk().connect()
    told = len(talk.told)
    talk.event("rate_limits.updated", rate_limits=[])
    talk.event("conversation.item.truncated", item_id="i1")
    assert len(talk.told) == told


def test_bad_audio_is_skipped_and_said():
    """The rest of the response plays."""
    talk = Talk().connect()
    place = {"response_id": "r1", "item_id": "i1", "content_index": 0}
    talk.event("response.output_audio.delta", **place, delta="%%%")
    assert isinstance(talk.told[-1], words.ProtocolProblem)
    talk.speak()
    talk.done()
    assert len(talk.received_audio) == 1
    assert talk.outcomes() == [Status.COMPLETED]


def test_a_malformed_frame_is_said_and_skipped():
    """One bad frame must not end a conversation."""
    talk = Talk().connect()
    talk.session.receive_data(b"[]", talk.now)
    talk.take()
    assert talk.told[-1] == words.ProtocolProblem("not an object: b'[]'")
    assert talk.session.ready


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
def test_no_event_of_any_shape_breaks_the_session(events):
    """Known types with hostile contents; what we send stays valid."""
    talk = Talk().connect()
    for kind, fields in events:
        talk.event(kind, **fields)
        if talk.session.state is State.CLOSING:
            talk.lose()
            talk.connect()
    talk.interrupt()
    talk.tick(talk.now + 1000)
    assert not talk.session.responses.responding
    talk.lose("gone")


# --- The app's texts --------------------------------------------------------------


def test_a_text_is_sent_at_once_and_is_in_the_conversation():
    """With its question behind it."""
    talk = Talk().connect()
    talk.say(" Hello ")
    assert talk.types() == ["conversation.item.create", "response.create"]
    item = talk.sent[1]["item"]
    assert item["content"] == [{"type": "input_text", "text": "Hello"}]
    assert [str(e) for e in talk.session.conversation.entries()] == [
        "User [text]: Hello"
    ]
    assert talk.session.responses.responding


def test_texts_wait_while_a_response_is_under_way():
    """And go out in order, up to the next question."""
    talk = Talk().connect()
    talk.begin()
    talk.say("one", trigger=False)
    talk.say("two")
    talk.say("three", role="system", trigger=False)
    assert talk.types() == []
    talk.done()
    create, ask = "conversation.item.create", "response.create"
    assert talk.types() == [create, create, ask]
    talk.begin("r2", "i2")
    talk.done(response_id="r2")
    assert talk.types() == [create, create, ask, create]
    assert talk.sent[-1]["item"]["role"] == "system"


def test_texts_wait_for_the_connection():
    """Written before the start, or while it is down."""
    talk = Talk()
    talk.say()
    assert talk.sent == []
    talk.connect()
    assert talk.types() == ["conversation.item.create", "response.create"]


@pytest.mark.parametrize(("text", "role"), [("", "user"), (" \n", "user"), ("x", "me")])
def test_a_text_without_sense_is_refused(text, role):
    """At once, where the mistake is."""
    with pytest.raises(InvalidConfiguration):
        Session(SessionConfig()).send_text(text, role, 0.0, trigger_response=False)


def test_the_echo_of_a_text_is_not_a_second_one():
    """With our id, or with the server's own."""
    talk = Talk().connect()
    talk.say("Hello", trigger=False)
    content = [{"type": "input_text", "text": "Hello"}]
    ours = {**talk.sent[-1]["item"], "status": "completed"}
    talk.event("conversation.item.added", previous_item_id=None, item=ours)
    talk.say("Hello", trigger=False)
    theirs = {"id": "x7", "type": "message", "role": "user", "content": content}
    talk.event("conversation.item.added", previous_item_id=ours["id"], item=theirs)
    talk.event("conversation.item.done", previous_item_id=ours["id"], item=theirs)
    talk.event("conversation.item.added", previous_item_id="x7", item={"id": "x8"})
    assert [e.content for e in talk.session.conversation.entries()] == ["Hello"] * 2


def test_the_status_message_follows_each_finished_response():
    """As a system message, before the texts that wait."""
    talk = Talk().connect()
    talk.session.set_status("It is noon.")
    assert talk.types() == []
    for number in (1, 2):
        talk.begin(f"r{number}", f"i{number}")
        talk.say("next", trigger=False)
        talk.done(response_id=f"r{number}")
    assert [m["item"]["role"] for m in talk.sent if "item" in m] == [
        "system",
        "user",
    ] * 2
    talk.session.set_status("")
    talk.begin("r3", "i3")
    talk.done(response_id="r3")
    assert talk.types().count("conversation.item.create") == 4


# --- Requests ---------------------------------------------------------------------


def test_the_latest_request_is_the_last_whose_outcome_was_not_handed_out():
    talk = Talk().connect()
    responses = talk.session.responses
    assert responses.latest is None
    request = talk.say()
    assert responses.latest is request
    talk.begin()
    talk.done()
    assert responses.latest is request
    responses.handed_out(request)
    assert responses.latest is None


def test_each_request_has_the_outcome_of_its_own_response():
    """A response under way comes before both."""
    talk = Talk().connect()
    talk.begin()
    one, two = talk.say("one"), talk.say("two")
    talk.done()
    assert (one.outcome, two.outcome) == (None, None)
    for number in (2, 3):
        talk.begin(f"r{number}", f"i{number}")
        talk.done(response_id=f"r{number}")
    assert one.outcome.response_id == "r2"
    assert two.outcome.response_id == "r3"


def test_a_request_that_was_sent_is_lost_with_its_connection_and_a_queued_one_is_not():
    talk = Talk().connect()
    one, two = talk.say("one"), talk.say("two")
    talk.lose()
    assert one.outcome.status is Status.LOST
    talk.connect()
    talk.begin()
    talk.done()
    assert two.outcome.response_id == "r1"


def test_a_request_whose_response_calls_a_tool_has_the_outcome_of_the_next_response():
    talk = Talk().connect()
    request = talk.say()
    talk.event("response.created", response={"id": "r1"})
    call(talk)
    assert request.outcome is None
    answer(talk)
    talk.begin("r2", "i2")
    talk.done(response_id="r2")
    assert request.outcome.response_id == "r2"


def test_a_request_after_tools_survives_a_lost_connection():
    talk = Talk().connect()
    request = talk.say()
    talk.event("response.created", response={"id": "r1"})
    call(talk)
    talk.lose()
    talk.connect()
    answer(talk)
    talk.begin("r2", "i2")
    talk.done(response_id="r2")
    assert request.outcome.response_id == "r2"


# --- Another connection -----------------------------------------------------------


def test_a_new_connection_is_told_the_conversation_as_text():
    """Interrupted responses as they were heard."""
    talk = Talk().connect()
    talk.event("input_audio_buffer.committed", item_id="u1", previous_item_id=None)
    heard = "conversation.item.input_audio_transcription.completed"
    talk.event(heard, item_id="u1", content_index=0, transcript="Count.")
    talk.begin()
    talk.speak("one two three four", ms=1000)
    talk.listen(500)
    talk.break_in()
    talk.done("cancelled")
    talk.say("Thanks", trigger=False)
    talk.lose("1006")
    talk.sent.clear()
    talk.now += 2.5
    talk.connect()
    replayed = [(m["item"]["role"], m["item"]["content"][0]) for m in talk.sent[1:]]
    assert replayed == [
        ("user", {"type": "input_text", "text": "Count."}),
        ("assistant", {"type": "output_text", "text": "one two"}),
        ("user", {"type": "input_text", "text": "Thanks"}),
    ]
    assert talk.told[-1] == words.ConnectionRestored(2.5, 3)


def test_echoes_of_the_replay_are_not_new_items():
    """Whatever ids the new session gives them."""
    talk = Talk().connect()
    talk.say("one", trigger=False)
    talk.say("two", trigger=False)
    talk.lose("1006")
    talk.connect()
    previous = None
    for name, text in (("n1", "one"), ("n2", "two")):
        content = [{"type": "input_text", "text": text}]
        item = {"id": name, "type": "message", "role": "user", "content": content}
        talk.event("conversation.item.added", previous_item_id=previous, item=item)
        previous = name
    talk.event("input_audio_buffer.committed", item_id="u1", previous_item_id="n1")
    heard = "conversation.item.input_audio_transcription.completed"
    talk.event(heard, item_id="u1", content_index=0, transcript="between")
    contents = [e.content for e in talk.session.conversation.entries()]
    assert contents == ["one", "between", "two"]


def test_of_the_status_messages_only_the_last_is_told_again():
    """It has replaced the others."""
    talk = Talk().connect()
    for number in (1, 2):
        talk.session.set_status(f"status {number}")
        talk.begin(f"r{number}", f"i{number}")
        talk.done(response_id=f"r{number}")
    talk.lose("1006")
    talk.sent.clear()
    talk.connect()
    assert [m["item"]["content"][0]["text"] for m in talk.sent[1:]] == ["status 2"]


def test_a_connection_that_is_lost_twice_counts_from_the_first_loss():
    """The downtime is the user's."""
    talk = Talk().connect()
    talk.now = 100.0
    talk.lose("1006")
    talk.now = 101.0
    talk.lose("refused")
    talk.now = 103.0
    talk.connect()
    assert talk.told[-1] == words.ConnectionRestored(3.0, 0)


# --- Tools ------------------------------------------------------------------------


def call(talk, call_id="c1", response_id="r1", item_id="f1", *, done=True):
    """Let the service call a tool, and tell of it in all the ways that it has."""
    item = {"id": item_id, "type": "function_call", "call_id": call_id, "name": "look"}
    place = {"response_id": response_id, "item_id": item_id}
    told = {"response_id": response_id}
    talk.event("response.output_item.added", **told, item={**item, "arguments": ""})
    talk.event("response.function_call_arguments.delta", **place, delta="{")
    talk.event("response.function_call_arguments.done", **place, arguments="{}")
    complete = {**item, "arguments": "{}", "status": "completed"}
    talk.event("response.output_item.done", **told, item=complete)
    if done:
        talk.done(response_id=response_id, output=[complete])


def answer(talk, call_id="c1", output="sunny"):
    """Let a tool of the app answer."""
    result = words.ToolFinished(call_id, "look", output, 0.1)
    talk.session.tool_finished(result, talk.now)
    talk.take()


def test_tools_are_part_of_the_set_up():
    """As the official SDK has them."""
    tool = {"type": "function", "name": "look", "parameters": {"type": "object"}}
    talk = Talk(SessionConfig(tools=(tool,))).connect()
    assert talk.sent[0]["session"]["tools"] == [tool]


def test_a_tool_is_called_once_and_its_answer_asked_for():
    """However often the service says that it is called."""
    talk = Talk().connect()
    talk.event("response.created", response={"id": "r1"})
    call(talk)
    assert talk.tools == ["c1"]
    assert talk.types() == []
    assert talk.session.responses.outcomes[0].calls == ("look",)
    answer(talk)
    assert talk.types() == ["conversation.item.create", "response.create"]
    assert talk.sent[-2]["item"] == {
        "id": "item_realtalk_1",
        "type": "function_call_output",
        "call_id": "c1",
        "output": "sunny",
    }
    answer(talk)
    assert len(talk.types()) == 2


def test_a_call_without_any_announcement_is_made_too():
    """Servers that tell less."""
    talk = Talk().connect()
    place = {"response_id": "r1", "item_id": "f1", "call_id": "c1", "name": "look"}
    talk.event("response.function_call_arguments.done", **place, arguments="{}")
    assert talk.tools == ["c1"]


def test_the_answer_of_a_quick_tool_waits_for_the_response_to_end():
    """The service would refuse a question meanwhile."""
    talk = Talk().connect()
    talk.event("response.created", response={"id": "r1"})
    call(talk, done=False)
    answer(talk)
    assert talk.types() == []
    talk.done()
    assert talk.types() == ["conversation.item.create", "response.create"]


def test_one_response_is_asked_for_when_all_tools_have_answered():
    """What is written meanwhile waits for it."""
    talk = Talk().connect()
    talk.event("response.created", response={"id": "r1"})
    call(talk, "c1", done=False)
    call(talk, "c2", item_id="f2")
    answer(talk, "c2")
    talk.say("And now?")
    assert talk.types() == ["conversation.item.create"]
    answer(talk, "c1")
    assert talk.types()[1:] == ["conversation.item.create", "response.create"]
    talk.begin("r2", "i2")
    talk.done(response_id="r2")
    assert talk.types()[3:] == ["conversation.item.create", "response.create"]


def test_a_response_that_began_meanwhile_is_answer_enough():
    """It was made with the tool's answer at hand."""
    talk = Talk().connect()
    talk.event("response.created", response={"id": "r1"})
    call(talk, "c1", done=False)
    call(talk, "c2", item_id="f2")
    answer(talk, "c1")
    talk.begin("r2", "i2")
    answer(talk, "c2")
    talk.done(response_id="r2")
    assert talk.types().count("response.create") == 1


def test_a_new_connection_is_told_of_the_call_before_the_answer():
    """It knows nothing of what the last one called."""
    talk = Talk().connect()
    talk.event("response.created", response={"id": "r1"})
    call(talk)
    talk.lose("broken")
    answer(talk)
    assert talk.types() == []
    talk.connect()
    assert [m["item"]["type"] for m in talk.sent if "item" in m] == [
        "function_call",
        "function_call_output",
    ]
    assert talk.types()[-1] == "response.create"


def talk_with_an_answered_call(**known):
    """Return a session in which a tool was asked, has answered, and was quoted."""
    talk = Talk().connect()
    talk.say("How is it?")
    talk.event("response.created", response={"id": "r1"})
    call(talk)
    answer(talk)
    answered = talk.sent[-2]["item"]
    talk.event(
        "conversation.item.added",
        item={**answered, **known},
        previous_item_id="f1",
    )
    talk.begin("r2", "i2")
    place = {"response_id": "r2", "item_id": "i2", "content_index": 0}
    talk.event("response.output_text.done", **place, text="Sunny.")
    talk.done(response_id="r2")
    talk.say("Thanks", trigger=False)
    talk.sent.clear()
    return talk


def replayed(talk):
    """Return what the newest connection was told: kind, and words or call."""
    items = [m["item"] for m in talk.sent if "item" in m]
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
def test_a_new_connection_is_told_of_calls_with_their_answers_where_they_were(known):
    """Every new one; else the model would not know what its tools said."""
    talk = talk_with_an_answered_call(**known)
    for _ in range(2):
        talk.lose("broken")
        talk.connect()
        assert replayed(talk) == REPLAYED
        assert talk.told[-1].replayed == 4
        assert "response.create" not in talk.types()
        talk.sent.clear()
    assert [e.content for e in talk.session.conversation.entries()] == [
        "How is it?",
        "Sunny.",
        "Thanks",
    ]


def test_a_call_that_was_answered_meanwhile_is_told_once():
    """Behind what was said before, and then with all the rest."""
    talk = Talk().connect()
    talk.event("response.created", response={"id": "r1"})
    call(talk)
    talk.lose("broken")
    talk.connect()
    assert replayed(talk) == []
    answer(talk)
    both = [
        ("function_call", "c1", "f1"),
        ("function_call_output", "c1", "item_realtalk_1"),
    ]
    assert replayed(talk) == both
    talk.begin("r2", "i2")
    talk.done(response_id="r2")
    talk.sent.clear()
    talk.lose("broken")
    talk.connect()
    assert replayed(talk) == both


def test_an_interrupted_response_calls_nothing_more():
    """What it still says is not wanted."""
    talk = Talk().connect()
    talk.event("response.created", response={"id": "r1"})
    talk.interrupt()
    call(talk)
    assert talk.tools == []


# --- Push-to-talk -----------------------------------------------------------------


def push_to_talk():
    """Return a connected session with push-to-talk."""
    input_filter = InputFilter(push_to_talk=True)
    config = SessionConfig(turn_detection=None)
    return Talk(config, input_filter=input_filter).connect()


def kinds(talk):
    """Return the types of the sent messages, without audio."""
    return [kind for kind in talk.types() if kind != "input_audio_buffer.append"]


def test_a_turn_of_push_to_talk_is_committed_and_answered():
    """The buffer is clean at its beginning."""
    talk = push_to_talk()
    talk.start_turn()
    talk.push(100)
    assert talk.end_turn()
    request = talk.session.responses.latest
    assert kinds(talk) == [
        "input_audio_buffer.clear",
        "input_audio_buffer.commit",
        "response.create",
    ]
    talk.begin()
    talk.done()
    assert request.outcome.completed


def test_a_turn_is_committed_after_all_of_its_audio():
    """The recorder delivers faster than the websocket takes it."""
    talk = push_to_talk()
    talk.start_turn()
    talk.session.push_audio(bytes(500 * 48), talk.now)
    talk.end_turn()
    sent = [m["type"] for m in talk.sent]
    assert sent.count("input_audio_buffer.append") == 13
    assert sent[-3:] == [
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "response.create",
    ]


def test_a_turn_waits_for_the_interrupted_response_to_end():
    """The service takes one question at a time."""
    talk = push_to_talk()
    talk.begin()
    talk.start_turn()
    talk.push(500)
    talk.end_turn()
    assert "response.create" not in talk.types()
    assert talk.types()[-1] == "input_audio_buffer.commit"
    talk.done("cancelled")
    assert talk.types()[-1] == "response.create"
    assert talk.session.responses.latest.outcome is None


def test_a_turn_that_is_lost_with_its_connection_is_answered_as_lost():
    """Whoever waits for the response is told."""
    talk = push_to_talk()
    talk.start_turn()
    talk.push(200)
    talk.lose()
    talk.end_turn()
    talk.connect()
    assert talk.outcomes() == [Status.LOST]
    assert talk.session.responses.latest.outcome.status is Status.LOST
    assert "input_audio_buffer.commit" not in talk.types()


def test_a_turn_that_ends_while_the_connection_is_lost_is_sent_when_it_is_back():
    talk = push_to_talk()
    talk.start_turn()
    talk.lose()
    talk.push(200)
    talk.end_turn()
    talk.connect()
    assert talk.types()[-2:] == ["input_audio_buffer.commit", "response.create"]


def test_a_turn_that_is_followed_by_another_before_it_was_sent_is_cancelled():
    talk = push_to_talk()
    talk.start_turn()
    talk.lose()
    talk.push(200)
    talk.end_turn()
    talk.start_turn()
    assert talk.outcomes() == [Status.CANCELLED]


def test_a_discarded_turn_is_forgotten():
    """On both sides."""
    talk = push_to_talk()
    talk.start_turn()
    talk.session.push_audio(bytes(9600), talk.now)
    assert not talk.end_turn(discard=True)
    assert talk.types() == ["input_audio_buffer.clear"] * 2
    assert talk.outcomes() == []


def test_a_turn_that_is_too_short_is_cancelled():
    talk = push_to_talk()
    talk.start_turn()
    talk.push(99)
    assert not talk.end_turn()
    assert talk.outcomes() == [Status.CANCELLED]
    assert "input_audio_buffer.commit" not in talk.types()


# --- Leaving a connection before it expires ---------------------------------------


def expiring(wall=1_000_000.0, lifetime=3600):
    """Return a talk on a connection that the service will end."""
    talk = Talk()
    talk.open(wall)
    told = {"id": "sess_1", "expires_at": wall + lifetime}
    talk.event("session.created", session=told)
    talk.event("session.updated", session=told)
    return talk


def tick(talk, now):
    """Let the time pass to *now*; return whether the connection is left."""
    talk.now = now
    talk.tick(now)
    closing = talk.session.state is State.CLOSING
    return closing and talk.session.connection.error is None


def test_a_quiet_connection_is_left_a_minute_before_it_expires():
    """Once, and the app is told."""
    talk = expiring()
    assert not tick(talk, 100.0 + 3539)
    assert tick(talk, 100.0 + 3540)
    assert talk.told[-1] == words.ConnectionRecycled(3540.0)
    assert not talk.session.ready
    assert talk.session.deadline is None
    talk.now += 0.5
    talk.connect()
    assert talk.told[-1] == words.ConnectionRestored(0.5, 0)
    assert talk.session.ready


def test_a_connection_is_not_left_while_somebody_says_something():
    """User, model, tool or button: then two seconds later."""
    talk = expiring()
    talk.now = 100.0 + 3539
    talk.event("input_audio_buffer.speech_started", item_id="u1")
    assert not tick(talk, 100.0 + 3541)
    talk.event("input_audio_buffer.speech_stopped", item_id="u1")
    assert not tick(talk, 100.0 + 3542)
    talk.begin()
    assert not tick(talk, 100.0 + 3550)
    call(talk)
    assert not tick(talk, 100.0 + 3555)
    answer(talk)
    talk.begin("r2", "i2")
    talk.done(response_id="r2")
    talk.start_turn()
    assert not tick(talk, 100.0 + 3560)
    talk.end_turn(discard=True)
    assert not tick(talk, 100.0 + 3561.9)
    assert tick(talk, 100.0 + 3562)


# --- All of it together -----------------------------------------------------------


class Life(Talk):
    """A session whose service and app behave, in whatever order things happen."""

    def __init__(self):
        super().__init__()
        self.number = 0
        self.questions = 0
        self.requests = []
        self.is_up = False
        self.pending = []  # calls that were not answered
        self.known = set()  # calls that this connection knows
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

    def up(self):
        if not self.is_up:
            self.is_up = True
            self.known.clear()
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
        """The service begins the response that was asked for, if one was."""
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

    def wait(self):
        self.now += 7.0
        self.tick(self.now)
        if self.session.ready:  # and so it is asked for no sign of life
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
        """Let all that is due happen."""
        self.up()
        for _ in range(200):
            busy = self.session.responses.responding or not self.is_idle
            if not busy and not self.pending:
                return
            self.answer_a_call()
            self.start()
            self.finish()
        pytest.fail("it never comes to rest")


ACTIONS = [
    *("up", "down", "ask", "tell", "start", "talk_on", "use_a_tool", "finish"),
    *("answer_a_call", "interrupt", "wait"),
]


@given(st.lists(st.sampled_from(ACTIONS), max_size=40))
def test_whatever_happens_every_question_has_its_end_and_nothing_is_forgotten(actions):
    """And the next connection is told all that was said, and no call twice."""
    life = Life()
    for action in actions:
        getattr(life, action)()
    life.settle()
    finished = [
        event for event in life.told if isinstance(event, words.ResponseFinished)
    ]
    assert [event.outcome for event in finished] == life.session.responses.outcomes
    assert len(finished) >= life.questions
    assert all(request.outcome for request in life.requests)
    life.down()
    life.sent.clear()
    life.up()
    history = life.session.conversation.history()
    told = [m["item"]["id"] for m in life.sent if "item" in m]
    expected = []
    for each in history:
        expected += [
            each.item_id,
            *([each.answer_id] if hasattr(each, "call_id") else []),
        ]
    assert told == expected
