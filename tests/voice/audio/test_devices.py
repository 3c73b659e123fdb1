"""Which program records and which plays: found on made-up machines, run on this one."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from realtalk_async.exceptions import AudioUnavailable, InvalidConfiguration
from realtalk_async.voice.audio import devices
from realtalk_async.voice.audio import wav as wavfile
from realtalk_async.voice.audio.devices import (
    DEFAULT,
    Machine,
    find_players,
    find_recorders,
)

BUNDLED = devices.find_bundled_ffmpeg()
needs_ffmpeg = pytest.mark.skipif(BUNDLED is None, reason="imageio-ffmpeg is missing")
FFMPEG = Machine(which=lambda name: None, platform="linux", bundled_ffmpeg=BUNDLED)


def machine(*programs, platform="linux", bundled=None):
    """Return a machine that has just these *programs*."""
    paths = {name: f"/usr/bin/{name}" for name in programs}
    return Machine(paths.get, platform, bundled)


BARE = machine()


@pytest.fixture
def wav(tmp_path):
    """Return the path of a WAV of half a second, with samples that are its indices."""
    path = tmp_path / "in.wav"
    pcm = b"".join(i.to_bytes(2, "little") for i in range(12_000))
    path.write_bytes(wavfile.header() + pcm)
    wavfile.repair(path)
    return path


# --- Finding ----------------------------------------------------------------------


def test_recorders_are_found_in_the_order_of_their_latency():
    """PipeWire's own first, ffmpeg last."""
    names = ("ffmpeg", "sox", "arecord", "parec", "pw-record")
    found = find_recorders(DEFAULT, machine(*names))
    assert [p.name for p in found] == ["pw-record", "parec", "arecord", "sox", "ffmpeg"]
    assert all(p.argv[0] == f"/usr/bin/{p.name}" for p in found)


def test_players_are_found_in_order_with_their_latency():
    """What was written is heard that much later."""
    names = ("ffmpeg", "sox", "aplay", "pacat", "pw-play")
    found = find_players(DEFAULT, machine(*names))
    assert [p.name for p in found] == ["pw-play", "pacat", "aplay", "sox", "ffmpeg"]
    assert all(0 < p.latency_ms < 150 for p in found)


def test_the_low_latency_lines_are_used():
    """The default flags of pacat are two seconds late, those of arecord 121 ms."""
    (pacat,) = find_players(DEFAULT, machine("pacat"))
    assert "--latency-msec=40" in pacat.argv
    (arecord,) = find_recorders(DEFAULT, machine("arecord"))
    assert " ".join(arecord.argv[1:]) == (
        "-q -f S16_LE -r 24000 -c 1 -t raw --period-size=480 --buffer-size=1920"
    )


def test_the_ffmpeg_of_the_wheel_stands_in_for_a_missing_one():
    """The machine's own comes first."""
    (found,) = find_recorders(DEFAULT, machine(bundled="/wheel/ffmpeg"))
    assert found.argv[0] == "/wheel/ffmpeg"
    (found,) = find_recorders(DEFAULT, machine("ffmpeg", bundled="/wheel/ffmpeg"))
    assert found.argv[0] == "/usr/bin/ffmpeg"


def test_macos_has_its_own_lines():
    """Core Audio; these could not be tried."""
    mac = machine("sox", "parec", platform="darwin")
    (recorder,) = find_recorders(DEFAULT, mac)
    assert "coreaudio" in recorder.argv
    (player,) = find_players(DEFAULT, mac)
    assert "coreaudio" in player.argv


@pytest.mark.parametrize("find", [find_recorders, find_players])
def test_a_machine_without_any_program_is_told_what_to_do(find):
    """The candidates, and how to get one."""
    with pytest.raises(AudioUnavailable) as caught:
        find(DEFAULT, BARE)
    message = str(caught.value)
    for word in ("sox", "ffmpeg", "pulseaudio-utils", "realtalk-async[ffmpeg]", "WAV"):
        assert word in message
    assert ("parec" in message) == (find is find_recorders)


