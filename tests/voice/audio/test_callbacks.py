"""Functions of the app as microphone and speaker: the same rules as for programs."""

import asyncio
import threading
import time
import wave

import anyio
import pytest

from realtalk_async.exceptions import (
    AudioUnavailable,
    ClosedStream,
    CriticalProcessFailed,
    InvalidConfiguration,
)
from realtalk_async.logs import Logger
from realtalk_async.offline import Peer, render
from realtalk_async.voice import Stream
from realtalk_async.voice.audio import callbacks
from realtalk_async.voice.events import DeviceProblem

PATIENCE = 60
QUESTION = "What is two plus three?"
ANSWER = "Two plus three is five."
FRAME = 960  # bytes in 20 ms


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """The samples of one spoken question, and then silence."""
    path = tmp_path_factory.mktemp("speech") / "question.wav"
    render([(QUESTION, 0.5)], path)
    with wave.open(str(path)) as file:
        return file.readframes(file.getnframes()) + bytes(48_000)


@pytest.fixture
async def peer():
    """The other side of the wire."""
    async with Peer(pace=0) as peer:
        yield peer


@pytest.fixture
def make(peer, tmp_path):
    """Return what makes a stream to that peer, without sound."""

    def make(**options):
        silent = {"microphone": None, "speaker": None}
        logger = Logger(tmp_path / "app.log")
        return Stream(url=peer.url, logger=logger, **{**silent, **options})

    return make


async def silence():
    """Be a microphone in a silent room."""
    while True:
        yield bytes(FRAME)
        await asyncio.sleep(0.02)


def failures(stream):
    """Return the list to which each failure of a device is added."""
    seen = []
    stream.subscribe(
        lambda event: seen.append(event) if event.kind == "device.failed" else None
    )
    return seen


async def until(condition):
    """Wait until *condition* is true."""
    with anyio.fail_after(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


# --- Microphones ------------------------------------------------------------------


def forms(speech):
    """Return that speech as a microphone of each kind, by name."""

    async def generator():
        yield speech  # all at once: it is taken no faster than real time
        async for frame in silence():
            yield frame

    class Iterable:
        def __aiter__(self):
            return generator()

    frames = [speech[at : at + FRAME] for at in range(0, len(speech), FRAME)]

    def make_read():
        rest = iter(frames)
        return lambda: next(rest, bytes(FRAME))

    read = make_read()

    async def read_async():
        return read_it()

    def plain_generator():
        read = make_read()
        while True:
            yield read()

    read_it = make_read()
    return {
        "plain generator function": plain_generator,
        "generator function": generator,
        "iterable": Iterable(),
        "generator": generator(),
        "function": read,
        "async function": read_async,
        "lambda of an async function": lambda: read_async(),
    }


KINDS = [
    "plain generator function",
    "generator function",
    "iterable",
    "generator",
    "function",
    "async function",
    "lambda of an async function",
]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_microphone_may_be_any_kind_of_function(kind, make, speech):
    """What it gives is heard, in its own time."""
    made = forms(speech)
    stream = make(microphone=made[kind])
    async with stream:
        outcome = await stream.wait_for_response(PATIENCE)
        status = stream.process_status()["recorder"]
        assert (status.status, status.pid) == ("running", None)
    assert outcome.text == ANSWER
    assert stream.summary().dropped_audio == 0
    assert stream.summary().restarts["recorder"] == 0
    await made["generator"].aclose()


async def test_a_microphone_is_taken_no_faster_than_real_time(make):
    """However much it gives."""
    given = 0

    async def generator():
        nonlocal given
        while True:
            given += 4800
            yield bytes(4800)

    began = time.monotonic()
    async with make(microphone=generator) as stream:
        await until(lambda: stream.summary().sent_audio > 1)
    assert given / 48_000 < time.monotonic() - began + 0.5


async def test_a_microphone_that_raises_is_called_again_and_told_of(make):
    """With its traceback in the history."""
    lives = 0

    async def generator():
        nonlocal lives
        lives += 1
        yield bytes(FRAME)
        if lives == 1:
            raise OSError("unplugged")
        async for frame in silence():
            yield frame

    stream = make(microphone=generator)
    failed = failures(stream)
    async with stream:
        await until(lambda: stream.summary().sent_audio > 0.2)
        assert stream.summary().restarts["recorder"] == 1
    assert [(e.device, e.problem) for e in failed] == [("recorder", DeviceProblem.DIED)]
    assert "OSError('unplugged')" in failed[0].reason
    assert "unplugged" in str(stream.error_history("recorder"))
    (mark,) = [m for m in stream.summary().timeline if m.kind == "died"]
    assert mark.track == "recorder"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (lambda: b"", "it ended"),
        (lambda: "text", "gave str, not bytes"),
        (lambda: None, "gave NoneType, not bytes"),
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: next(iter(())), "StopIteration"),
    ],
)
async def test_a_microphone_that_never_works_is_said_at_the_start(bad, why, make):
    """After it was called again and again."""
    stream = make(microphone=bad)
    with pytest.raises(AudioUnavailable, match=f"lambda.*{why}"):
        async with stream:
            pass
    assert stream.summary().restarts["recorder"] > 3


