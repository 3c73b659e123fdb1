"""
Real sound paths: a sound server of its own, real recorders and players.

The machine needs no sound card: PulseAudio runs with two null sinks, ``mic``, whose
monitor is the microphone, and ``spk``, whose monitor hears what the speaker plays. What
is not installed (``apt-get install pulseaudio pulseaudio-utils sox libsox-fmt-pulse``)
is not tested.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import pytest

from realtalk_async import events
from realtalk_async.exceptions import ClosedStream, CriticalProcessFailed
from realtalk_async.logs import Logger
from realtalk_async.offline import Peer
from realtalk_async.offline.effects import BYTES_PER_MS, FRAME_BYTES
from realtalk_async.offline.speech.sphinx import SphinxRecogniser
from realtalk_async.offline.speech.voice import synthesise
from realtalk_async.offline.speech.voice_detector import VoiceDetector
from realtalk_async.voice import Stream
from realtalk_async.voice import events as words
from realtalk_async.voice.audio import devices, diagnostics

PATIENCE = 60
"""Seconds that nothing of this takes on any machine."""

SERVER = {
    name: shutil.which(name) for name in ("pulseaudio", "pactl", "parec", "pacat")
}
MISSING = [name for name, path in SERVER.items() if path is None]

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.timeout(180),
]

SERVER_GONE = words.DeviceProblem.SERVER_GONE

RAW = ("--raw", "--format=s16le", "--rate=24000", "--channels=1")
SECOND = 1000 * BYTES_PER_MS

QUESTION = "What is two plus three?"
ANSWER = "Two plus three is five."
LONG = "Say one two three four five six seven eight nine ten eleven twelve."


# --- The sound server -------------------------------------------------------------


class SoundServer:
    """
    A PulseAudio of its own, with nothing of the machine's or the user's.

    Args:
        folder: Where its socket and all that it keeps are; a short path, for the
            socket's sake.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "native"
        self._children = ExitStack()
        self._process: subprocess.Popen | None = None
        self._sinks: dict[str, str] = {}
        quiet = folder / "client.conf"
        # Shared memory in /dev/shm would outlive a server that is killed.
        quiet.write_text("autospawn = no\nenable-shm = no\n")
        self.environment = {
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            "PULSE_SERVER": f"unix:{self._socket}",
            "PULSE_CLIENTCONFIG": str(quiet),
            "PULSE_SOURCE": "mic.monitor",
            "PULSE_SINK": "spk",
            "AUDIODRIVER": "pulseaudio",
        }

    def __enter__(self):
        self.start()
        return self

    def start(self) -> None:
        """Start the server, with both devices; also after it was killed."""
        native = f"module-native-protocol-unix socket={self._socket} auth-anonymous=1"
        self._process = self._spawn(
            *(SERVER["pulseaudio"], "-n", "--daemonize=no", "--exit-idle-time=-1"),
            *("--disable-shm=yes", "-L", native),
        )
        deadline = time.monotonic() + PATIENCE
        while not self._socket.exists():
            assert self._process.poll() is None, "the sound server did not start"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.plug_in()

    def __exit__(self, *_) -> None:
        self._children.close()

    def _spawn(self, *argv, **options) -> subprocess.Popen:
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        options = {**quiet, "stderr": subprocess.DEVNULL, **options}
        environment = {**os.environ, **self.environment}
        child = subprocess.Popen(argv, env=environment, **options)
        self._children.callback(end, child)
        return child

    def control(self, *arguments: str) -> str:
        """
        Run ``pactl`` and return what it prints.

        It blocks, and so does all that uses it, and `start`: no session in this thread
        gives anything up meanwhile, however long it takes.
        """
        environment = {**os.environ, **self.environment, "LC_ALL": "C"}
        argv = (SERVER["pactl"], *arguments)
        done = subprocess.run(
            argv, env=environment, check=True, capture_output=True, timeout=PATIENCE
        )
        return done.stdout.decode().strip()

    def plug_in(self) -> None:
        """Have both devices."""
        for name in ("spk", "mic"):
            self._sinks[name] = self.control(
                *("load-module", "module-null-sink", f"sink_name={name}"),
                *("rate=24000", "channels=1", "format=s16le"),
            )
            # Without a stream of little latency a null sink works 2 s at a time.
            with Path("/dev/zero").open("rb") as silence:
                self._spawn(
                    *(SERVER["pacat"], "-d", name, "--latency-msec=10", *RAW),
                    stdin=silence,
                )

    def unplug(self) -> None:
        """Take both devices away at once, as a cable would."""
        self.control("unload-module", "module-null-sink")

    def unplug_microphone(self) -> None:
        """Take the one away, and leave the speaker."""
        self.control("unload-module", self._sinks["mic"])

    def suspend(self, name: str, *, on: bool = True) -> None:
        """Have a device, and its monitor, do nothing; or have it work again."""
        self.control("suspend-sink", name, str(int(on)))

    def say(self, path: Path) -> subprocess.Popen:
        """Speak into the microphone; return who does."""
        return self._spawn(
            SERVER["pacat"], "-d", "mic", "--latency-msec=500", *RAW, str(path)
        )

    @contextmanager
    def listening(self, path: Path):
        """Write all that the speaker plays to *path*."""
        with path.open("wb") as file:
            argv = (SERVER["parec"], "-d", "spk.monitor", "--latency-msec=20", *RAW)
            child = self._spawn(*argv, stdout=file)
            yield
            end(child)

    def kill(self) -> None:
        """End the server as a crash would."""
        assert self._process is not None
        end(self._process)
        self._socket.unlink()


