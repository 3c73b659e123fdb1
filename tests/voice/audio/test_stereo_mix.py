import array
import wave

from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.voice.audio import wav
from realtalk_async.voice.audio.stereo_mix import StereoMix

RATE = 24_000


def tone(value, seconds):
    """Return PCM whose samples all have *value*."""
    return array.array("h", [value] * round(seconds * RATE)).tobytes()


def channels(frames):
    """Return left and right of stereo frames."""
    samples = array.array("h", frames)
    return list(samples[0::2]), list(samples[1::2])


def test_user_is_left_and_responses_are_right_at_their_times():
    mix = StereoMix(100.0)
    mix.add_user(tone(1, 1.0), 101.0)
    mix.add_response(tone(2, 0.5), 101.0)
    left, right = channels(mix.finish())
    assert left == [1] * RATE + [0] * (RATE // 2)
    assert right == [0] * RATE + [2] * (RATE // 2)


def test_short_gaps_are_closed_and_long_gaps_become_silence():
    """A late recorder causes a short gap, a dead recorder a long one."""
    mix = StereoMix(100.0)
    mix.add_user(tone(1, 0.1), 100.1)
    mix.add_user(tone(2, 0.1), 100.3)
    mix.add_user(tone(3, 0.1), 101.0)
    left, _ = channels(mix.finish())
    tenth = RATE // 10
    assert left[: 2 * tenth] == [1] * tenth + [2] * tenth
    assert left[2 * tenth : 9 * tenth] == [0] * 7 * tenth
    assert left[9 * tenth :] == [3] * tenth


def test_frames_of_the_last_second_are_not_taken_yet():
    mix = StereoMix(100.0, delay=1.0)
    mix.add_user(tone(1, 2.0), 102.0)
    assert mix.take(101.0) == b""
    left, right = channels(mix.take(102.0))
    assert left == [1] * RATE
    assert right == [0] * RATE
    mix.add_response(tone(2, 1.0), 101.0)
    left, right = channels(mix.finish())
    assert left == [1] * RATE
    assert right == [2] * RATE
    assert mix.finish() == b""


@given(st.lists(st.binary(max_size=99), max_size=20))
def test_pieces_of_any_size_lose_no_sample(pieces):
    mix = StereoMix(100.0)
    for piece in pieces:
        mix.add_user(piece, 100.0)
    whole = b"".join(pieces)
    left, _ = channels(mix.finish())
    assert array.array("h", left).tobytes() == whole[: len(whole) & ~1]


def test_stereo_file_is_valid_after_each_write(tmp_path):
    path = tmp_path / "both.wav"
    path.write_bytes(wav.header(2))
    for count in (1, 2, 3):
        wav.extend(path, bytes(4 * RATE))
        with wave.open(str(path)) as file:
            assert file.getnchannels() == 2
            assert file.getframerate() == RATE
            assert file.getnframes() == count * RATE


def test_skip_continues_both_channels_at_the_current_time():
    mix = StereoMix(100.0, delay=1.0)
    mix.add_user(tone(1, 1.0), 101.0)
    assert mix.pending == RATE
    assert len(mix.finish()) == 4 * RATE
    assert mix.skip(3700.0) == (3700 - 102) * RATE
    assert mix.skip(3700.0) == 0
    mix.add_user(tone(2, 0.5), 3700.0)
    mix.add_response(tone(3, 0.5), 3700.0)
    left, right = channels(mix.finish())
    assert left.index(2) == RATE // 2
    assert right.index(3) == RATE


def test_silence_takes_no_disk_space(tmp_path):
    """A gap of an hour is a hole in a sparse file."""
    path = tmp_path / "both.wav"
    path.write_bytes(wav.header(2))
    wav.extend(path, bytes(range(8)), 3600 * RATE)
    wav.extend(path, bytes(4))
    with wave.open(str(path)) as file:
        assert file.getnframes() == 3600 * RATE + 3
        assert file.readframes(3) == bytes(range(8)) + bytes(4)
    assert path.stat().st_blocks * 512 < 100_000
