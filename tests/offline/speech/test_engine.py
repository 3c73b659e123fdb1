from __future__ import annotations

import anyio

from realtalk_async.offline.speech.engine import SpeechEngine

LEAD = bytes(48 * 300)
TAIL = bytes(48 * 500)


async def test_audio_fed_after_the_end_of_an_utterance_belongs_to_the_next():
    engine = SpeechEngine()
    with anyio.fail_after(120):
        await engine.load()
        pcm = LEAD + await engine.synthesise("Good morning.") + TAIL
        recogniser = engine.new_recogniser()
        engine.feed(recogniser, pcm)
        first = engine.finish(recogniser)
        engine.feed(
            recogniser, LEAD + await engine.synthesise("What time is it?") + TAIL
        )
        second = engine.finish(recogniser)
        assert await first == await engine.transcribe(pcm) == "good morning"
        assert await second == "what time is it"
        await engine.aclose()