@pytest.mark.usefixtures("impatient")
async def test_a_microphone_that_gives_nothing_again_and_again_is_silent(make):
    """It does not hold the loop either."""

    async def generator():
        while True:
            yield b""

    with pytest.raises(AudioUnavailable, match=r"nothing came of it for 0\.5 s"):
        await make(microphone=generator).start_streaming()


async def test_a_microphone_that_ends_for_good_ends_the_session(make):
    """As a recorder does that cannot be revived."""
    rest = [bytes(FRAME)] * 10

    async def read():
        return rest.pop() if rest else b""

    with pytest.raises(CriticalProcessFailed, match="it ended"):
        async with make(microphone=read) as stream:
            with pytest.raises(ClosedStream, match="it ended"):
                await stream.wait_for_response(PATIENCE)


@pytest.fixture
def impatient(monkeypatch):
    """Have functions taken for hung soon."""
    for name in ("_FIRST_BYTE", "_SILENCE", "_STALL"):
        monkeypatch.setattr(callbacks, name, 0.5)


@pytest.mark.usefixtures("impatient")
async def test_a_microphone_that_blocks_blocks_nobody_and_is_called_again(make):
    """It hangs in its thread; the loop goes on."""
    hang, calls, threads = threading.Event(), 0, set()

    def read():
        nonlocal calls
        calls += 1
        threads.add(threading.current_thread())
        if calls == 3:
            hang.wait(PATIENCE)
        time.sleep(0.02)
        return bytes(FRAME)

    stream = make(microphone=read)
    failed = failures(stream)
    async with stream:
        await until(lambda: failed)
        hang.set()
        sent = stream.summary().sent_audio
        await until(lambda: stream.summary().sent_audio > sent + 0.2)
        stream.send_text(QUESTION, trigger_response=True)
        assert (await stream.wait_for_response(PATIENCE)).text == ANSWER
    assert failed[0].problem is DeviceProblem.LOST
    assert "0.5 s" in failed[0].reason
    assert threading.main_thread() not in threads


# --- Speakers ---------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_speaker_may_be_a_function(is_async, make):
    """It is given whole samples, no faster than they play."""
    played, times = bytearray(), []

    def play(pcm):
        played.extend(pcm)
        times.append(time.monotonic())

    async def play_async(pcm):
        play(pcm)

    stream = make(speaker=play_async if is_async else play)
    async with stream:
        stream.send_text(QUESTION, trigger_response=True)
        assert (await stream.wait_for_response(PATIENCE)).text == ANSWER
        await stream.wait_until_played(PATIENCE)
        assert stream.process_status()["player"].status == "running"
    assert len(played) == stream.summary().played_audio * 48_000
    assert len(played) % 2 == 0
    assert any(played)
    # All but what it may be ahead was waited for.
    assert times[-1] - times[0] > len(played) / 48_000 - 0.5


