"""
A spoken script as a WAV, used as the microphone of a demo or a test.
"""

from __future__ import annotations

import wave
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from realtalk_async import arguments
from realtalk_async.concurrency.worker_thread import Worker
from realtalk_async.offline.effects import BYTES_PER_MS, SAMPLE_RATE
from realtalk_async.offline.speech.voice import synthesise

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence


class Spoken(NamedTuple):
    """A sentence of a script and its times, in seconds from the start of the file."""

    text: str
    start: float
    end: float


def render(
    sentences: Sequence[tuple[str, float]],
    path: str | os.PathLike[str],
    *,
    lead_in: float = 0.5,
) -> list[Spoken]:
    """
    Speak *sentences* into a WAV: 24 kHz, mono, signed 16-bit. Blocks.

    Args:
        sentences: Each with the seconds of silence that follow it.
        path: The file to write; an existing one is replaced.
        lead_in: Seconds of silence before the first sentence.

    Returns:
        The times of each sentence.

    Raises:
        OSError: If the file cannot be written.
        ImportError: If the extra ``offline`` is not installed.
        InvalidConfiguration: If an argument is invalid.
    """
    sentences = _check_script(sentences, path, lead_in)
    audio = bytearray(_silence(lead_in))
    times: list[Spoken] = []
    for text, pause in sentences:
        start = _seconds(audio)
        audio += synthesise(text)
        times.append(Spoken(text, start, _seconds(audio)))
        audio += _silence(pause)
    # `wave` raises a second error in its finaliser if it cannot open the file itself.
    with Path(path).open("wb") as raw, wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(audio)
    return times


async def render_async(
    sentences: Sequence[tuple[str, float]],
    path: str | os.PathLike[str],
    *,
    lead_in: float = 0.5,
) -> list[Spoken]:
    """
    Run `render` in a thread that ends with the call.

    Raises:
        OSError, ImportError, InvalidConfiguration: See `render`.

    Cancellation: The file is completed first, then cancellation goes on.
    """
    sentences = _check_script(sentences, path, lead_in)
    worker = Worker("realtalk-offline-script")
    try:
        return await worker.run(partial(render, sentences, path, lead_in=lead_in))
    finally:
        await worker.aclose()


def _check_script(
    sentences: Sequence[tuple[str, float]], path: object, lead_in: object
) -> tuple[tuple[str, float], ...]:
    arguments.path("path", path)
    arguments.seconds("lead_in", lead_in)
    return arguments.several("sentences", sentences, _check_sentence, "sentences")


def _check_sentence(argument: str, value: object) -> None:
    pair = cast("tuple[object, ...]", value)
    if not isinstance(value, tuple | list) or len(pair) != 2:
        allowed = "a text and the seconds of silence after it, such as ('Hello', 1.0)"
        raise arguments.refused(argument, allowed, pair)
    arguments.words(f"the text of {argument}", pair[0])
    arguments.seconds(f"the silence of {argument}", pair[1])


def _silence(seconds: float) -> bytes:
    return bytes(round(seconds * 1000) * BYTES_PER_MS)


def _seconds(audio: bytearray) -> float:
    return len(audio) / BYTES_PER_MS / 1000