def end(child: subprocess.Popen) -> None:
    """Kill *child* and wait until it is gone."""
    child.kill()
    child.wait(PATIENCE)


@pytest.fixture
def server(monkeypatch):
    """The sound server of this test; it is also that of all children of this test."""
    for name in ("DISPLAY", "DBUS_SESSION_BUS_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    # Not `tmp_path`: a socket's path has at most 107 characters.
    with (
        tempfile.TemporaryDirectory(prefix="sound-") as folder,
        SoundServer(Path(folder)) as server,
    ):
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


# --- What is tested with it -------------------------------------------------------


@pytest.fixture(params=["parec", "sox", "ffmpeg"])
def recorder(request, monkeypatch, tmp_path):
    """The program that records, and its partner that plays: no others are found."""
    name = request.param
    if name == "ffmpeg":
        if devices.find_bundled_ffmpeg() is None:
            pytest.skip("not installed: imageio-ffmpeg")
        programs = []  # the bundled one is no matter of the PATH
    else:
        programs = {"parec": ["parec", "pacat"], "sox": ["sox"]}[name]
    only_these(programs, monkeypatch, tmp_path)
    return name


def only_these(programs, monkeypatch, tmp_path):
    """Have a PATH with nothing else on it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in programs:
        path = shutil.which(program)
        if path is None:
            pytest.skip(f"not installed: {program}")
        (folder / program).symlink_to(path)
    monkeypatch.setenv("PATH", str(folder))


EXIT_STATUS = {"parec": 1, "sox": 0, "ffmpeg": 0}
"""What a recorder exits with when its server or its device is gone."""


@pytest.fixture
def question(tmp_path):
    """A spoken question with silence around it."""
    path = tmp_path / "question.raw"
    path.write_bytes(bytes(SECOND // 2) + synthesise(QUESTION) + bytes(SECOND))
    return path


@pytest.fixture
async def stream(server, recorder, tmp_path):
    """A session with the machine's own microphone and speaker, and its peer."""
    async with Peer(pace=0) as peer:
        yield Stream(url=peer.url, logger=Logger(tmp_path / "app.log"))


class Watch:
    """All that happens to a session and its children, in order."""

    def __init__(self, stream: Stream) -> None:
        self.seen: list = []
        self._news = asyncio.Event()
        stream.subscribe(self._note)
        stream.process_manager.subscribe(self._note)

    def _note(self, event) -> None:
        self.seen.append(event)
        self._news.set()

    def of(self, kind, process=None) -> list:
        """Return what happened of that kind, to that process."""
        found = [event for event in self.seen if isinstance(event, kind)]
        return [e for e in found if process is None or e.process == process]

    async def until(self, condition):
        """Wait until *condition* is true, and return it."""
        with anyio.fail_after(PATIENCE):
            while not (found := condition()):
                self._news.clear()
                await self._news.wait()
        return found

    async def answered(self, text: str) -> None:
        """Wait until that was a response."""
        await self.until(
            lambda: text in [e.outcome.text for e in self.of(words.ResponseFinished)]
        )


def voiced(pcm: bytes) -> int:
    """Return how many frames of 20 ms hold a voice."""
    whole = pcm[: len(pcm) // FRAME_BYTES * FRAME_BYTES]
    return sum(VoiceDetector().detect(whole, 0.5)) if whole else 0


def hear(pcm: bytes) -> list[str]:
    """Return the words in *pcm*."""
    ear = SphinxRecogniser()
    ear.feed(pcm)
    return ear.finish().split()


async def test_a_question_is_heard_and_answered_aloud(
    server, stream, recorder, question, tmp_path
):
    """From the microphone's device, over the wire, to the speaker's device."""
    heard = tmp_path / "heard.raw"
    expected = voiced(synthesise(ANSWER))
    with server.listening(heard):
        async with stream:
            program = stream.process_status()["recorder"]
            server.say(question)
            outcome = await stream.wait_for_response(PATIENCE)
            await sounds(heard, expected * 0.9)
    assert program.status == "running"
    assert outcome.text == ANSWER
    assert stream.conversation()[0].content == QUESTION
    # A busy machine may tear a word; it does not make up others.
    understood = {"two", "plus", "three", "is", "five"} & set(hear(heard.read_bytes()))
    assert len(understood) >= 3
    assert stream.summary().restarts == {"connection": 0, "player": 0, "recorder": 0}


async def test_a_microphone_that_goes_silent_is_found_out(
    server, stream, recorder, question
):
    """Its program lives, says nothing and delivers nothing; a new one delivers."""
    watch = Watch(stream)
    async with stream:
        speaker = server.say(question)
        await watch.until(lambda: watch.of(words.SpeechStarted))
        server.suspend("mic")
        await watch.until(lambda: watch.of(events.ProbeFailed, "recorder"))
        end(speaker)
        server.suspend("mic", on=False)
        await watch.until(lambda: watch.of(events.ProcessRestarted, "recorder"))
        await watch.until(lambda: watch.of(words.SpeechStopped))
        server.say(question)
        await watch.answered(ANSWER)
        assert stream.is_ready()
    exited = watch.of(events.ProcessExited, "recorder")[0]
    assert exited.cause == "ended by us: unhealthy"
    assert failures(watch, "recorder") == [words.DeviceProblem.LOST]
    assert watch.of(events.ProcessExited, "player")[:-1] == []


async def test_a_speaker_that_plays_nothing_is_found_out(
    server, stream, recorder, tmp_path
):
    """Its program takes no more; a new one plays on what is still to come."""
    watch = Watch(stream)
    heard = tmp_path / "heard.raw"
    async with stream:
        with server.listening(heard):
            stream.send_text("Tell me a story.", trigger_response=True)
            await sounds(heard, 1)
            server.suspend("spk")
            await watch.until(lambda: watch.of(events.ProbeFailed, "player"))
            server.suspend("spk", on=False)
            await watch.until(lambda: watch.of(events.ProcessRestarted, "player"))
            await sounds(heard, voiced(heard.read_bytes()) + 50)
        assert stream.is_ready()
    exited = watch.of(events.ProcessExited, "player")[0]
    assert exited.cause == "ended by us: unhealthy"
    assert failures(watch, "player") == [words.DeviceProblem.LOST]


async def sounds(path, frames):
    """Wait until so many frames of 20 ms with a voice were heard."""
    with anyio.fail_after(PATIENCE):
        while voiced(path.read_bytes()) < frames:
            await asyncio.sleep(0.1)


async def test_devices_that_are_unplugged_and_plugged_in_again(
    server, stream, recorder, question
):
    """In mid-sentence; recorder and player die of it, and are revived."""
    watch = Watch(stream)
    async with stream:
        server.say(question)
        await watch.until(lambda: watch.of(words.SpeechStarted))
        server.unplug()
        server.plug_in()
        await watch.until(lambda: watch.of(events.ProcessRestarted, "recorder"))
        await watch.until(lambda: watch.of(words.SpeechStopped))
        server.say(question)
        await watch.answered(ANSWER)
        assert stream.is_ready()
    exited = watch.of(events.ProcessExited, "recorder")[0]
    assert (exited.exit_status, exited.cause) == (EXIT_STATUS[recorder], "failed")


@pytest.fixture
def impatient(monkeypatch):
    """Have no recorder waited for; by default it is for half a minute."""
    monkeypatch.setattr(diagnostics, "PATIENCE", 1.0)


@pytest.mark.usefixtures("impatient")
async def test_devices_that_stay_away_end_the_session(
    server, stream, recorder, question
):
    """With the recorder as the reason, after it was tried again and again."""
    watch = Watch(stream)
    with pytest.raises(CriticalProcessFailed, match="recorder") as caught:
        async with stream:
            server.say(question)
            await watch.until(lambda: watch.of(words.SpeechStarted))
            server.unplug()
            with pytest.raises(ClosedStream):
                await responses(stream)
    assert caught.value.name == "recorder"
    assert not stream.is_ready()
    given_up(watch, recorder)


@pytest.mark.usefixtures("impatient")
async def test_a_sound_server_killed_in_mid_response_ends_the_session(
    server, stream, recorder, question, tmp_path
):
    """Whatever status its programs exit with: both have failed."""
    watch = Watch(stream)
    heard = tmp_path / "heard.raw"
    with pytest.raises(CriticalProcessFailed, match="recorder"):
        async with stream:
            with server.listening(heard):
                stream.send_text(LONG, trigger_response=True)
                await sounds(heard, 1)
            server.kill()
            await watch.until(lambda: watch.of(events.ProcessGivenUp, "recorder"))
            with pytest.raises(ClosedStream):
                await responses(stream)
    given_up(watch, recorder)
    assert watch.of(events.ProcessExited, "player")[0].cause == "failed"
    assert failures(watch, "recorder")[0] == SERVER_GONE
    if recorder != "ffmpeg":  # as a player it says nothing that tells
        assert failures(watch, "player")[0] == SERVER_GONE


async def test_a_sound_server_that_comes_back_is_waited_for(
    server, stream, recorder, question, tmp_path
):
    """Killed in mid-sentence; what is said to the next one is answered aloud."""
    watch = Watch(stream)
    heard = tmp_path / "heard.raw"
    async with stream:
        server.say(question)
        await watch.until(lambda: watch.of(words.SpeechStarted))
        server.kill()
        await watch.until(lambda: failures(watch, "recorder"))
        server.start()
        await watch.until(lambda: watch.of(words.SpeechStopped))
        with server.listening(heard):
            server.say(question)
            await watch.answered(ANSWER)
            await sounds(heard, 20)
        assert stream.is_ready()
    assert failures(watch, "recorder")[0] == SERVER_GONE


async def responses(stream):
    """Wait for one response after the other, for ever."""
    while True:
        await stream.wait_for_response(PATIENCE)


def failures(watch, device):
    """Return what was wrong with that device, each time."""
    found = watch.of(words.DeviceFailed)
    return [event.problem for event in found if event.device == device]


def given_up(watch, recorder):
    """Check that the recorder failed, was tried again, and was given up."""
    exited = watch.of(events.ProcessExited, "recorder")
    assert (exited[0].exit_status, exited[0].cause) == (EXIT_STATUS[recorder], "failed")
    assert len(exited) > 3
    assert len(watch.of(events.ProcessGivenUp, "recorder")) == 1


async def test_a_recorder_that_the_sound_server_moves_goes_on(
    server, monkeypatch, tmp_path
):
    """PulseAudio gives it another device if there is one: it is not even noticed."""
    only_these(["parec", "pacat"], monkeypatch, tmp_path)
    async with (
        Peer(pace=0) as peer,
        Stream(url=peer.url, logger=Logger(tmp_path / "app.log")) as stream,
    ):
        server.unplug_microphone()
        before = stream.summary().sent_audio
        with anyio.fail_after(PATIENCE):
            while stream.summary().sent_audio < before + 3:
                await asyncio.sleep(0.1)
        assert stream.is_ready()
    assert stream.summary().restarts["recorder"] == 0
