"""Half an hour of conversation, noise and pauses, fed faster than real time."""

from realtalk_async.voice.audio.hearing import Hearing
from realtalk_async.voice.protocol.microphone import InputFilter


def test_thirty_minutes_of_conversation_noise_and_pauses_have_no_problem(made, voices):
    problems = []
    hearing = Hearing("device", InputFilter(), problems.append)
    for minute in range(30):
        microphone, speaker = made.conversation(1, voices, seed=minute)
        made.feed(hearing, microphone, speaker, began=1000.0 + 60 * minute)
    assert problems == []
