"""
Telephone sound: G.711 at 8 kHz to and from 16-bit mono PCM at 24 kHz.

Both converters delay the sound by 0.6 ms; a resampler of a library would gather 40 ms and
more. numpy and soundfile, whose tables of the two laws are used, are imported at first use.
"""

from __future__ import annotations

import io
from functools import cache
from importlib import import_module
from typing import Any, Literal, TypeAlias

AudioFormat: TypeAlias = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
"""The formats of the realtime protocol: PCM at 24 kHz, or G.711 µ-law or A-law at 8 kHz."""

_FACTOR = 3  # 24 kHz over 8 kHz
_HALF_WIDTH = 15  # samples of the filter on each side
_SUBTYPES = {"audio/pcmu": "ULAW", "audio/pcma": "ALAW"}


class Encoder:
    """
    Converts PCM to an audio format, piece by piece.

    Raises:
        ImportError: If soundfile is not installed; ``audio/pcm`` does not need it.
    """

    def __init__(self, audio_format: AudioFormat) -> None:
        self.audio_format: AudioFormat = audio_format
        self._is_pcm = audio_format == "audio/pcm"
        self._phase = 0  # samples since the last one that was kept
        if not self._is_pcm:
            self._filter = _Filter(gain=1)
            self._table = _tables(audio_format)[0]

    def encode(self, pcm: bytes) -> bytes:
        """Return *pcm*, whole samples, in the format."""
        if self._is_pcm:
            return pcm
        numpy = import_module("numpy")
        filtered = self._filter.apply(numpy.frombuffer(pcm, "<i2"))
        kept = filtered[-self._phase % _FACTOR :: _FACTOR]
        self._phase = (self._phase + len(filtered)) % _FACTOR
        samples = numpy.clip(numpy.rint(kept), -32768, 32767).astype(int)
        encoded: bytes = self._table[samples + 32768].tobytes()
        return encoded


class Decoder:
    """
    Converts an audio format to PCM, piece by piece.

    Raises:
        ImportError: If soundfile is not installed; ``audio/pcm`` does not need it.
    """

    def __init__(self, audio_format: AudioFormat) -> None:
        self.audio_format: AudioFormat = audio_format
        self._is_pcm = audio_format == "audio/pcm"
        if not self._is_pcm:
            self._filter = _Filter(gain=_FACTOR)
            self._table = _tables(audio_format)[1]

    def decode(self, data: bytes) -> bytes:
        """Return *data* as PCM."""
        if self._is_pcm:
            return data
        numpy = import_module("numpy")
        spread = numpy.zeros(_FACTOR * len(data))
        spread[::_FACTOR] = self._table[numpy.frombuffer(data, "u1")]
        filtered = numpy.rint(self._filter.apply(spread))
        pcm: bytes = numpy.clip(filtered, -32768, 32767).astype("<i2").tobytes()
        return pcm


class _Filter:
    """A low-pass filter at 4 kHz: a windowed sinc function."""

    def __init__(self, *, gain: float) -> None:
        self._numpy = numpy = import_module("numpy")
        offsets = numpy.arange(-_HALF_WIDTH, _HALF_WIDTH + 1)
        taps = numpy.sinc(offsets / _FACTOR) * numpy.hamming(len(offsets))
        self._taps = gain * taps / taps.sum()
        self._past = numpy.zeros(len(offsets) - 1)

    def apply(self, samples: Any) -> Any:  # noqa: ANN401 - numpy is not imported here
        if not len(samples):
            return samples
        known = self._numpy.concatenate([self._past, samples])
        self._past = known[-len(self._past) :]
        return self._numpy.convolve(known, self._taps, "valid")


@cache
def _tables(audio_format: str) -> tuple[Any, Any]:
    """Return the code of each 16-bit sample from the lowest on, and each code's sample."""
    numpy, soundfile = import_module("numpy"), import_module("soundfile")
    law = {"samplerate": 8000, "format": "RAW", "subtype": _SUBTYPES[audio_format]}
    codes = io.BytesIO()
    soundfile.write(codes, numpy.arange(-32768, 32768).astype("i2"), **law)
    every_code = io.BytesIO(bytes(range(256)))
    samples, _ = soundfile.read(every_code, dtype="int16", channels=1, **law)
    return numpy.frombuffer(codes.getvalue(), "u1"), samples
