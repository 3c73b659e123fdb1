"""What of the microphone the service may hear, by numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.voice.audio.input_filter import Gate

SOUND = b"\1\2" * 100


def test_a_plain_gate_lets_everything_through():
    """It has nothing to do."""
    gate = Gate()
    assert gate.let_through(SOUND, playing=True) == SOUND
    assert (gate.withheld, gate.passed) == (0, 200)


def test_who_is_muted_is_heard_as_silence():
    """The service still hears time pass, and that a turn has ended."""
    gate = Gate()
    gate.muted = True
    assert gate.let_through(SOUND) == bytes(200)
    gate.muted = False
    assert gate.let_through(SOUND) == SOUND
    assert gate.withheld == 200


def test_half_duplex_is_silence_while_a_response_is_heard():
    """Else the service would hear itself."""
    gate = Gate(half_duplex=True)
    assert gate.let_through(SOUND, playing=True) == bytes(200)
    assert gate.let_through(SOUND, playing=False) == SOUND


def test_push_to_talk_lets_nothing_through_but_turns():
    """No byte of what was said before, and a count of each turn."""
    gate = Gate(push_to_talk=True)
    assert gate.let_through(SOUND) == b""
    gate.open()
    assert gate.let_through(SOUND) == SOUND
    assert gate.passed == 200
    gate.close()
    assert gate.let_through(SOUND) == b""
    gate.open()
    assert gate.passed == 0
    assert gate.withheld == 400


@pytest.mark.parametrize("push_to_talk", [False, True])
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=30))
def test_no_sample_is_torn_wherever_the_gate_opens(push_to_talk, pieces):
    """Every sample is numbered; all that come through are whole ones, in order."""
    gate = Gate(push_to_talk=push_to_talk)
    sound = b"".join(n.to_bytes(2, "little") for n in range(1, 200))
    heard, at = b"", 0
    for size, is_open in pieces:
        gate.open() if is_open else gate.close()
        heard += gate.let_through(sound[at : at + size])
        at += size
    samples = [
        int.from_bytes(heard[i : i + 2], "little") for i in range(0, len(heard), 2)
    ]
    assert samples == sorted(set(samples))
    assert len(heard) + gate.withheld == at - at % 2


def test_half_a_sample_dies_with_its_recorder():
    """The next one begins with a whole one."""
    gate = Gate()
    assert gate.let_through(b"\1\2\3") == b"\1\2"
    gate.realign()
    assert gate.let_through(b"\4\5") == b"\4\5"
