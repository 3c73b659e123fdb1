"""The script runs as a real process on real files."""

import io
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
    with script(path, stdin=subprocess.PIPE) as process:
        process.communicate(pcm, timeout=120)
        assert process.returncode == 0
    assert frames_of(path) == pcm


def test_second_writer_appends_to_the_file(tmp_path):
    path = tmp_path / "out.wav"
    for pcm in (b"\1\2" * 500, b"\3\4" * 500):
        with script(path, stdin=subprocess.PIPE) as process:
            process.communicate(pcm, timeout=120)
    assert frames_of(path) == b"\1\2" * 500 + b"\3\4" * 500


def test_repair_after_sigkill_keeps_all_whole_samples(tmp_path):
    path = tmp_path / "out.wav"
    with script(path, stdin=subprocess.PIPE) as process:
        feed(process, b"\1\2" * 500 + b"\3")
        wait_for_size(path, 44 + 1001)
        process.kill()
        process.wait(timeout=120)
    assert wav.repair(path)
    assert frames_of(path) == b"\1\2" * 500


def test_header_is_updated_while_the_writer_runs(tmp_path):
    """After SIGKILL the header lacks at most the last second."""
    path = tmp_path / "out.wav"
    with script(path, stdin=subprocess.PIPE) as process:
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
    with script(path, stdin=subprocess.PIPE) as process:
        feed(process, b"\1\2" * 500)
        wait_for_size(path, 44 + 1000)
        process.send_signal(number)
        assert process.wait(timeout=120) == 0
    assert frames_of(path) == b"\1\2" * 500


def test_error_of_an_unwritable_file_names_the_path(tmp_path):
    path = tmp_path / "missing" / "out.wav"
    with script(path, stdin=subprocess.PIPE) as process:
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