async def test_a_speaker_is_not_called_any_more_once_the_user_broke_in(make):
    """And the service learns how much it was given."""
    played = bytearray()
    stream = make(speaker=played.extend)
    async with stream:
        stream.send_text("Tell me a story.", trigger_response=True)
        await until(lambda: played)
        stream.interrupt()
        before = len(played)
        await stream.wait_for_response(PATIENCE)
        await stream.wait_until_played(PATIENCE)
        assert len(played) <= before + 200 * 48  # the piece that was on its way
        cuts = stream.eventlog.find("truncate$", direction="sent")
    assert cuts[0].data["audio_end_ms"] <= len(played) // 48


async def test_a_speaker_that_raises_is_called_again_with_what_comes_next(make):
    """One piece is lost, and told of."""
    lost = []

    async def play(pcm):
        if not lost:
            lost.append(pcm)
            raise BrokenPipeError("gone")

    stream = make(speaker=play)
    failed = failures(stream)
    async with stream:
        stream.send_text(QUESTION, trigger_response=True)
        await stream.wait_for_response(PATIENCE)
        await stream.wait_until_played(PATIENCE)
        assert stream.summary().restarts["player"] == 1
    assert [(e.device, e.problem) for e in failed] == [("player", DeviceProblem.DIED)]
    assert stream.summary().played_audio > len(lost[0]) / 48_000


async def test_a_speaker_that_never_works_leaves_a_conversation_in_writing(make):
    """Degraded, and it says so."""

    def play(pcm):
        raise OSError("no device")

    async with make(speaker=play) as stream:
        stream.send_text("Tell me a story.", trigger_response=True)
        await until(lambda: "player" in stream.process_manager.degraded)
        await stream.wait_until_played(PATIENCE)
        stream.interrupt()
        await stream.wait_for_response(PATIENCE)
        stream.send_text(QUESTION, trigger_response=True)
        assert (await stream.wait_for_response(PATIENCE)).text == ANSWER


@pytest.mark.usefixtures("impatient")
async def test_a_speaker_that_hangs_is_called_again(make):
    """The loop goes on meanwhile."""
    hung = []

    async def play(pcm):
        if not hung:
            hung.append(pcm)
            await asyncio.Event().wait()

    stream = make(speaker=play)
    failed = failures(stream)
    async with stream:
        stream.send_text("Tell me a story.", trigger_response=True)
        await until(lambda: failed)
        assert stream.is_ready()
        played = stream.summary().played_audio
        await until(lambda: stream.summary().played_audio > played)
    assert failed[0].problem is DeviceProblem.LOST


async def test_a_session_ends_while_both_block(make):
    """Both threads are waited for, for a moment."""
    entered, go_on = threading.Event(), threading.Event()
    frames = [bytes(FRAME)] * 3

    def read():
        if frames:
            return frames.pop()
        entered.set()
        go_on.wait(PATIENCE)
        return bytes(FRAME)

    began = time.monotonic()
    async with make(microphone=read) as stream:
        await until(entered.is_set)
        await stream.stop_streaming()
        began = time.monotonic() - began
    go_on.set()
    assert stream.process_status()["recorder"].status == "dead"


@pytest.mark.parametrize("option", ["microphone", "speaker"])
async def test_what_is_no_function_is_refused(option, make):
    """With what would do."""
    with pytest.raises(InvalidConfiguration, match=f"7 cannot be a {option}"):
        await make(**{option: 7}).start_streaming()


async def test_a_loop_that_stood_still_is_no_fault_of_a_function(monkeypatch):
    """Only the time in which it could have come counts."""
    vigil = callbacks.Vigil()
    vigil.begin(1.0)
    keeping = asyncio.create_task(vigil.keep())
    await asyncio.sleep(0)
    real = asyncio.get_running_loop().time
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: real() + 3600)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not keeping.done()
    keeping.cancel()
    await asyncio.wait([keeping])