@pytest.mark.parametrize("find", [find_recorders, find_players])
def test_any_command_of_the_user_is_taken_as_it_is(find):
    """A list or a tuple; an empty one makes no sense."""
    has_it = Machine(which=lambda name: name, platform="linux")
    (program,) = find(["/opt/bin/my-sound", "--fast"], has_it)
    assert (program.name, program.argv) == (
        "my-sound",
        ("/opt/bin/my-sound", "--fast"),
    )
    with pytest.raises(AudioUnavailable, match="my-sound"):
        find(["my-sound"], BARE)
    with pytest.raises(InvalidConfiguration):
        find([], BARE)


def test_a_missing_audio_file_is_named(tmp_path):
    """Before anything is started."""
    with pytest.raises(AudioUnavailable, match=r"nowhere\.wav"):
        find_recorders(tmp_path / "nowhere.wav", BARE)
    with pytest.raises(AudioUnavailable, match=r"out\.wav"):
        find_players(tmp_path / "missing" / "out.wav", BARE)
    with pytest.raises(AudioUnavailable):
        find_players(str(tmp_path), BARE)


def test_a_file_of_an_odd_name_is_no_option(tmp_path, monkeypatch):
    """Nor a protocol of ffmpeg."""
    monkeypatch.chdir(tmp_path)
    path = Path("-i:pipe.wav")
    path.write_bytes(wavfile.header())
    (program,) = find_recorders(path, machine("ffmpeg"))
    assert f"file:{path}" in program.argv


# --- Running ----------------------------------------------------------------------

MACHINES = [pytest.param(FFMPEG, id="ffmpeg", marks=needs_ffmpeg), BARE]


@pytest.mark.parametrize("where", MACHINES, ids=lambda m: "child")
def test_a_wav_is_recorded_in_real_time_from_where_it_is_told(wav, where):
    """Sample by sample, then silence, never faster than the clock."""
    (program,) = find_recorders(wav, where, start=0.25)
    assert program.resumes
    with subprocess.Popen(program.argv, stdout=subprocess.PIPE) as process:
        data = process.stdout.read(960)
        began = time.monotonic()
        data += process.stdout.read(48_000 - 960)
        took = time.monotonic() - began
        process.kill()
    assert data[:24_000][:12_000] == wav.read_bytes()[44 + 12_000 :]
    assert not any(data[12_000:])
    assert took > 0.85


@pytest.mark.parametrize("where", MACHINES, ids=lambda m: "child")
@pytest.mark.parametrize("start", [0.45, 99])
def test_the_silence_behind_a_wav_keeps_the_time_too(wav, where, start):
    """Also of a recorder that was revived when the file was at its end."""
    (program,) = find_recorders(wav, where, start=start)
    with subprocess.Popen(program.argv, stdout=subprocess.PIPE) as process:
        process.stdout.read(4800)
        began = time.monotonic()
        process.stdout.read(24_000)
        took = time.monotonic() - began
        process.kill()
    assert took > 0.4


@pytest.mark.parametrize("where", MACHINES, ids=lambda m: "child")
def test_what_is_played_to_a_wav_is_in_it(tmp_path, where):
    """A new file each time."""
    path = tmp_path / "out.wav"
    path.write_bytes(b"an old recording")
    pcm = os.urandom(48_000)
    (program,) = find_players(str(path), where)
    subprocess.run(program.argv, input=pcm, check=True, timeout=20)
    start = 44 if where is BARE else path.read_bytes().index(b"data") + 8
    assert path.read_bytes()[start:] == pcm


def test_a_file_whose_writer_was_killed_is_continued(tmp_path):
    """By our own child: ffmpeg would begin it anew."""
    path = tmp_path / "out.wav"
    path.write_bytes(wavfile.header() + b"\1\2" * 100)
    program = devices.continue_file(path)
    subprocess.run(program.argv, input=b"\3\4" * 100, check=True, timeout=20)
    assert path.read_bytes()[44:] == b"\1\2" * 100 + b"\3\4" * 100


@needs_ffmpeg
def test_the_ffmpeg_of_the_wheel_runs():
    """It is found without running it, and it is one."""
    said = subprocess.run([str(BUNDLED), "-version"], capture_output=True, check=True)
    assert said.stdout.startswith(b"ffmpeg version")
    assert Machine.this().ffmpeg is not None
    assert Machine.this().platform == sys.platform
