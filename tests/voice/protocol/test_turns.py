"""The user's turn by push-to-talk, and the audio that belongs to it."""

import pytest

from realtalk_async.voice.protocol.microphone import InputFilter, MicrophoneBuffer
from realtalk_async.voice.protocol.responses import Request
from realtalk_async.voice.protocol.turns import LEAST_TURN_MS, Turn, TurnState

MS = 48


@pytest.fixture
def microphone():
    return MicrophoneBuffer(input_filter=InputFilter(push_to_talk=True))


@pytest.fixture
def turn(microphone):
    return Turn(microphone, stall_after=30.0)


def test_only_audio_of_the_turn_passes(turn, microphone):
    microphone.push(bytes(200 * MS))
    assert len(microphone) == 0
    turn.start()
    microphone.push(bytes(LEAST_TURN_MS * MS))
    request = Request()
    assert turn.end(request)
    microphone.push(bytes(200 * MS))
    assert len(microphone) == LEAST_TURN_MS * MS
    assert (turn.state, turn.request) == (TurnState.ENDING, request)


def test_a_turn_that_is_too_short_does_not_end_but_is_discarded(turn, microphone):
    turn.start()
    microphone.push(bytes(LEAST_TURN_MS * MS - 2))
    assert not turn.end(Request())
    microphone.push(bytes(200 * MS))
    assert turn.state is TurnState.TALKING
    turn.discard(5.0)
    assert len(microphone) == 0
    assert microphone.dropped == LEAST_TURN_MS * MS - 2
    assert (turn.state, turn.request, turn.ended_at) == (TurnState.IDLE, None, 5.0)


def test_a_new_turn_starts_without_the_rest_of_the_last_one(turn, microphone):
    turn.start()
    microphone.push(bytes(200 * MS))
    turn.end(Request())
    turn.start()
    assert len(microphone) == 0
    assert turn.request is None


def test_a_turn_counts_as_sent_once_one_connection_got_enough_of_it(turn):
    turn.start()
    turn.sent = LEAST_TURN_MS * MS - 2
    assert not turn.was_sent
    turn.sent += 2
    assert turn.was_sent
    turn.connection_opened()
    assert not turn.was_sent
