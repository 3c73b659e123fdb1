"""The input of the microphone: gate, pieces and buffer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtalk_async.voice.protocol.microphone import InputFilter, MicrophoneBuffer

SOUND = b"\1\2" * 100


def test_a_gate_without_conditions_passes_all_audio():
    input_filter = InputFilter()
    assert input_filter.apply(SOUND, playing=True) == SOUND
    assert (input_filter.withheld, input_filter.passed) == (0, 200)


def test_a_muted_microphone_sends_silence():
    """So that the service detects the passing time and the end of a turn."""
    input_filter = InputFilter()
    input_filter.muted = True
    assert input_filter.apply(SOUND) == bytes(200)
    input_filter.muted = False
    assert input_filter.apply(SOUND) == SOUND
    assert input_filter.withheld == 200


def test_half_duplex_sends_silence_while_a_response_is_played():
    """The service would hear its own response otherwise."""
    input_filter = InputFilter(half_duplex=True)
    assert input_filter.apply(SOUND, playing=True) == bytes(200)
    assert input_filter.apply(SOUND, playing=False) == SOUND


def test_push_to_talk_passes_only_the_audio_of_turns():
    """And counts the bytes of each turn."""
    input_filter = InputFilter(push_to_talk=True)
    assert input_filter.apply(SOUND) == b""
    input_filter.open()
    assert input_filter.apply(SOUND) == SOUND
    assert input_filter.passed == 200
    input_filter.close()
    assert input_filter.apply(SOUND) == b""
    input_filter.open()
    assert input_filter.passed == 0
    assert input_filter.withheld == 400


@pytest.mark.parametrize("push_to_talk", [False, True])
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=30))
def test_the_gate_passes_only_whole_samples_in_order(push_to_talk, pieces):
    input_filter = InputFilter(push_to_talk=push_to_talk)
    sound = b"".join(n.to_bytes(2, "little") for n in range(1, 200))
    passed, at = b"", 0
    for size, is_open in pieces:
        input_filter.open() if is_open else input_filter.close()
        passed += input_filter.apply(sound[at : at + size])
        at += size
    samples = [
        int.from_bytes(passed[i : i + 2], "little") for i in range(0, len(passed), 2)
    ]
    assert samples == sorted(set(samples))
    assert len(passed) + input_filter.withheld == at - at % 2


def test_half_a_sample_of_an_ended_recorder_is_dropped():
    """The next recorder begins with a whole one."""
    input_filter = InputFilter()
    assert input_filter.apply(b"\1\2\3") == b"\1\2"
    input_filter.realign()
    assert input_filter.apply(b"\4\5") == b"\4\5"


# --- The buffer ---

MS = 48


def test_pieces_are_twenty_to_forty_milliseconds():
    """Less audio waits for more; more audio is split."""
    buffer = MicrophoneBuffer()
    buffer.push(bytes(19 * MS))
    assert buffer.take() == b""
    buffer.push(bytes(90 * MS))
    assert [len(buffer.take()) // MS for _ in range(4)] == [40, 40, 29, 0]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=5000), max_size=30))
def test_every_byte_is_sent_in_order_and_in_whole_samples(chunks):
    """For all sizes of the recorder's writes."""
    buffer = MicrophoneBuffer(keep_ms=10_000)
    taken = []
    for chunk in chunks:
        buffer.push(chunk)
        while piece := buffer.take():
            taken.append(piece)
    assert all(len(piece) % 2 == 0 and len(piece) <= 40 * MS for piece in taken)
    whole = b"".join(chunks)
    sent = b"".join(taken)
    assert whole.startswith(sent)
    assert buffer.taken == len(sent)
    half = len(whole) % 2  # waits for its other half
    assert len(whole) - len(sent) - half == len(buffer) < 20 * MS
    assert buffer.received == len(whole)
    assert buffer.dropped == 0


@settings(deadline=None)
@given(st.lists(st.integers(0, 9001), min_size=1, max_size=60))
def test_the_last_two_seconds_are_kept_and_the_rest_is_counted(sizes):
    """While there is no connection."""
    buffer = MicrophoneBuffer()
    for size in sizes:
        buffer.push(bytes(size))
    assert len(buffer) <= 2000 * MS
    assert buffer.received == sum(sizes)
    assert buffer.dropped + len(buffer) == sum(sizes) - sum(sizes) % 2
    assert buffer.dropped % 2 == 0


def test_the_buffer_drops_half_a_sample_of_an_ended_recorder():
    """Every sample of the next recorder would be split otherwise."""
    buffer = MicrophoneBuffer()
    buffer.push(b"\1\2\3")
    buffer.realign()
    buffer.realign()
    buffer.push(b"\4\5" * 480)
    assert buffer.take()[:4] == b"\1\2\4\5"


def test_the_last_piece_of_a_turn_may_be_shorter():
    buffer = MicrophoneBuffer()
    buffer.push(bytes(5 * MS))
    assert buffer.take() == b""
    assert len(buffer.take(rest=True)) == 5 * MS
    assert buffer.take(rest=True) == b""
