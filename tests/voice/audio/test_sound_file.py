"""Sound files of many kinds are read in process; the script runs as a real process."""

import struct
import subprocess
import sys

import numpy
import pytest
import soundfile

from realtalk_async.voice.audio import sound_file, wav

RATE = 24_000
SECONDS = 0.5
TONE = 440


def tone(rate=RATE):
    """Return half a second of a tone at half the full scale."""
    return 0.5 * numpy.sin(
        2 * numpy.pi * TONE * numpy.arange(int(rate * SECONDS)) / rate
    )


PCM = (tone() * 32767).astype("<i2").tobytes()


def read(path, start=0.0):
    """Return all samples of a file from *start* seconds on."""
    return b"".join(sound_file.pieces(path, start))


def riff(fmt, data, *, riff_size=None, data_size=None, before=b""):
    """Return a WAV; the sizes may be wrong, and chunks may come before the data."""
    size = len(data) if data_size is None else data_size
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + before
    body += b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", riff_size or len(body)) + body


MONO = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
EXTENSIBLE = (
    struct.pack("<HHIIHH", 0xFFFE, 1, RATE, 2 * RATE, 2, 16)
    + struct.pack("<HHI", 22, 16, 4)
    + bytes.fromhex("0100000000001000800000aa00389b71")
)
FLOAT = struct.pack("<HHIIHH", 3, 1, RATE, 4 * RATE, 4, 32)
FLOATS = (numpy.frombuffer(PCM, "<i2") / 32768).astype("<f4").tobytes()
ALL = 0xFFFF_FFFF


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        pytest.param(riff(MONO, PCM), 0, id="plain"),
        pytest.param(riff(MONO, PCM, riff_size=8, data_size=0), 0, id="size 0"),
        pytest.param(riff(MONO, PCM, data_size=0), 0, id="data size 0"),
        pytest.param(riff(MONO, PCM, riff_size=ALL, data_size=ALL), 0, id="size -1"),
        pytest.param(riff(MONO, PCM)[:-1], 2, id="cut within a sample"),
        pytest.param(riff(MONO, PCM)[:-1000], 1000, id="cut"),
        pytest.param(riff(MONO, PCM, before=b"LIST\4\0\0\0INFO"), 0, id="LIST"),
        pytest.param(riff(EXTENSIBLE, PCM), 0, id="EXTENSIBLE"),
        pytest.param(riff(EXTENSIBLE, PCM, data_size=0), 0, id="EXTENSIBLE, size 0"),
        pytest.param(riff(FLOAT, FLOATS), 0, id="float32"),
        pytest.param(riff(FLOAT, FLOATS, data_size=0), 0, id="float32, size 0"),
    ],
)
def test_every_sample_of_a_wav_is_read_exactly(tmp_path, content, missing):
    path = tmp_path / "in.wav"
    path.write_bytes(content)
    sound_file.check(path)
    assert read(path) == PCM[: len(PCM) - missing]


@pytest.mark.parametrize(
    ("name", "rate", "channels", "options"),
    [
        ("in.wav", 44_100, 2, {"subtype": "PCM_24"}),
        ("in.wav", 16_000, 1, {"subtype": "DOUBLE"}),
        ("in.wav", 8_000, 2, {"subtype": "PCM_U8"}),
        ("in.wav", 8_000, 1, {"subtype": "ULAW"}),
        ("in.wav", 8_000, 1, {"subtype": "ALAW"}),
        ("in.wav", 24_000, 1, {"subtype": "IMA_ADPCM"}),
        ("in.wav", 8_000, 1, {"subtype": "GSM610"}),
        ("in.ul", 8_000, 1, {"format": "RAW", "subtype": "ULAW"}),
        ("in.ALAW", 8_000, 1, {"format": "RAW", "subtype": "ALAW"}),
        ("in.flac", 48_000, 2, {}),
        ("in.ogg", 44_100, 2, {}),
        ("in.opus", 48_000, 1, {"format": "OGG", "subtype": "OPUS"}),
        ("in.mp3", 44_100, 2, {}),
        ("in.mp3", 24_000, 1, {}),
        ("in.aiff", 24_000, 1, {}),
        ("in.rf64", 24_000, 6, {"format": "RF64"}),
    ],
)
@pytest.mark.parametrize("start", [0.0, 0.2])
def test_sound_of_every_format_keeps_its_length_pitch_and_loudness(
    tmp_path, name, rate, channels, options, start
):
    path = tmp_path / name
    sound = numpy.stack([tone(rate)] * channels, axis=1)
    soundfile.write(path, sound, rate, **options)
    sound_file.check(path)
    samples = numpy.frombuffer(read(path, start), "<i2") / 32768
    assert len(samples) / RATE == pytest.approx(
        SECONDS - start, abs=0.07
    )  # whole blocks
    middle = samples[1200:-2400]
    loudness = numpy.sqrt((middle**2).mean())
    assert loudness == pytest.approx(0.5 / numpy.sqrt(2), rel=0.05)
    rises = ((middle[:-1] < 0) & (middle[1:] >= 0)).sum()
    assert rises == pytest.approx(TONE * len(middle) / RATE, abs=2)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"hello" * 100, "not recogni"),
        (b"", "not recogni"),
        (riff(MONO, PCM)[:30], "No 'data' chunk"),
        (wav.header(), "no sound"),
    ],
)
def test_file_without_sound_is_refused_with_the_reason(tmp_path, content, why):
    path = tmp_path / "in.wav"
    path.write_bytes(content)
    with pytest.raises(sound_file.Unreadable, match=why):
        sound_file.check(path)


def test_samples_without_a_header_are_refused(tmp_path):
    path = tmp_path / "in.raw"
    path.write_bytes(PCM)
    with pytest.raises(sound_file.Unreadable, match="no header"):
        sound_file.check(path)


def test_samples_above_the_full_scale_are_clipped(tmp_path):
    path = tmp_path / "loud.wav"
    soundfile.write(path, numpy.array([2.0, -2.0, numpy.nan]), RATE, subtype="FLOAT")
    assert numpy.frombuffer(read(path), "<i2").tolist() == [32767, -32768, 0]


def test_script_plays_a_damaged_file_up_to_the_damage_and_goes_on_with_silence(
    tmp_path,
):
    path = tmp_path / "cut.flac"
    noise = numpy.random.default_rng(1).uniform(-0.5, 0.5, RATE)
    soundfile.write(path, noise, RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    sound_file.check(path)
    argv = (sys.executable, "-P", sound_file.__file__, str(path), "0")
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe) as process:
        data = process.stdout.read(48_000)
        process.stdout.close()  # the script ends without an error
        assert process.wait(timeout=120) == 0
        stderr = process.stderr.read()
    assert any(data[:9600])
    assert not any(data[-9600:])
    assert b"cut.flac: it is damaged" in stderr
    assert stderr.count(b"\n") == 1
