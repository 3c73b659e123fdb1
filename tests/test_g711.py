"""The converters of telephone sound, against the tables of libsndfile and whole tones."""

import random

import numpy
import pytest

from realtalk_async.g711 import Decoder, Encoder

LAWS = ["audio/pcmu", "audio/pcma"]


def pieces_of(data, unit, seed=1):
    """Yield *data* in pieces of random size."""
    chance = random.Random(seed)
    while data:
        size = unit * chance.randint(1, 900)
        yield data[:size]
        data = data[size:]


def tone(hertz, rate=24_000, peak=0.4):
    """Return one second of a tone."""
    return peak * 32767 * numpy.sin(2 * numpy.pi * hertz * numpy.arange(rate) / rate)


@pytest.mark.parametrize("law", LAWS)
def test_speech_band_survives_both_ways_whatever_the_pieces(law):
    sent = tone(1000).astype("<i2")
    encoder, decoder = Encoder(law), Decoder(law)
    codes = b"".join(encoder.encode(one) for one in pieces_of(sent.tobytes(), 2))
    assert len(codes) == 8000
    pcm = b"".join(decoder.decode(one) for one in pieces_of(codes, 1))
    got = numpy.frombuffer(pcm, "<i2").astype(float)
    assert len(got) == 24_000
    error = got[1030:20_030] - sent[1000:20_000]  # 30 samples late: 1.25 ms
    assert 10 * numpy.log10((tone(1000) ** 2).mean() / (error**2).mean()) > 35
    whole = Encoder(law).encode(sent.tobytes())
    assert whole == codes


def test_tone_above_the_band_of_a_telephone_is_removed():
    """Without a filter it would become a tone of 2 kHz."""
    codes = Encoder("audio/pcmu").encode(tone(6000).astype("<i2").tobytes())
    got = numpy.frombuffer(Decoder("audio/pcmu").decode(codes), "<i2").astype(float)
    assert got[1000:].std() < 0.02 * tone(6000).std()


@pytest.mark.parametrize(
    ("law", "silence"), [("audio/pcmu", 0xFF), ("audio/pcma", 0xD5)]
)
def test_silence_is_the_code_of_silence(law, silence):
    codes = Encoder(law).encode(bytes(960))
    assert set(codes) == {silence}
    pcm = Decoder(law).decode(codes)
    assert max(numpy.frombuffer(pcm, "<i2")) <= 9  # the least step of A-law


def test_pcm_stays_as_it_is():
    assert Encoder("audio/pcm").encode(b"\1\2\3\4") == b"\1\2\3\4"
    assert Decoder("audio/pcm").decode(b"\1\2\3\4") == b"\1\2\3\4"
