"""Speech during a response, with the offline peer: what interrupts, and what does not."""

import asyncio
import time

import anyio
import numpy
import pytest

from realtalk_async.logs import Logger
from realtalk_async.offline import Peer
from realtalk_async.offline.speech.voice import synthesise
from realtalk_async.voice import InterruptWhen, Stream, events

TIMEOUT = 240
LONG = "Say one two three four five six seven eight nine ten eleven twelve."
FRAME = 960


@pytest.fixture
async def peer():
    """Yield an offline peer whose sound comes as fast as possible."""
    async with Peer(pace=0) as peer:
        yield peer


class Caller:
    """A microphone: silence, and whatever is said into it."""

    def __init__(self) -> None:
        self.rest = b""

    def say(self, pcm: bytes) -> None:
        self.rest += pcm

    async def __call__(self):
        await asyncio.sleep(0.01)
        piece, self.rest = self.rest[:FRAME], self.rest[FRAME:]
        return piece.ljust(FRAME, b"\0")


@pytest.fixture
def make(peer, tmp_path):
    """Return a function that makes a stream, its microphone and its list of events."""

    def make(**options):
        caller = Caller()
        options = {"microphone": caller, "speaker": lambda pcm: None, **options}
        stream = Stream(url=peer.url, logger=Logger(tmp_path / "app.log"), **options)
        seen = []
        stream.subscribe(seen.append)
        return stream, caller, seen

    return make


async def until(condition):
    with anyio.fail_after(TIMEOUT):
        while not condition():
            await asyncio.sleep(0.01)


def of(seen, *kinds):
    return [event for event in seen if isinstance(event, kinds)]


async def speak_during_a_response(stream, caller, seen, words):
    """Ask for a long response; speak as soon as it is heard, and wait for the end."""
    before = len(of(seen, events.SpeechStopped))
    stream.send_text(LONG, trigger_response=True)
    await until(lambda: stream.summary().played_audio > 0.3)
    caller.say(words)
    await until(lambda: len(of(seen, events.SpeechStopped)) > before)


def quieter(pcm, share):
    return (numpy.frombuffer(pcm, "<i2") * share).astype("<i2").tobytes()


@pytest.mark.parametrize("reason", ["short", "quiet", "refused"])
async def test_speech_that_is_too_short_too_quiet_or_refused_is_ignored(make, reason):
    words = synthesise("Well, what is two plus three?")
    asked = []

    def refuse(pending):
        asked.append(pending)
        return False

    when = {
        "short": InterruptWhen(speech_ms=5000),
        "quiet": InterruptWhen(level_dbfs=-20),
        "refused": refuse,
    }[reason]
    stream, caller, seen = make(interrupt_when=when)
    async with stream:
        said = quieter(words, 0.1) if reason == "quiet" else words
        await speak_during_a_response(stream, caller, seen, said)
        await until(lambda: of(seen, events.SpeechIgnored))
        await stream.wait_until_played(TIMEOUT)
        (updated, *_) = stream.eventlog.find("session.updated")
        # The next turn is not during a response: it is answered.
        caller.say(synthesise("What is two plus three?"))
        await until(lambda: len(of(seen, events.ResponseFinished)) == 2)
    assert not of(seen, events.Interrupted)
    assert (
        of(seen, events.ResponseFinished)[1].outcome.text == "Two plus three is five."
    )
    detection = updated.data["session"]["audio"]["input"]["turn_detection"]
    assert (detection["create_response"], detection["interrupt_response"]) == (
        False,
    ) * 2
    if reason == "refused":
        (pending,) = asked
        assert pending.dbfs > -40


async def asynchronously(pending):
    await asyncio.sleep(0.01)
    return True


def fails(pending):
    raise ValueError("a mistake")


def hangs(pending):
    time.sleep(0.5)
    return False


@pytest.mark.parametrize(
    "when",
    [
        InterruptWhen(speech_ms=200, level_dbfs=-45),
        InterruptWhen(decide=asynchronously),
        InterruptWhen(decide=fails),
        InterruptWhen(decide=hangs, timeout=0.05),
    ],
    ids=["long and loud", "async", "raises", "hangs"],
)
async def test_speech_that_interrupts_is_answered(make, when):
    stream, caller, seen = make(interrupt_when=when)
    async with stream:
        words = synthesise("Stop. What is two plus three?")
        await speak_during_a_response(stream, caller, seen, words)
        await until(lambda: len(of(seen, events.ResponseFinished)) >= 2)
    (cut, *_) = of(seen, events.Interrupted)
    assert cut.heard_ms < cut.received_ms
    assert not of(seen, events.SpeechIgnored)


class Room:
    """
    Carries the sound of the speaker to the microphone: 100 ms later, and quieter.

    It keeps the times of the sound on a slow machine as well: what the microphone hears
    depends on when it is asked, and not on how often.
    """

    DELAY = 0.1

    def __init__(self) -> None:
        self.ahead = bytearray()  # sound from `heard_until` on
        self.heard_until = time.monotonic()

    def _bytes_until(self, at: float) -> int:
        return max(0, round((at - self.heard_until) * 24_000)) * 2

    def speaker(self, pcm: bytes) -> None:
        starts = self._bytes_until(time.monotonic() + self.DELAY)
        self.ahead.extend(bytes(max(0, starts - len(self.ahead))))
        self.ahead.extend(quieter(pcm, 0.5))

    async def microphone(self):
        while True:
            await asyncio.sleep(0.02)
            size = self._bytes_until(time.monotonic())
            piece = bytes(self.ahead[:size]).ljust(size, b"\0")
            del self.ahead[:size]
            self.heard_until += size / 48_000
            yield piece


async def test_assistant_that_keeps_interrupting_itself_is_told_once_and_gated(make):
    room = Room()
    stream, _, seen = make(
        microphone=room.microphone, speaker=room.speaker, half_duplex="auto"
    )

    def told():
        itself = events.SoundProblem.INTERRUPTS_ITSELF
        found = of(seen, events.MicrophoneProblem)
        return [event for event in found if event.problem is itself]

    async with stream:
        while not told():
            interrupted = len(of(seen, events.Interrupted))
            stream.send_text(LONG, trigger_response=True)
            await until(
                lambda count=interrupted: (
                    told() or len(of(seen, events.Interrupted)) > count
                )
            )
        explanation = str(stream.process_manager.explain("recorder"))
        gates = stream._session.microphone.filter.half_duplex
        await asyncio.sleep(1)
    assert gates
    assert "keeps interrupting itself" in explanation
    assert len(told()) == 1
