"""
Speech recognition and synthesis for a whole peer, off the event loop.

The models ship inside wheels and are loaded once for each process, at first use, in the
thread of a `Worker`; nothing is downloaded.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

from realtalk_async import arguments
from realtalk_async.concurrency.worker_thread import Worker
from realtalk_async.offline.speech import whisper
from realtalk_async.offline.speech.libraries import load_library
from realtalk_async.offline.speech.sphinx import SphinxRecogniser, load_decoders
from realtalk_async.offline.speech.voice import load_voice, synthesise
from realtalk_async.offline.speech.voice_detector import VoiceDetector

if TYPE_CHECKING:
    import asyncio

RecogniserName: TypeAlias = Literal["sphinx", "whisper"]
"""
The choice of the recogniser.

``sphinx`` works during speech and has the text at its end, but understands the peer's own
voice only. ``whisper`` understands humans, takes a fifth of a second for each second of
speech, and needs the extra ``human``.
"""


class Recogniser(Protocol):
    """The recogniser of one session; used in one thread only."""

    def feed(self, pcm: bytes) -> None:
        """Add audio to the utterance, 24 kHz."""
        ...

    def finish(self) -> str:
        """End the utterance and return its words; empty if there are none."""
        ...

    def reset(self) -> None:
        """Discard the utterance."""
        ...


class SpeechEngine:
    """
    Recognition and synthesis in one thread, shared by all sessions of a peer.

    It keeps up with about six simultaneous speakers.

    Args:
        recogniser: The choice of the recogniser.

    Raises:
        InvalidConfiguration: If there is no such recogniser.
    """

    def __init__(self, recogniser: RecogniserName = "sphinx") -> None:
        arguments.choice("recogniser", recogniser, get_args(RecogniserName))
        self._is_whisper = recogniser == "whisper"
        self._worker = Worker("realtalk-offline-speech")

    async def load(self) -> None:
        """
        Load all models, if this process has not yet: about 0.5 s.

        Raises:
            ImportError: If the extra ``offline`` is not installed, or for ``whisper`` the
                extra ``human``.
        """
        await self._worker.run(_load_libraries)
        await self._worker.run(whisper.load if self._is_whisper else load_decoders)

    def new_recogniser(self) -> Recogniser:
        """Return a recogniser for one session."""
        return whisper.WhisperRecogniser() if self._is_whisper else SphinxRecogniser()

    def new_voice_detector(self) -> VoiceDetector:
        """Return a voice detector for one session."""
        return VoiceDetector()

    def feed(self, recogniser: Recogniser, pcm: bytes) -> None:
        """Queue audio for the current utterance of *recogniser*."""
        self._worker.post(partial(recogniser.feed, pcm))

    async def wait_until_fed(self) -> None:
        """Wait until the recognisers have taken all audio queued so far."""
        await self._worker.run(_do_nothing)

    def reset(self, recogniser: Recogniser) -> None:
        """Discard the current utterance of *recogniser*."""
        self._worker.post(recogniser.reset)

    def finish(self, recogniser: Recogniser) -> asyncio.Future[str]:
        """
        End the current utterance of *recogniser*; awaiting gives its words.

        Audio queued after this call belongs to the next utterance.
        """
        return self._worker.run(recogniser.finish)

    def transcribe(self, pcm: bytes) -> asyncio.Future[str]:
        """Recognise *pcm*, an utterance of its own; awaiting gives its words."""
        return self._worker.run(partial(_transcribe, self.new_recogniser(), pcm))

    async def synthesise(self, text: str, speed: float = 1.0) -> bytes:
        """Speak *text*: 24 kHz mono s16le."""
        return await self._worker.run(partial(synthesise, text, speed))

    async def aclose(self) -> None:
        """End the thread. The models stay loaded for the next peer of the process."""
        await self._worker.aclose()


def _do_nothing() -> None:
    return


def _transcribe(recogniser: Recogniser, pcm: bytes) -> str:
    recogniser.feed(pcm)
    return recogniser.finish()


def _load_libraries() -> None:
    for name in ("numpy", "soxr", "webrtcvad"):
        load_library(name)
    load_voice()
