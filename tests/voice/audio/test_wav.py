"""The WAV child: real processes, real files."""

import io
import math
import os
import signal
import struct
import subprocess
import sys
import time
import wave
from contextlib import contextmanager

import pytest

from realtalk_async.voice.audio import wav

SECOND = 48_000


@contextmanager
def child(*arguments, **options):
    """Run the program; kill it if it is left."""
    argv = [sys.executable, "-I", "-S", wav.__file__, *map(str, arguments)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def make_wav(path, seconds=1.0, *, rate=24_000, channels=1, width=2):
    """Write a 100 Hz tone at half of full scale."""
    count = int(seconds * rate)
    peak = 2 ** (8 * width - 2)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        for i in range(count):
            sample = round(peak * math.sin(i * 200 * math.pi / rate))
            data = (
                struct.pack("<i", sample)[:width]
                if width > 1
                else bytes([sample + 128])
            )
            file.writeframesraw(data * channels)
    return path


def frames_of(path):
    """Return the samples of a WAV as bytes; fails if it is not valid."""
    with wave.open(str(path), "rb") as file:
        assert file.getparams()[:3] == (1, 2, 24_000)
        data = file.readframes(file.getnframes())
        assert len(data) == 2 * file.getnframes()
        return data


def write_slowly(process, pcm):
    """Hand over *pcm* and return when the child has taken it."""
    process.stdin.write(pcm)
    process.stdin.flush()


def wait_for_size(path, size):
    """Wait until *path* has at least *size* bytes."""
    end = time.monotonic() + 20
    while not (path.exists() and path.stat().st_size >= size):
        assert time.monotonic() < end, "the child did not write in time"
        time.sleep(0.01)


# --- Writing ----------------------------------------------------------------------


def test_what_is_written_is_a_wav(tmp_path):
    """Byte for byte, ended by the end of the input."""
    path = tmp_path / "out.wav"
    pcm = os.urandom(SECOND)
    with child("write", path, stdin=subprocess.PIPE) as process:
        process.communicate(pcm, timeout=20)
        assert process.returncode == 0
    assert frames_of(path) == pcm


def test_a_second_writer_goes_on_behind_the_first(tmp_path):
    """As after the first one was killed."""
    path = tmp_path / "out.wav"
    for pcm in (b"\1\2" * 500, b"\3\4" * 500):
        with child("write", path, stdin=subprocess.PIPE) as process:
            process.communicate(pcm, timeout=20)
    assert frames_of(path) == b"\1\2" * 500 + b"\3\4" * 500


def test_a_killed_writer_leaves_a_wav_that_can_be_repaired(tmp_path):
    """All that it had taken is there, but half a sample."""
    path = tmp_path / "out.wav"
    with child("write", path, stdin=subprocess.PIPE) as process:
        write_slowly(process, b"\1\2" * 500 + b"\3")
        wait_for_size(path, 44 + 1001)
        process.kill()
        process.wait(timeout=20)
    assert wav.repair(path)
    assert frames_of(path) == b"\1\2" * 500


def test_the_sizes_are_patched_while_it_writes(tmp_path):
    """So a writer killed by surprise leaves a valid file but for its last second."""
    path = tmp_path / "out.wav"
    with child("write", path, stdin=subprocess.PIPE) as process:
        write_slowly(process, bytes(SECOND))
        wait_for_size(path, 44 + SECOND)
        end = time.monotonic() + 20
        while len(frames_of(path)) < SECOND:
            assert time.monotonic() < end
            write_slowly(process, bytes(2))
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=20)
    assert len(frames_of(path)) >= SECOND


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_terminated_writer_leaves_a_valid_wav(tmp_path, number):
    """At once, without a repair."""
    path = tmp_path / "out.wav"
    with child("write", path, stdin=subprocess.PIPE) as process:
        write_slowly(process, b"\1\2" * 500)
        wait_for_size(path, 44 + 1000)
        process.send_signal(number)
        assert process.wait(timeout=20) == 0
    assert frames_of(path) == b"\1\2" * 500


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    """Its last words are what the user will read."""
    path = tmp_path / "missing" / "out.wav"
    with child("write", path, stdin=subprocess.PIPE) as process:
        _, said = process.communicate(b"", timeout=20)
        assert process.returncode == 1
    assert str(path).encode() in said
    assert b"No such file" in said


