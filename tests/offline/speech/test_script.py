from __future__ import annotations

import threading
import wave

import anyio
import pytest

from realtalk_async.offline.speech.script import render, render_async
from realtalk_async.offline.speech.sphinx import SphinxRecogniser

SCRIPT = [("What time is it?", 1.5), ("Good morning.", 0.25)]


def read(path) -> bytes:
    """Return the samples of a WAV that must be 24 kHz mono s16le."""
    with wave.open(str(path), "rb") as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (
            *(24_000, 1),
            2,
        )
        return file.readframes(file.getnframes())


def test_the_returned_times_are_those_of_the_sentences_in_the_file(tmp_path):
    times = render(SCRIPT, tmp_path / "script.wav", lead_in=0.4)
    pcm = read(tmp_path / "script.wav")
    assert [spoken.text for spoken in times] == [text for text, _ in SCRIPT]
    assert times[0].start == 0.4
    assert times[1].start == pytest.approx(times[0].end + 1.5, abs=0.002)
    assert len(pcm) / 48_000 == pytest.approx(times[1].end + 0.25, abs=0.002)
    pause = pcm[
        round(times[0].end * 24_000) * 2 + 100 : round(times[1].start * 24_000) * 2
    ]
    assert not any(pause)
    recogniser = SphinxRecogniser()
    recogniser.feed(pcm[: round((times[1].start - 0.5) * 24_000) * 2])
    assert recogniser.finish() == "what time is it"


async def test_the_async_form_writes_the_same_bytes_and_leaves_no_thread(tmp_path):
    before = threading.active_count()
    with anyio.fail_after(120):
        times = await render_async(SCRIPT, tmp_path / "one.wav")
    assert times == render(SCRIPT, tmp_path / "two.wav")
    assert read(tmp_path / "one.wav") == read(tmp_path / "two.wav")
    assert threading.active_count() == before


def test_an_unwritable_path_raises_oserror(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        render(SCRIPT[:1], tmp_path / "nowhere" / "script.wav")
