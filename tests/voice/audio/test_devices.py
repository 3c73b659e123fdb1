"""Programs are found on fake machines and run on the real one."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from realtalk_async.exceptions import AudioUnavailable, InvalidConfiguration
from realtalk_async.voice.audio import devices, wav
from realtalk_async.voice.audio.devices import (
    DEFAULT,
    Machine,
    SoundFile,
    find_players,
    find_recorders,
)

BUNDLED = devices.find_bundled_ffmpeg()
needs_ffmpeg = pytest.mark.skipif(BUNDLED is None, reason="imageio-ffmpeg is missing")
FFMPEG = Machine(which=lambda name: None, platform="linux", bundled_ffmpeg=BUNDLED)


def machine(*programs, platform="linux", bundled=None):
    """Return a machine on which only *programs* are installed."""
    paths = {name: f"/usr/bin/{name}" for name in programs}
    return Machine(paths.get, platform, bundled)


BARE = machine()


@pytest.fixture
def audio_file(tmp_path):
    """Return a WAV file of half a second whose samples are their own indices."""
    path = tmp_path / "in.wav"
    pcm = b"".join(i.to_bytes(2, "little") for i in range(12_000))
    path.write_bytes(wav.header() + pcm)
    wav.repair(path)
    return path


# --- Finding ----------------------------------------------------------------------


def test_recorders_are_ordered_by_latency():
    names = ("ffmpeg", "sox", "arecord", "parec", "pw-record")
    found = find_recorders(DEFAULT, machine(*names))
    assert [p.name for p in found] == ["pw-record", "parec", "arecord", "sox", "ffmpeg"]
    assert all(p.argv[0] == f"/usr/bin/{p.name}" for p in found)


def test_players_are_ordered_and_have_a_measured_latency():
    names = ("ffmpeg", "sox", "aplay", "pacat", "pw-play")
    found = find_players(DEFAULT, machine(*names))
    assert [p.name for p in found] == ["pw-play", "pacat", "aplay", "sox", "ffmpeg"]
    assert all(0 < p.latency_ms < 150 for p in found)


def test_arguments_request_a_low_latency():
    """With its default arguments pacat is 2 s late, arecord 121 ms."""
    (pacat,) = find_players(DEFAULT, machine("pacat"))
    assert "--latency-msec=40" in pacat.argv
    (arecord,) = find_recorders(DEFAULT, machine("arecord"))
    assert " ".join(arecord.argv[1:]) == (
        "-q -f S16_LE -r 24000 -c 1 -t raw --period-size=480 --buffer-size=1920"
    )


def test_bundled_ffmpeg_is_used_if_the_machine_has_none():
    (found,) = find_recorders(DEFAULT, machine(bundled="/wheel/ffmpeg"))
    assert found.argv[0] == "/wheel/ffmpeg"
    (found,) = find_recorders(DEFAULT, machine("ffmpeg", bundled="/wheel/ffmpeg"))
    assert found.argv[0] == "/usr/bin/ffmpeg"


def test_macos_programs_use_core_audio():
    mac = machine("sox", "parec", platform="darwin")
    (recorder,) = find_recorders(DEFAULT, mac)
    assert "coreaudio" in recorder.argv
    (player,) = find_players(DEFAULT, mac)
    assert "coreaudio" in player.argv


@pytest.mark.parametrize("find", [find_recorders, find_players])
def test_error_without_a_program_lists_candidates_and_advice(find):
    with pytest.raises(AudioUnavailable) as caught:
        find(DEFAULT, BARE)
    message = str(caught.value)
    for word in ("sox", "ffmpeg", "pulseaudio-utils", "realtalk-async[ffmpeg]", "WAV"):
        assert word in message
    assert ("parec" in message) == (find is find_recorders)


@pytest.mark.parametrize("find", [find_recorders, find_players])
def test_own_command_is_used_unchanged_if_its_program_exists(find):
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


@pytest.mark.parametrize("content", [b"hello" * 100, b"", wav.header(), None])
def test_error_of_an_unreadable_microphone_file_names_it_and_the_reason(
    tmp_path, content
):
    path = tmp_path / "in.wav"
    if content is not None:
        path.write_bytes(content)
    reasons = {b"": "not recognised", None: "no such", wav.header(): "no sound"}
    with pytest.raises(AudioUnavailable) as caught:
        devices.examine_sound_file(path, BARE)
    assert str(path) in str(caught.value)
    assert reasons.get(content, "not recognised") in str(caught.value)
    with pytest.raises(AudioUnavailable, match="no regular file"):
        devices.examine_sound_file(tmp_path, BARE)


@needs_ffmpeg
def test_file_that_only_ffmpeg_can_read_is_read_by_it(audio_file, tmp_path):
    path = tmp_path / "in.m4a"
    command = (BUNDLED, "-v", "error", "-i", audio_file, path)
    subprocess.run(command, check=True, timeout=120)
    found = devices.examine_sound_file(path, FFMPEG)
    assert found.needs_ffmpeg
    assert find_recorders(found, FFMPEG)[0].name == "ffmpeg"
    with pytest.raises(AudioUnavailable, match=r"in\.m4a"):
        devices.examine_sound_file(path, BARE)
    path.write_bytes(b"no sound")
    with pytest.raises(AudioUnavailable, match=r"in\.m4a"):
        devices.examine_sound_file(path, FFMPEG)


def test_error_of_an_unusable_audio_file_names_the_path(tmp_path):
    with pytest.raises(AudioUnavailable, match=r"out\.wav"):
        find_players(tmp_path / "missing" / "out.wav", BARE)
    with pytest.raises(AudioUnavailable):
        find_players(str(tmp_path), BARE)


def test_file_name_is_never_taken_for_an_ffmpeg_option_or_protocol(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = Path("-i:pipe.wav")
    path.write_bytes(wav.header())
    file = SoundFile(path, needs_ffmpeg=True)
    (program,) = find_recorders(file, machine("ffmpeg"))
    assert f"file:{path}" in program.argv


def test_a_frozen_app_without_ffmpeg_never_runs_itself_for_a_file(
    audio_file, monkeypatch
):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    for find in (find_recorders, find_players):
        with pytest.raises(AudioUnavailable, match=r"frozen app.*install ffmpeg"):
            find(str(audio_file), BARE)


# --- Running ----------------------------------------------------------------------

MACHINES = [pytest.param(FFMPEG, id="ffmpeg", marks=needs_ffmpeg), BARE]


READERS = [pytest.param(True, id="ffmpeg", marks=needs_ffmpeg), False]


@pytest.mark.parametrize("by_ffmpeg", READERS)
def test_file_is_recorded_in_real_time_from_its_start_position(audio_file, by_ffmpeg):
    """The file is followed by silence."""
    file = SoundFile(audio_file, needs_ffmpeg=by_ffmpeg)
    (program,) = find_recorders(file, FFMPEG, start=0.25)
    assert program.resumes
    began = time.monotonic()
    with subprocess.Popen(program.argv, stdout=subprocess.PIPE) as process:
        data = process.stdout.read(48_000)
        took = time.monotonic() - began
        process.kill()
    assert data[:24_000][:12_000] == audio_file.read_bytes()[44 + 12_000 :]
    assert not any(data[12_000:])
    assert took > 0.85


@pytest.mark.parametrize("by_ffmpeg", READERS)
@pytest.mark.parametrize("start", [0.45, 99])
def test_silence_after_a_file_comes_in_real_time(audio_file, by_ffmpeg, start):
    """A recorder may be restarted when the file is already at its end."""
    file = SoundFile(audio_file, needs_ffmpeg=by_ffmpeg)
    (program,) = find_recorders(file, FFMPEG, start=start)
    # From the start of the program: a reader that is late finds bytes in the pipe.
    began = time.monotonic()
    with subprocess.Popen(program.argv, stdout=subprocess.PIPE) as process:
        process.stdout.read(52_800)
        took = time.monotonic() - began
        process.kill()
    assert took > 0.9


@pytest.mark.parametrize("where", MACHINES, ids=lambda m: "wav.py")
def test_player_overwrites_the_file_with_what_is_played(tmp_path, where):
    path = tmp_path / "out.wav"
    path.write_bytes(b"an old recording")
    pcm = os.urandom(48_000)
    (program,) = find_players(str(path), where)
    subprocess.run(program.argv, input=pcm, check=True, timeout=120)
    start = 44 if where is BARE else path.read_bytes().index(b"data") + 8
    assert path.read_bytes()[start:] == pcm


def test_file_of_a_killed_writer_is_continued(tmp_path):
    """ffmpeg would overwrite it."""
    path = tmp_path / "out.wav"
    path.write_bytes(wav.header() + b"\1\2" * 100)
    program = devices.continue_file(path)
    subprocess.run(program.argv, input=b"\3\4" * 100, check=True, timeout=120)
    assert path.read_bytes()[44:] == b"\1\2" * 100 + b"\3\4" * 100


@needs_ffmpeg
def test_bundled_ffmpeg_runs():
    done = subprocess.run([str(BUNDLED), "-version"], capture_output=True, check=True)
    assert done.stdout.startswith(b"ffmpeg version")
    assert Machine.this().ffmpeg is not None
    assert Machine.this().platform == sys.platform
