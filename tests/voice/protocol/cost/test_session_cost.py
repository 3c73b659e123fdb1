"""Tokens of responses and transcripts, bounds of a session, responses without a user."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.voice import events
from realtalk_async.voice.events import Usage
from realtalk_async.voice.protocol import messages
from realtalk_async.voice.protocol.cost.limits import SessionLimits
from realtalk_async.voice.protocol.requests.session_config import SessionConfig
from realtalk_async.voice.protocol.session import Session

USAGE = {
    "total_tokens": 130,
    "input_tokens": 100,
    "output_tokens": 30,
    "input_token_details": {
        "text_tokens": 40,
        "audio_tokens": 60,
        "cached_tokens": 50,
        "cached_tokens_details": {"text_tokens": 20, "audio_tokens": 30},
    },
    "output_token_details": {"text_tokens": 10, "audio_tokens": 20},
}


class Harness:
    def __init__(self, **limits):
        self.session = Session(SessionConfig(), limits=SessionLimits(**limits))
        self.now, self.published = 0.0, []
        self.session.connected(0.0, 0.0)
        self.event("session.updated", session={})

    def event(self, kind, **fields):
        raw = messages.encode({"type": kind, **fields})
        self.session.receive_data(raw, self.now)
        self.take()

    def take(self):
        sent = []
        while message := self.session.next_message(self.now):
            sent.append(message["type"])
        self.published += self.session.events_received()
        return sent

    def tick(self, now):
        self.now = now
        self.session.tick(now)
        self.take()

    def ask(self):
        self.session.send_text("Hi", "user", self.now, trigger_response=True)
        return self.take()

    def speak(self, item_id, text):
        """Let the user speak, and the service transcribe it."""
        buffer = "input_audio_buffer"
        self.event(f"{buffer}.speech_started", item_id=item_id)
        self.event(f"{buffer}.speech_stopped", item_id=item_id)
        self.event(f"{buffer}.committed", item_id=item_id)
        kind = "conversation.item.input_audio_transcription.completed"
        self.event(kind, item_id=item_id, transcript=text)

    def start(self, name="r1"):
        self.event("response.created", response={"id": name})

    def end(self, name="r1", usage=None, text="", **fields):
        content = [{"type": "output_text", "text": text}]
        item = {"id": f"i{name}", "type": "message", "role": "assistant"}
        output = [{**item, "content": content}]
        response = {"id": name, "status": "completed", "output": output}
        self.event("response.done", response={**response, "usage": usage, **fields})

    def of(self, kind):
        return [event for event in self.published if isinstance(event, kind)]


# --- Usage ------------------------------------------------------------------------


def test_the_usage_of_a_response_is_in_its_outcome_and_the_total():
    harness = Harness()
    for name in ("r1", "r2"):
        harness.start(name)
        harness.end(name, USAGE)
    first, second = (
        event.outcome.usage for event in harness.of(events.ResponseFinished)
    )
    assert first == second == Usage(100, 30, 40, 60, 0, 50, 20, 30, 0, 10, 20)
    assert str(first) == (
        "130 tokens: 100 in (40 text, 60 audio, 50 cached), 30 out (10 text, 20 audio)"
    )
    assert first.to_dict()["total"] == 130
    assert harness.session.cost.total == first + second


def test_a_response_that_is_told_twice_is_counted_once():
    harness = Harness()
    harness.start()
    harness.end(usage=USAGE)
    harness.end(usage=USAGE)
    assert harness.session.cost.total.total == 130


def test_a_response_that_was_given_up_still_costs():
    harness = Harness()
    harness.start()
    harness.tick(100.0)
    assert harness.of(events.ResponseFinished)[0].outcome.usage is None
    harness.end(usage=USAGE)
    assert harness.session.cost.total.total == 130


@pytest.mark.parametrize("given", [None, {}, [], "x", 5])
def test_a_service_may_tell_no_usage(given):
    harness = Harness()
    harness.start()
    harness.end(usage=given)
    (finished,) = harness.of(events.ResponseFinished)
    assert finished.outcome.usage is None
    assert harness.session.cost.total == Usage()


def test_usage_with_nonsense_counts_as_nothing():
    harness = Harness()
    harness.start()
    harness.end(usage={"input_tokens": -5, "output_tokens": "x", "total_tokens": True})
    assert harness.session.cost.total == Usage()


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"type": "duration", "seconds": 2.5}, Usage(transcription_seconds=2.5)),
        ({"type": "tokens", "total_tokens": 9}, Usage(transcription_tokens=9)),
    ],
)
def test_transcripts_cost_too(usage, expected):
    harness = Harness()
    kind = "conversation.item.input_audio_transcription.completed"
    harness.event(kind, item_id="u", transcript="Hi", usage=usage)
    (said,) = harness.of(events.UserTranscript)
    assert said.usage == expected
    assert harness.session.cost.total == expected
    assert "transcri" in str(expected)


numbers = st.integers(0, 10**9)


@given(st.lists(st.tuples(numbers, numbers), max_size=5))
def test_the_total_is_the_sum_of_all(pairs):
    total = sum((Usage(into, out) for into, out in pairs), Usage())
    assert total.total == sum(into + out for into, out in pairs)


# --- Limits -----------------------------------------------------------------------


def test_the_token_limit_is_told_once_when_it_is_reached():
    harness = Harness(tokens=200)
    for name in ("r1", "r2", "r3"):
        harness.start(name)
        harness.end(name, USAGE)
    (reached,) = harness.of(events.LimitReached)
    assert reached == events.LimitReached("tokens", 200, 260)
    assert str(reached) == "the limit of 200 tokens (260 used)"


def test_after_a_limit_nothing_more_is_sent():
    """Neither the microphone nor texts; a response that was requested is cancelled."""
    harness = Harness(minutes=1)
    harness.now = 50.0
    assert harness.ask() == ["conversation.item.create", "response.create"]
    harness.tick(60.0)
    harness.session.push_audio(bytes(48_000), 60.0)
    assert not harness.session.has_message
    assert harness.ask() == []
    harness.start()
    assert harness.take() == []
    assert [r.state.value for r in harness.session.responses] == ["interrupted"]


def test_the_minutes_count_from_the_first_connection_also_in_an_outage():
    harness = Harness(minutes=0.5)
    harness.session.connection_lost("broken", 10.0)
    assert harness.session.deadline == 30.0
    harness.tick(29.9)
    assert harness.of(events.LimitReached) == []
    harness.tick(30.0)
    (reached,) = harness.of(events.LimitReached)
    assert str(reached) == "the limit of 0.5 minutes"
    assert harness.session.deadline is None


def test_a_user_who_speaks_or_writes_is_not_idle():
    harness = Harness(idle_minutes=1)
    harness.now = 50.0
    harness.speak("u1", "Hello there, you")
    harness.start()
    harness.now = 100.0
    harness.end(usage=USAGE)
    harness.tick(159.0)
    assert harness.of(events.LimitReached) == []
    harness.session.send_text("Hi", "user", 159.0, trigger_response=False)
    harness.now = 190.0
    harness.event("session.updated", session={})  # the service is alive
    harness.tick(218.0)
    assert harness.of(events.LimitReached) == []
    harness.tick(219.0)
    (reached,) = harness.of(events.LimitReached)
    assert str(reached) == "the limit of 1 idle minutes"


def test_a_response_or_a_tool_under_way_is_not_idle():
    harness = Harness(idle_minutes=0.1)
    harness.start()
    item = {"id": "c", "type": "function_call", "call_id": "k", "name": "look"}
    item |= {"arguments": "{}", "status": "completed"}
    harness.event("response.output_item.done", response_id="r1", item=item)
    harness.end(output=[item])
    for now in (5.0, 10.0, 20.0):
        harness.tick(now)
    assert harness.of(events.LimitReached) == []
    result = events.ToolFinished("k", "look", "done", 20.0)
    harness.session.tool_finished(result, 20.0)
    harness.take()
    harness.start("r2")
    harness.end("r2")
    harness.tick(25.0)
    assert harness.of(events.LimitReached) == []
    harness.tick(26.0)
    assert len(harness.of(events.LimitReached)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        *({"tokens": 0}, {"tokens": 1.5}, {"minutes": 0}, {"idle_minutes": "5"}),
        *({"self_talk": 0}, {"self_talk": None}),
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(InvalidConfiguration, match=name):
        SessionLimits(**wrong)


# --- Self-talk --------------------------------------------------------------------


def respond(harness, number, text="It is a sunny day in Oslo today."):
    harness.start(f"r{number}")
    harness.end(f"r{number}", text=text)


def test_responses_without_a_user_are_told_once():
    harness = Harness(self_talk=3)
    for number in range(8):
        respond(harness, number)
    (told,) = harness.of(events.SelfTalk)
    assert (told.responses, told.echoes) == (3, 0)
    harness.ask()
    for number in range(10, 14):
        respond(harness, number)
    assert len(harness.of(events.SelfTalk)) == 2


def test_an_echo_of_the_response_is_no_user():
    harness = Harness(self_talk=4)
    for number in range(6):
        respond(harness, number)
        harness.speak(f"u{number}", "it's a sunny day in Oslo today")
    (told,) = harness.of(events.SelfTalk)
    assert told.responses == 4
    assert told.echoes >= 3
    assert "half_duplex" in str(told)


def test_a_conversation_is_no_self_talk():
    harness = Harness(self_talk=2)
    for number in range(9):
        harness.speak(f"u{number}", "How is the weather in Oslo?")
        respond(harness, number)
    for number in range(20, 29):
        harness.ask()
        respond(harness, number)
    assert harness.of(events.SelfTalk) == []
