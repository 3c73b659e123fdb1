"""
Speech recognition with pocketsphinx, for the peer's own voice.

Pocketsphinx holds the interpreter's lock while it works. So it gets the audio as it
arrives, in pieces of 10 ms, and its slow second pass at the end is off: that would block
the event loop for 50 ms, and does not improve the text of this voice (measured).
"""

from __future__ import annotations

import math
import threading
from typing import Any

from realtalk_async.offline.effects import SAMPLE_RATE
from realtalk_async.offline.speech.libraries import load_library
from realtalk_async.offline.speech.questions import GRAMMAR, Hypothesis, choose

MODEL_RATE = 16_000
"""Samples a second of the model's input."""

_PIECE_BYTES = 2 * MODEL_RATE // 100
_LONGEST_QUESTION_BYTES = 15 * 2 * MODEL_RATE
"""A longer utterance is not compared with the questions."""

_START_CMN = "42.85,3.67,-1.36,1.70,-1.27,-0.72,-0.22,4.66,-1.03,0.70,0.26,0.75,-0.29"
"""
The cepstral mean of the voice: the initial state of the recogniser in each session.

It adapts from one utterance to the next; with pocketsphinx's default the first utterance
would be lost.
"""

_lock = threading.Lock()
_idle_decoders: list[_Decoders] = []
_MOST_IDLE = 2


class _Decoders:
    """A decoder for English and one for questions; loading takes 0.2 s and 40 MB."""

    def __init__(self) -> None:
        pocketsphinx = load_library("pocketsphinx")
        common = {"samprate": MODEL_RATE, "loglevel": "FATAL", "fwdflat": False}
        self.general: Any = pocketsphinx.Decoder(**common)
        # Narrow beams, because the rejection of another sentence would take 0.3 s.
        beams = {"beam": 1e-30, "pbeam": 1e-30, "wbeam": 1e-20}
        self.questions: Any = pocketsphinx.Decoder(lm=None, **common, **beams)
        self.questions.add_jsgf_string("questions", GRAMMAR)
        self.questions.activate_search("questions")

    @classmethod
    def borrow(cls) -> _Decoders:
        """Return idle decoders, or new ones."""
        with _lock:
            if _idle_decoders:
                return _idle_decoders.pop()
        return cls()

    def give_back(self) -> None:
        """Keep the decoders for reuse, up to `_MOST_IDLE` of them."""
        with _lock:
            if len(_idle_decoders) < _MOST_IDLE:
                _idle_decoders.append(self)


def load_decoders() -> None:
    """Load the models, if this process has not yet."""
    _Decoders.borrow().give_back()


class SphinxRecogniser:
    """Recognises one utterance after the other, while it is being spoken."""

    def __init__(self) -> None:
        self._cmn = _START_CMN
        self._decoders: _Decoders | None = None
        self._resampler: Any = None
        self._audio = bytearray()
        self._fed = 0

    def feed(self, pcm: bytes) -> None:
        """Add audio to the utterance, 24 kHz."""
        self._take(pcm, last=False)

    def finish(self) -> str:
        """End the utterance and return its words; empty if there are none."""
        if self._decoders is None:
            return ""
        self._take(b"", last=True)
        decoders, audio = self._decoders, bytes(self._audio)
        decoders.general.end_utt()
        general = _hypothesis(decoders.general)
        text = general.text
        if text and len(audio) <= _LONGEST_QUESTION_BYTES:
            question = _recognise_question(decoders.questions, audio, self._cmn)
            text = choose(general, question)
        self._cmn = decoders.general.get_cmn(update=True)
        self._release()
        return text

    def reset(self) -> None:
        """Discard the utterance."""
        if self._decoders is not None:
            self._decoders.general.end_utt()
            self._release()

    def _take(self, pcm: bytes, *, last: bool) -> None:
        if self._decoders is None:
            self._begin()
        assert self._decoders is not None
        samples = load_library("numpy").frombuffer(pcm, dtype="<i2")
        self._audio += self._resampler.resample_chunk(samples, last=last).tobytes()
        end = len(self._audio) if last else len(self._audio) - _PIECE_BYTES + 1
        _process(self._decoders.general, self._audio, self._fed, end)
        self._fed += -(-max(end - self._fed, 0) // _PIECE_BYTES) * _PIECE_BYTES

    def _begin(self) -> None:
        self._decoders = _Decoders.borrow()
        stream = load_library("soxr").ResampleStream
        self._resampler = stream(SAMPLE_RATE, MODEL_RATE, 1, dtype="int16")
        self._decoders.general.set_cmn(self._cmn)
        self._decoders.general.start_utt()

    def _release(self) -> None:
        assert self._decoders is not None
        self._decoders.give_back()
        self._decoders = self._resampler = None
        self._audio.clear()
        self._fed = 0


def _process(decoder: Any, audio: bytes | bytearray, start: int, end: int) -> None:  # noqa: ANN401
    for at in range(start, end, _PIECE_BYTES):
        decoder.process_raw(bytes(audio[at : at + _PIECE_BYTES]))


def _recognise_question(decoder: Any, audio: bytes, cmn: str) -> Hypothesis:  # noqa: ANN401
    decoder.set_cmn(cmn)
    decoder.start_utt()
    _process(decoder, audio, 0, len(audio))
    decoder.end_utt()
    return _hypothesis(decoder)


def _hypothesis(decoder: Any) -> Hypothesis:  # noqa: ANN401
    found = decoder.hyp()
    segments = list(decoder.seg() or [])
    if found is None or not found.hypstr or not segments:
        return Hypothesis("")
    total = sum(math.log(max(segment.ascore, 1e-300)) for segment in segments)
    return Hypothesis(found.hypstr, total / max(segments[-1].end_frame, 1))