# --- Repair -----------------------------------------------------------------------


def test_repair_finds_the_samples_behind_other_chunks(tmp_path):
    """As ffmpeg writes them, with sizes that say nothing when it was killed."""
    path = tmp_path / "ffmpeg.wav"
    extra = b"LIST" + struct.pack("<I", 5) + b"INFO\0\0"
    head = wav.header()
    broken = b"RIFF\xff\xff\xff\xff" + head[8:36] + extra + b"data\xff\xff\xff\xff"
    path.write_bytes(broken + b"\1\2\3\4\5")
    assert wav.repair(path)
    assert frames_of(path) == b"\1\2\3\4"
    before = path.read_bytes()
    assert wav.repair(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"RIFF", b"x" * 100, wav.header()[:40]])
def test_repair_leaves_what_is_no_wav(tmp_path, content):
    """It is not ours."""
    path = tmp_path / "other"
    path.write_bytes(content)
    assert not wav.repair(path)
    assert path.read_bytes() == content


def test_the_header_is_that_of_the_standard_library():
    """Bit for bit."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(b"")
        assert out.getvalue() == wav.header()


# --- Reading ----------------------------------------------------------------------


def read_some(path, size, *start):
    """Read *size* bytes from the child; return them and the seconds they took."""
    with child("read", path, *start, stdout=subprocess.PIPE) as process:
        first = process.stdout.read(960)
        began = time.monotonic()
        rest = process.stdout.read(size - 960)
        return first + rest, time.monotonic() - began


def test_a_wav_is_played_in_real_time_and_then_there_is_silence(tmp_path):
    """A recorder does not end because nobody speaks."""
    path = make_wav(tmp_path / "in.wav", 0.5)
    data, took = read_some(path, SECOND)
    assert data[: SECOND // 2] == frames_of(path)
    assert not any(data[SECOND // 2 :])
    assert took > 0.9  # never faster; slower is the machine's fault


def test_it_begins_where_it_is_told(tmp_path):
    """So that a recovered recorder goes on where the dead one ended."""
    path = make_wav(tmp_path / "in.wav", 0.5)
    data, _ = read_some(path, 9600, 0.25)
    assert data == frames_of(path)[12_000 : 12_000 + 9600]


def test_it_may_begin_behind_the_end(tmp_path):
    """Then there is only silence."""
    path = make_wav(tmp_path / "in.wav", 0.1)
    data, _ = read_some(path, 2880, 99)
    assert not any(data)


@pytest.mark.parametrize(
    ("rate", "channels", "width"),
    [(24_000, 2, 2), (16_000, 1, 2), (44_100, 2, 3), (8_000, 1, 1), (48_000, 1, 4)],
)
def test_other_forms_of_wav_become_ours(tmp_path, rate, channels, width):
    """The tone comes out at the same pitch and loudness."""
    path = make_wav(tmp_path / "in.wav", 0.3, rate=rate, channels=channels, width=width)
    wanted = frames_of(make_wav(tmp_path / "same.wav", 0.3))
    data, _ = read_some(path, len(wanted))
    ours = struct.unpack(f"<{len(wanted) // 2}h", data)
    theirs = struct.unpack(f"<{len(wanted) // 2}h", wanted)
    difference = sum(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / len(ours)
    assert difference < 500  # of a peak of 16,384


@pytest.mark.parametrize("arguments", [[], ["play", "x"], ["read"]])
def test_a_wrong_call_says_how_it_is_used(arguments):
    """And exits with 2."""
    with child(*arguments) as process:
        _, said = process.communicate(timeout=20)
        assert process.returncode == 2
    assert b"usage" in said


@pytest.mark.parametrize("content", [None, b"", b"not a wav at all, but long enough"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    """Missing, empty, or something else."""
    path = tmp_path / "in.wav"
    if content is not None:
        path.write_bytes(content)
    with child("read", path, stdout=subprocess.PIPE) as process:
        _, said = process.communicate(timeout=20)
        assert process.returncode == 1
    assert str(path).encode() in said


def test_a_reader_whose_listener_left_ends_quietly(tmp_path):
    """No traceback in the error history."""
    path = make_wav(tmp_path / "in.wav", 0.5)
    with child("read", path, stdout=subprocess.PIPE) as process:
        process.stdout.read(960)
        process.stdout.close()
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == b""
