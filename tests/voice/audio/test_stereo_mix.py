"""Both sides on one time line, by numbers."""

import array
import wave

from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.voice.audio import wav
from realtalk_async.voice.audio.stereo_mix import Mix

RATE = 24_000


def tone(value, seconds):
    """Return samples of one value."""
    return array.array("h", [value] * round(seconds * RATE)).tobytes()


def sides(frames):
    """Return left and right of stereo frames."""
    samples = array.array("h", frames)
    return list(samples[0::2]), list(samples[1::2])


def test_the_user_is_left_and_the_responses_are_right():
    """Each where it was said."""
    mix = Mix(100.0)
    mix.hear(tone(1, 1.0), 101.0)
    mix.play(tone(2, 0.5), 101.0)
    left, right = sides(mix.finish())
    assert left == [1] * RATE + [0] * (RATE // 2)
    assert right == [0] * RATE + [2] * (RATE // 2)


def test_small_holes_are_jitter_and_large_ones_silence():
    """A recorder that died leaves a hole; one that is late does not."""
    mix = Mix(100.0)
    mix.hear(tone(1, 0.1), 100.1)
    mix.hear(tone(2, 0.1), 100.3)
    mix.hear(tone(3, 0.1), 101.0)
    left, _ = sides(mix.finish())
    tenth = RATE // 10
    assert left[: 2 * tenth] == [1] * tenth + [2] * tenth
    assert left[2 * tenth : 9 * tenth] == [0] * 7 * tenth
    assert left[9 * tenth :] == [3] * tenth


def test_what_may_still_change_is_not_taken():
    """The last second; and each frame is taken once."""
    mix = Mix(100.0, delay=1.0)
    mix.hear(tone(1, 2.0), 102.0)
    assert mix.take(101.0) == b""
    left, right = sides(mix.take(102.0))
    assert left == [1] * RATE
    assert right == [0] * RATE
    mix.play(tone(2, 1.0), 101.0)
    left, right = sides(mix.finish())
    assert left == [1] * RATE
    assert right == [2] * RATE
    assert mix.finish() == b""


@given(st.lists(st.binary(max_size=99), max_size=20))
def test_no_byte_is_lost_and_no_sample_torn(pieces):
    """Whatever sizes they come in."""
    mix = Mix(100.0)
    for piece in pieces:
        mix.hear(piece, 100.0)
    whole = b"".join(pieces)
    left, _ = sides(mix.finish())
    assert array.array("h", left).tobytes() == whole[: len(whole) & ~1]


def test_a_stereo_file_is_valid_after_each_piece(tmp_path):
    """Its header is written with it."""
    path = tmp_path / "both.wav"
    path.write_bytes(wav.header(2))
    for count in (1, 2, 3):
        wav.extend(path, bytes(4 * RATE))
        with wave.open(str(path)) as file:
            assert file.getnchannels() == 2
            assert file.getframerate() == RATE
            assert file.getnframes() == count * RATE


def test_what_was_not_kept_is_skipped():
    """Both sides go on together, at the time that it is."""
    mix = Mix(100.0, delay=1.0)
    mix.hear(tone(1, 1.0), 101.0)
    assert mix.held == RATE
    assert len(mix.finish()) == 4 * RATE
    assert mix.skip(3700.0) == (3700 - 102) * RATE
    assert mix.skip(3700.0) == 0
    mix.hear(tone(2, 0.5), 3700.0)
    mix.play(tone(3, 0.5), 3700.0)
    left, right = sides(mix.finish())
    assert left.index(2) == RATE // 2
    assert right.index(3) == RATE


def test_silence_takes_no_disk(tmp_path):
    """A gap of an hour is a hole in the file."""
    path = tmp_path / "both.wav"
    path.write_bytes(wav.header(2))
    wav.extend(path, bytes(range(8)), 3600 * RATE)
    wav.extend(path, bytes(4))
    with wave.open(str(path)) as file:
        assert file.getnframes() == 3600 * RATE + 3
        assert file.readframes(3) == bytes(range(8)) + bytes(4)
    assert path.stat().st_blocks * 512 < 100_000
