import asyncio
import threading
import time
import wave

import anyio
import numpy
import pytest
import soundfile

from realtalk_async.exceptions import (
    AudioUnavailable,
    ClosedStream,
    CriticalProcessFailed,
    InvalidConfiguration,
)
from realtalk_async.g711 import Decoder, Encoder
from realtalk_async.logs import Logger
from realtalk_async.offline import Peer, render
from realtalk_async.offline.speech.voice import synthesise
from realtalk_async.voice import Stream
from realtalk_async.voice.audio import callbacks, sound_file
from realtalk_async.voice.events import DeviceProblem, MicrophoneProblem, SoundProblem
from realtalk_async.voice.protocol.hearing import faults

TIMEOUT = 240
QUESTION = "What is two plus three?"
ANSWER = "Two plus three is five."
FRAME = 960  # bytes in 20 ms


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Return a spoken question followed by silence."""
    path = tmp_path_factory.mktemp("speech") / "question.wav"
    render([(QUESTION, 0.5)], path)
    with wave.open(str(path)) as file:
        return file.readframes(file.getnframes()) + bytes(48_000)


@pytest.fixture
async def peer():
    """Yield an offline peer."""
    async with Peer(pace=0) as peer:
        yield peer


@pytest.fixture
def make(peer, tmp_path):
    """Return a function that makes a stream to the peer, by default without audio."""

    def make(**options):
        silent = {"microphone": None, "speaker": None}
        logger = Logger(tmp_path / "app.log")
        return Stream(url=peer.url, logger=logger, **{**silent, **options})

    return make


async def silence():
    """Yield silence in real time."""
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
    with anyio.fail_after(TIMEOUT):
        while not condition():
            await asyncio.sleep(0.01)


# --- Microphones ------------------------------------------------------------------


def forms(speech):
    """Return *speech* as a microphone of each kind, by the name of the kind."""

    async def generator():
        yield speech  # all at once: it is read no faster than real time
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
async def test_microphone_may_be_any_kind_of_callback(kind, make, speech):
    made = forms(speech)
    stream = make(microphone=made[kind])
    async with stream:
        outcome = await stream.wait_for_response(TIMEOUT)
        status = stream.process_status()["recorder"]
        assert (status.status, status.pid) == ("running", None)
    assert outcome.text == ANSWER
    assert stream.summary().dropped_audio == 0
    assert stream.summary().restarts["recorder"] == 0
    await made["generator"].aclose()


async def test_microphone_callback_is_read_no_faster_than_real_time(make):
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


async def test_microphone_callback_that_raises_is_reported_and_called_again(make):
    calls = 0

    async def generator():
        nonlocal calls
        calls += 1
        yield bytes(FRAME)
        if calls == 1:
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
        (lambda: "text", "returned str, not bytes"),
        (lambda: None, "returned NoneType, not bytes"),
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: next(iter(())), "StopIteration"),
    ],
)
async def test_microphone_callback_that_never_works_is_an_error_at_the_start(
    bad, why, make
):
    stream = make(microphone=bad)
    with pytest.raises(AudioUnavailable, match=f"lambda.*{why}"):
        async with stream:
            pass
    assert stream.summary().restarts["recorder"] > 3


@pytest.mark.usefixtures("short_timeouts")
async def test_microphone_callback_that_yields_only_empty_pieces_times_out(make):
    """Nor does it block the event loop."""

    async def generator():
        while True:
            yield b""

    with pytest.raises(AudioUnavailable, match=r"no result for 0\.5 s"):
        await make(microphone=generator).start_streaming()


async def test_microphone_callback_that_is_given_up_ends_the_session(make):
    rest = [bytes(FRAME)] * 10

    async def read():
        return rest.pop() if rest else b""

    with pytest.raises(CriticalProcessFailed, match="it ended"):
        async with make(microphone=read) as stream:
            with pytest.raises(ClosedStream, match="it ended"):
                await stream.wait_for_response(TIMEOUT)


@pytest.fixture
def short_timeouts(monkeypatch):
    """Set all timeouts of callbacks to 0.5 s."""
    for name in ("_STARTUP_TIME", "_MAX_SILENCE", "_CALL_TIMEOUT"):
        monkeypatch.setattr(callbacks, name, 0.5)


@pytest.mark.usefixtures("short_timeouts")
async def test_blocked_microphone_callback_does_not_block_the_loop_and_is_called_again(
    make,
):
    hang, calls, threads = threading.Event(), 0, set()

    def read():
        nonlocal calls
        calls += 1
        threads.add(threading.current_thread())
        if calls == 3:
            hang.wait(TIMEOUT)
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
        assert (await stream.wait_for_response(TIMEOUT)).text == ANSWER
    assert failed[0].problem is DeviceProblem.LOST
    assert "0.5 s" in failed[0].reason
    assert threading.main_thread() not in threads


class Overlap:
    """Counts how often a function is running at the same time."""

    def __init__(self):
        self.running = self.most = 0

    def __enter__(self):
        self.running += 1
        self.most = max(self.most, self.running)

    def __exit__(self, *_):
        self.running -= 1


@pytest.mark.usefixtures("short_timeouts")
@pytest.mark.parametrize("kind", ["function", "generator"])
async def test_microphone_callback_is_not_called_while_its_last_call_runs(kind, make):
    go_on, blocks, overlap = threading.Event(), [True], Overlap()

    def read():
        with overlap:
            if blocks and stream.summary().sent_audio:
                go_on.wait(TIMEOUT)
                blocks.clear()
            time.sleep(0.02)
            return bytes(FRAME)

    def generate():
        while True:
            yield read()

    stream = make(microphone=read if kind == "function" else generate)
    failed = failures(stream)
    async with stream:
        await until(lambda: len(failed) > 2)
        assert overlap.running == 1
        go_on.set()
        sent = stream.summary().sent_audio
        await until(lambda: stream.summary().sent_audio > sent + 0.2)
    assert overlap.most == 1


# --- Speakers ---------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [True, False])
async def test_speaker_callback_gets_whole_samples_in_real_time(is_async, make):
    played, times = bytearray(), []

    def play(pcm):
        played.extend(pcm)
        times.append(time.monotonic())

    async def play_async(pcm):
        play(pcm)

    stream = make(speaker=play_async if is_async else play)
    async with stream:
        stream.send_text(QUESTION, trigger_response=True)
        assert (await stream.wait_for_response(TIMEOUT)).text == ANSWER
        await stream.wait_until_played(TIMEOUT)
        assert stream.process_status()["player"].status == "running"
    assert len(played) == stream.summary().played_audio * 48_000
    assert len(played) % 2 == 0
    assert any(played)
    # The speaker may be ahead of real time by less than half a second.
    assert times[-1] - times[0] > len(played) / 48_000 - 0.5


async def test_interruption_ends_the_calls_of_the_speaker_and_truncates_the_item(make):
    played = bytearray()
    stream = make(speaker=played.extend)
    async with stream:
        stream.send_text("Tell me a story.", trigger_response=True)
        await until(lambda: played)
        stream.interrupt()
        before = len(played)
        await stream.wait_for_response(TIMEOUT)
        await stream.wait_until_played(TIMEOUT)
        assert len(played) <= before + 200 * 48  # the piece that was being played
        cuts = stream.eventlog.find("truncate$", direction="sent")
    assert cuts[0].data["audio_end_ms"] <= len(played) // 48


async def test_speaker_callback_that_raises_is_reported_and_called_again(make):
    """One piece is lost."""
    lost = []

    async def play(pcm):
        if not lost:
            lost.append(pcm)
            raise BrokenPipeError("gone")

    stream = make(speaker=play)
    failed = failures(stream)
    async with stream:
        stream.send_text(QUESTION, trigger_response=True)
        await stream.wait_for_response(TIMEOUT)
        await stream.wait_until_played(TIMEOUT)
        assert stream.summary().restarts["player"] == 1
    assert [(e.device, e.problem) for e in failed] == [("player", DeviceProblem.DIED)]
    assert stream.summary().played_audio > len(lost[0]) / 48_000


async def test_session_continues_degraded_if_the_speaker_callback_never_works(make):
    def play(pcm):
        raise OSError("no device")

    async with make(speaker=play) as stream:
        stream.send_text("Tell me a story.", trigger_response=True)
        await until(lambda: "player" in stream.process_manager.degraded)
        await stream.wait_until_played(TIMEOUT)
        stream.interrupt()
        await stream.wait_for_response(TIMEOUT)
        stream.send_text(QUESTION, trigger_response=True)
        assert (await stream.wait_for_response(TIMEOUT)).text == ANSWER


@pytest.mark.usefixtures("short_timeouts")
async def test_speaker_callback_that_hangs_is_called_again(make):
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


@pytest.mark.usefixtures("short_timeouts")
async def test_speaker_callback_is_not_called_while_its_last_call_runs(make):
    go_on, blocks, overlap = threading.Event(), [True], Overlap()

    def play(pcm):
        with overlap:
            if blocks:
                go_on.wait(TIMEOUT)
                blocks.clear()

    stream = make(speaker=play)
    failed = failures(stream)
    async with stream:
        stream.send_text("Tell me a story.", trigger_response=True)
        await until(lambda: len(failed) > 2)
        assert overlap.running == 1
        go_on.set()
        played = stream.summary().played_audio
        await until(lambda: stream.summary().played_audio > played)
    assert overlap.most == 1


async def test_session_ends_while_the_microphone_callback_blocks(make):
    entered, go_on = threading.Event(), threading.Event()
    frames = [bytes(FRAME)] * 3

    def read():
        if frames:
            return frames.pop()
        entered.set()
        go_on.wait(TIMEOUT)
        return bytes(FRAME)

    began = time.monotonic()
    async with make(microphone=read) as stream:
        await until(entered.is_set)
        await stream.stop_streaming()
        began = time.monotonic() - began
    go_on.set()
    assert stream.process_status()["recorder"].status == "dead"


@pytest.mark.parametrize("option", ["microphone", "speaker"])
async def test_invalid_microphone_or_speaker_is_refused(option, make):
    with pytest.raises(InvalidConfiguration, match=f"{option} must be .*, not 7"):
        make(**{option: 7})


async def test_watchdog_does_not_count_the_time_of_a_blocked_loop(monkeypatch):
    watchdog = callbacks.Watchdog()
    watchdog.begin(1.0)
    running = asyncio.create_task(watchdog.run())
    await asyncio.sleep(0)
    real = asyncio.get_running_loop().time
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: real() + 3600)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])


@pytest.mark.parametrize("law", ["audio/pcmu", "audio/pcma"])
async def test_functions_and_files_may_be_telephone_sound(law, make, speech, tmp_path):
    """The peer hears and speaks it too: the whole conversation is at 8 kHz."""
    codes = Encoder(law).encode(speech)
    frames = iter([codes[at : at + 160] for at in range(0, len(codes), 160)])
    silence = Encoder(law).encode(bytes(FRAME))
    spoken, in_file = bytearray(), tmp_path / "out.wav"
    for speaker in (spoken.extend, in_file):
        stream = make(
            microphone=lambda: next(frames, silence), speaker=speaker, audio_format=law
        )
        async with stream:
            if speaker is not in_file:
                assert (await stream.wait_for_response(TIMEOUT)).completed
                spoken.clear()
            request = stream.send_text(QUESTION, trigger_response=True)
            assert (await request).text == ANSWER
            await until(lambda stream=stream: stream.metrics().queued_audio == 0)
            (updated, *_) = stream.eventlog.find("session.updated")
        for way in ("input", "output"):
            assert updated.data["session"]["audio"][way]["format"] == {"type": law}
    expected = numpy.frombuffer(synthesise(ANSWER), "<i2") / 32768
    by_function = numpy.frombuffer(Decoder(law).decode(bytes(spoken)), "<i2") / 32768
    with soundfile.SoundFile(in_file) as file:
        assert (file.samplerate, file.channels) == (8000, 1)
        assert file.subtype == {"audio/pcmu": "ULAW", "audio/pcma": "ALAW"}[law]
    file_pcm = b"".join(sound_file.pieces(in_file))
    for got in (by_function, numpy.frombuffer(file_pcm, "<i2") / 32768):
        assert loudest_correlation(got, expected) > 0.8


def loudest_correlation(got, expected):
    """Return the greatest correlation of half a second with any part of *got*."""
    middle = expected[len(expected) // 2 :][:12_000]
    size = len(got) + len(middle)
    spectrum = numpy.fft.rfft(got, size) * numpy.fft.rfft(middle[::-1], size)
    products = numpy.fft.irfft(spectrum, size)[len(middle) - 1 : len(got)]
    sums = numpy.concatenate([[0], numpy.cumsum(got**2)])
    energies = sums[len(middle) :] - sums[: -len(middle)]
    return (products / numpy.sqrt(energies * (middle**2).sum() + 1e-9)).max()


async def test_digital_silence_is_told_once_and_explained_and_nothing_is_restarted(
    make, monkeypatch
):
    monkeypatch.setattr(faults, "_SILENT_FRAMES", 20)
    stream = make(microphone=lambda: bytes(FRAME), speaker=lambda pcm: None)
    seen = []
    stream.subscribe(seen.append, MicrophoneProblem)
    async with stream:
        await until(lambda: stream.summary().sent_audio > 1.5)
        explanation = str(stream.process_manager.explain("recorder"))
        assert stream.summary().restarts["recorder"] == 0
        assert stream.metrics().microphone_dbfs == -96
        await stream.send_text(QUESTION, trigger_response=True)
        await until(lambda: (stream.metrics().speaker_dbfs or -96) > -60)
        assert "dBFS" in str(stream.process_manager.explain("player"))
    (event,) = seen
    assert event.problem is SoundProblem.SILENT
    assert "nothing but digital silence" in explanation
    assert event.advice in explanation


async def test_function_that_is_too_slow_is_told_once(make):
    """It returns 16 kHz in real time."""

    async def microphone():
        await asyncio.sleep(0.02)
        return b"\1\2" * 320

    stream = make(microphone=microphone)
    seen = []
    stream.subscribe(seen.append, MicrophoneProblem)
    async with stream:
        await until(lambda: seen)
    assert seen[0].problem is SoundProblem.WRONG_RATE
    assert "bytes a second, not 48,000" in str(seen[0])
