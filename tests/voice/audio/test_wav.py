"""The script runs as a real process on real files."""

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
def script(*arguments, **options):
    """Run the script and kill it at the end."""
    argv = [sys.executable, "-I", "-S", wav.__file__, *map(str, arguments)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def make_wav(path, seconds=1.0, *, rate=24_000, channels=1, width=2):
    """Write a 100 Hz tone at half the full scale."""
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
    """Return the samples of a valid WAV file as bytes."""
    with wave.open(str(path), "rb") as file:
        assert file.getparams()[:3] == (1, 2, 24_000)
        data = file.readframes(file.getnframes())
        assert len(data) == 2 * file.getnframes()
        return data


def feed(process, pcm):
    """Write *pcm* to the script's stdin."""
    process.stdin.write(pcm)
    process.stdin.flush()


def wait_for_size(path, size):
    """Wait until *path* has at least *size* bytes."""
    end = time.monotonic() + 20
    while not (path.exists() and path.stat().st_size >= size):
        assert time.monotonic() < end, "the script did not write in time"
        time.sleep(0.01)


# --- Writing ----------------------------------------------------------------------


def test_written_file_is_a_wav_with_all_bytes(tmp_path):
    path = tmp_path / "out.wav"
    pcm = os.urandom(SECOND)
    with script("write", path, stdin=subprocess.PIPE) as process:
        process.communicate(pcm, timeout=120)
        assert process.returncode == 0
    assert frames_of(path) == pcm


def test_second_writer_appends_to_the_file(tmp_path):
    path = tmp_path / "out.wav"
    for pcm in (b"\1\2" * 500, b"\3\4" * 500):
        with script("write", path, stdin=subprocess.PIPE) as process:
            process.communicate(pcm, timeout=120)
    assert frames_of(path) == b"\1\2" * 500 + b"\3\4" * 500


def test_repair_after_sigkill_keeps_all_whole_samples(tmp_path):
    path = tmp_path / "out.wav"
    with script("write", path, stdin=subprocess.PIPE) as process:
        feed(process, b"\1\2" * 500 + b"\3")
        wait_for_size(path, 44 + 1001)
        process.kill()
        process.wait(timeout=120)
    assert wav.repair(path)
    assert frames_of(path) == b"\1\2" * 500


def test_header_is_updated_while_the_writer_runs(tmp_path):
    """After SIGKILL the header lacks at most the last second."""
    path = tmp_path / "out.wav"
    with script("write", path, stdin=subprocess.PIPE) as process:
        feed(process, bytes(SECOND))
        wait_for_size(path, 44 + SECOND)
        end = time.monotonic() + 20
        while len(frames_of(path)) < SECOND:
            assert time.monotonic() < end
            feed(process, bytes(2))
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=120)
    assert len(frames_of(path)) >= SECOND


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_terminated_writer_leaves_a_valid_wav(tmp_path, number):
    path = tmp_path / "out.wav"
    with script("write", path, stdin=subprocess.PIPE) as process:
        feed(process, b"\1\2" * 500)
        wait_for_size(path, 44 + 1000)
        process.send_signal(number)
        assert process.wait(timeout=120) == 0
    assert frames_of(path) == b"\1\2" * 500


def test_error_of_an_unwritable_file_names_the_path(tmp_path):
    path = tmp_path / "missing" / "out.wav"
    with script("write", path, stdin=subprocess.PIPE) as process:
        _, stderr = process.communicate(b"", timeout=120)
        assert process.returncode == 1
    assert str(path).encode() in stderr
    assert b"No such file" in stderr


# --- Repair -----------------------------------------------------------------------


def test_repair_finds_the_data_chunk_after_other_chunks(tmp_path):
    """A killed ffmpeg leaves such chunks, and sizes of 0xffffffff."""
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
def test_repair_leaves_other_files_unchanged(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    assert not wav.repair(path)
    assert path.read_bytes() == content


def test_header_equals_that_of_the_standard_library():
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(b"")
        assert out.getvalue() == wav.header()


# --- Reading ----------------------------------------------------------------------


def read_some(path, size, *start):
    """Read *size* bytes from the script; return them and the seconds this took."""
    with script("read", path, *start, stdout=subprocess.PIPE) as process:
        first = process.stdout.read(960)
        began = time.monotonic()
        rest = process.stdout.read(size - 960)
        return first + rest, time.monotonic() - began


def test_file_is_read_in_real_time_and_followed_by_silence(tmp_path):
    path = make_wav(tmp_path / "in.wav", 0.5)
    data, took = read_some(path, SECOND)
    assert data[: SECOND // 2] == frames_of(path)
    assert not any(data[SECOND // 2 :])
    assert took > 0.9  # a busy machine may be slower


def test_reader_begins_at_the_start_position(tmp_path):
    """A restarted recorder continues where the previous one ended."""
    path = make_wav(tmp_path / "in.wav", 0.5)
    data, _ = read_some(path, 9600, 0.25)
    assert data == frames_of(path)[12_000 : 12_000 + 9600]


def test_reader_gives_silence_for_a_start_behind_the_end(tmp_path):
    path = make_wav(tmp_path / "in.wav", 0.1)
    data, _ = read_some(path, 2880, 99)
    assert not any(data)


@pytest.mark.parametrize(
    ("rate", "channels", "width"),
    [(24_000, 2, 2), (16_000, 1, 2), (44_100, 2, 3), (8_000, 1, 1), (48_000, 1, 4)],
)
def test_other_formats_are_converted_with_pitch_and_loudness_kept(
    tmp_path, rate, channels, width
):
    path = make_wav(tmp_path / "in.wav", 0.3, rate=rate, channels=channels, width=width)
    wanted = frames_of(make_wav(tmp_path / "same.wav", 0.3))
    data, _ = read_some(path, len(wanted))
    ours = struct.unpack(f"<{len(wanted) // 2}h", data)
    theirs = struct.unpack(f"<{len(wanted) // 2}h", wanted)
    difference = sum(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / len(ours)
    assert difference < 500  # of a peak of 16,384


@pytest.mark.parametrize("arguments", [[], ["play", "x"], ["read"]])
def test_wrong_arguments_print_the_usage_and_exit_with_2(arguments):
    with script(*arguments) as process:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 2
    assert b"usage" in stderr


@pytest.mark.parametrize("content", [None, b"", b"not a wav at all, but long enough"])
def test_error_of_an_unreadable_file_names_the_path(tmp_path, content):
    path = tmp_path / "in.wav"
    if content is not None:
        path.write_bytes(content)
    with script("read", path, stdout=subprocess.PIPE) as process:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 1
    assert str(path).encode() in stderr


def test_reader_exits_with_0_when_its_stdout_is_closed(tmp_path):
    path = make_wav(tmp_path / "in.wav", 0.5)
    with script("read", path, stdout=subprocess.PIPE) as process:
        process.stdout.read(960)
        process.stdout.close()
        assert process.wait(timeout=120) == 0
        assert process.stderr.read() == b""
