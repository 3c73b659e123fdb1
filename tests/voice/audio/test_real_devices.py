"""
Sessions with real recorders and players on a sound server that each test starts.

The machine needs no sound card: PulseAudio runs with two null sinks. The monitor of ``mic``
is the microphone; the monitor of ``spk`` records what the speaker plays. Tests of programs
that are not installed are skipped
(``apt-get install pulseaudio pulseaudio-utils sox libsox-fmt-pulse``).
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
from realtalk_async.voice import events as voice_events
from realtalk_async.voice.audio import default_devices, devices, diagnostics

TIMEOUT = 240
"""Seconds that no step takes on any machine."""

SERVER = {
    name: shutil.which(name) for name in ("pulseaudio", "pactl", "parec", "pacat")
}
MISSING = [name for name, path in SERVER.items() if path is None]

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.timeout(540),
]

SERVER_GONE = voice_events.DeviceProblem.SERVER_GONE

RAW = ("--raw", "--format=s16le", "--rate=24000", "--channels=1")
SECOND = 1000 * BYTES_PER_MS

QUESTION = "What is two plus three?"
ANSWER = "Two plus three is five."
LONG = "Say one two three four five six seven eight nine ten eleven twelve."


# --- The sound server -------------------------------------------------------------


class SoundServer:
    """
    A PulseAudio server that uses nothing of the machine or the user.

    Args:
        folder: The folder of its socket and files; a socket needs a short path.
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
        """Start or restart the server with both devices."""
        native = f"module-native-protocol-unix socket={self._socket} auth-anonymous=1"
        self._process = self._spawn(
            *(SERVER["pulseaudio"], "-n", "--daemonize=no", "--exit-idle-time=-1"),
            *("--disable-shm=yes", "-L", native),
        )
        deadline = time.monotonic() + TIMEOUT
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

        This blocks the event loop, so a session gives up nothing meanwhile.
        """
        environment = {**os.environ, **self.environment, "LC_ALL": "C"}
        argv = (SERVER["pactl"], *arguments)
        done = subprocess.run(
            argv, env=environment, check=True, capture_output=True, timeout=TIMEOUT
        )
        return done.stdout.decode().strip()

    def plug_in(self) -> None:
        """Create both devices."""
        for name in ("spk", "mic"):
            self._sinks[name] = self.control(
                *("load-module", "module-null-sink", f"sink_name={name}"),
                *("rate=24000", "channels=1", "format=s16le"),
            )
            # Without a low-latency stream a null sink processes 2 s at a time.
            with Path("/dev/zero").open("rb") as silence:
                self._spawn(
                    *(SERVER["pacat"], "-d", name, "--latency-msec=10", *RAW),
                    stdin=silence,
                )

    def unplug(self) -> None:
        """Remove both devices."""
        self.control("unload-module", "module-null-sink")

    def unplug_microphone(self) -> None:
        """Remove the microphone only."""
        self.control("unload-module", self._sinks["mic"])

    def suspend(self, name: str, *, on: bool = True) -> None:
        """Suspend a device with its monitor, or resume it."""
        self.control("suspend-sink", name, str(int(on)))

    def say(self, path: Path) -> subprocess.Popen:
        """Play *path* into the microphone; return the process."""
        return self._spawn(
            SERVER["pacat"], "-d", "mic", "--latency-msec=500", *RAW, str(path)
        )

    @contextmanager
    def listening(self, path: Path):
        """Write everything that the speaker plays to *path*."""
        with path.open("wb") as file:
            argv = (SERVER["parec"], "-d", "spk.monitor", "--latency-msec=20", *RAW)
            child = self._spawn(*argv, stdout=file)
            yield
            end(child)

    def kill(self) -> None:
        """Kill the server."""
        assert self._process is not None
        end(self._process)
        self._socket.unlink()


def end(child: subprocess.Popen) -> None:
    """Kill *child* and reap it."""
    child.kill()
    child.wait(TIMEOUT)


@pytest.fixture
def server(monkeypatch):
    """Yield a sound server that all children of this test use."""
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


# --- Sessions ---------------------------------------------------------------------


@pytest.fixture(params=["parec", "sox", "ffmpeg"])
def recorder(request, monkeypatch, tmp_path):
    """Return a recorder's name; only it and its player are on the PATH."""
    name = request.param
    if name == "ffmpeg":
        if devices.find_bundled_ffmpeg() is None:
            pytest.skip("not installed: imageio-ffmpeg")
        programs = []  # the bundled ffmpeg is not found by the PATH
    else:
        programs = {"parec": ["parec", "pacat"], "sox": ["sox"]}[name]
    only_these(programs, monkeypatch, tmp_path)
    return name


def only_these(programs, monkeypatch, tmp_path):
    """Set a PATH with *programs* only."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in programs:
        path = shutil.which(program)
        if path is None:
            pytest.skip(f"not installed: {program}")
        (folder / program).symlink_to(path)
    monkeypatch.setenv("PATH", str(folder))


EXIT_STATUS = {"parec": 1, "sox": 0, "ffmpeg": 0}
"""The exit status of a recorder whose server or device is gone."""


@pytest.fixture
def question(tmp_path):
    """Return a file with a spoken question between silence."""
    path = tmp_path / "question.raw"
    path.write_bytes(bytes(SECOND // 2) + synthesise(QUESTION) + bytes(SECOND))
    return path


@pytest.fixture
async def stream(server, recorder, tmp_path):
    """Yield a session with the default microphone and speaker, and a peer."""
    async with Peer(pace=0) as peer:
        yield Stream(url=peer.url, logger=Logger(tmp_path / "app.log"))


class Watch:
    """Collects the events of a session and its children in order."""

    def __init__(self, stream: Stream) -> None:
        self.seen: list = []
        self._changed = asyncio.Event()
        stream.subscribe(self._note)
        stream.process_manager.subscribe(self._note)

    def _note(self, event) -> None:
        self.seen.append(event)
        self._changed.set()

    def of(self, kind, process=None) -> list:
        """Return the events of a type, of one process if it is given."""
        found = [event for event in self.seen if isinstance(event, kind)]
        return [e for e in found if process is None or e.process == process]

    async def until(self, condition):
        """Wait until *condition* is true and return its value."""
        with anyio.fail_after(TIMEOUT):
            while not (found := condition()):
                self._changed.clear()
                await self._changed.wait()
        return found

    async def answered(self, text: str) -> None:
        """Wait until a response has this text."""
        await self.until(
            lambda: (
                text in [e.outcome.text for e in self.of(voice_events.ResponseFinished)]
            )
        )


def voiced(pcm: bytes) -> int:
    """Return the number of 20 ms frames with a voice."""
    whole = pcm[: len(pcm) // FRAME_BYTES * FRAME_BYTES]
    return sum(VoiceDetector().detect(whole, 0.5)) if whole else 0


def hear(pcm: bytes) -> list[str]:
    """Return the words that a recogniser finds in *pcm*."""
    recogniser = SphinxRecogniser()
    recogniser.feed(pcm)
    return recogniser.finish().split()


async def test_spoken_question_gets_a_spoken_answer(
    server, stream, recorder, question, tmp_path
):
    heard = tmp_path / "heard.raw"
    expected = voiced(synthesise(ANSWER))
    with server.listening(heard):
        async with stream:
            program = stream.process_status()["recorder"]
            server.say(question)
            outcome = await stream.wait_for_response(TIMEOUT)
            await sounds(heard, expected * 0.9)
    assert program.status == "running"
    assert outcome.text == ANSWER
    assert stream.conversation()[0].content == QUESTION
    # On a busy machine the recogniser may miss some words.
    understood = {"two", "plus", "three", "is", "five"} & set(hear(heard.read_bytes()))
    assert len(understood) >= 3
    assert stream.summary().restarts == {"connection": 0, "player": 0, "recorder": 0}


async def test_recorder_of_a_silent_device_is_restarted(
    server, stream, recorder, question
):
    """Its program keeps running without audio and without an error."""
    watch = Watch(stream)
    async with stream:
        speaker = server.say(question)
        await watch.until(lambda: watch.of(voice_events.SpeechStarted))
        server.suspend("mic")
        await watch.until(lambda: watch.of(events.ProbeFailed, "recorder"))
        end(speaker)
        server.suspend("mic", on=False)
        await watch.until(lambda: watch.of(events.ProcessRestarted, "recorder"))
        await watch.until(lambda: watch.of(voice_events.SpeechStopped))
        server.say(question)
        await watch.answered(ANSWER)
        assert stream.is_ready()
    exited = watch.of(events.ProcessExited, "recorder")[0]
    assert exited.cause == "ended by us: unhealthy"
    assert failures(watch, "recorder") == [voice_events.DeviceProblem.LOST]
    assert watch.of(events.ProcessExited, "player")[:-1] == []


async def test_player_of_a_suspended_device_is_restarted(
    server, stream, recorder, tmp_path
):
    """Its program accepts no more input; the next one plays the rest."""
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
    assert failures(watch, "player") == [voice_events.DeviceProblem.LOST]


async def sounds(path, frames):
    """Wait until *path* has so many 20 ms frames with a voice."""
    with anyio.fail_after(TIMEOUT):
        while voiced(path.read_bytes()) < frames:
            await asyncio.sleep(0.1)


async def test_session_continues_after_devices_were_unplugged_and_plugged_in(
    server, stream, recorder, question
):
    watch = Watch(stream)
    async with stream:
        server.say(question)
        await watch.until(lambda: watch.of(voice_events.SpeechStarted))
        server.unplug()
        server.plug_in()
        await watch.until(lambda: watch.of(events.ProcessRestarted, "recorder"))
        await watch.until(lambda: watch.of(voice_events.SpeechStopped))
        server.say(question)
        await watch.answered(ANSWER)
        assert stream.is_ready()
    exited = watch.of(events.ProcessExited, "recorder")[0]
    assert (exited.exit_status, exited.cause) == (EXIT_STATUS[recorder], "failed")


@pytest.fixture
def short_retry_window(monkeypatch):
    """Wait 1 s instead of 30 s for a device."""
    monkeypatch.setattr(diagnostics, "RETRY_WINDOW", 1.0)


@pytest.mark.usefixtures("short_retry_window")
async def test_devices_that_stay_unplugged_end_the_session(
    server, stream, recorder, question
):
    watch = Watch(stream)
    with pytest.raises(CriticalProcessFailed, match="recorder") as caught:
        async with stream:
            server.say(question)
            await watch.until(lambda: watch.of(voice_events.SpeechStarted))
            server.unplug()
            with pytest.raises(ClosedStream):
                await responses(stream)
    assert caught.value.name == "recorder"
    assert not stream.is_ready()
    given_up(watch, recorder)


@pytest.mark.usefixtures("short_retry_window")
async def test_killed_sound_server_ends_the_session(
    server, stream, recorder, question, tmp_path
):
    """Recorder and player have failed, whatever their exit status is."""
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
    if recorder != "ffmpeg":  # ffmpeg as a player prints no reason
        assert failures(watch, "player")[0] == SERVER_GONE


async def test_session_continues_after_the_sound_server_was_restarted(
    server, stream, recorder, question, tmp_path
):
    watch = Watch(stream)
    heard = tmp_path / "heard.raw"
    async with stream:
        server.say(question)
        await watch.until(lambda: watch.of(voice_events.SpeechStarted))
        server.kill()
        await watch.until(lambda: failures(watch, "recorder"))
        server.start()
        await watch.until(lambda: watch.of(voice_events.SpeechStopped))
        with server.listening(heard):
            server.say(question)
            await watch.answered(ANSWER)
            await sounds(heard, 20)
        assert stream.is_ready()
    assert failures(watch, "recorder")[0] == SERVER_GONE


async def responses(stream):
    """Wait for responses until the session ends."""
    while True:
        await stream.wait_for_response(TIMEOUT)


def failures(watch, device):
    """Return the problems of a device in order."""
    found = watch.of(voice_events.DeviceFailed)
    return [event.problem for event in found if event.device == device]


def given_up(watch, recorder):
    """Check that the recorder failed, was restarted, and was given up."""
    exited = watch.of(events.ProcessExited, "recorder")
    assert (exited[0].exit_status, exited[0].cause) == (EXIT_STATUS[recorder], "failed")
    assert len(exited) > 3
    assert len(watch.of(events.ProcessGivenUp, "recorder")) == 1


async def test_recorder_continues_when_the_sound_server_moves_it(
    server, monkeypatch, tmp_path
):
    """PulseAudio moves the recorder to another device, without an interruption."""
    only_these(["parec", "pacat"], monkeypatch, tmp_path)
    async with (
        Peer(pace=0) as peer,
        Stream(url=peer.url, logger=Logger(tmp_path / "app.log")) as stream,
    ):
        server.unplug_microphone()
        before = stream.summary().sent_audio
        with anyio.fail_after(TIMEOUT):
            while stream.summary().sent_audio < before + 3:
                await asyncio.sleep(0.1)
        assert stream.is_ready()
    assert stream.summary().restarts["recorder"] == 0


async def test_recorder_and_player_follow_the_default_devices(
    server, monkeypatch, tmp_path
):
    """A headset is plugged in and chosen: each program is restarted once, for no failure."""
    only_these(["parec", "pacat", "pactl"], monkeypatch, tmp_path)
    for name in ("PULSE_SOURCE", "PULSE_SINK"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(default_devices, "_PERIOD", 0.2)
    server.control("set-default-source", "mic.monitor")
    server.control("set-default-sink", "spk")
    async with Peer(pace=0) as peer:
        stream = Stream(url=peer.url, logger=Logger(tmp_path / "app.log"))
        watch = Watch(stream)
        async with stream:
            await watch.until(lambda: watch.of(voice_events.MicrophoneProblem))
            server.control("set-default-source", "spk.monitor")
            server.control("set-default-sink", "mic")
            await watch.until(
                lambda: len(watch.of(voice_events.DefaultDeviceChanged)) == 2
            )
            await watch.until(
                lambda: (
                    [
                        stream.process_status()[n].restarts
                        for n in ("recorder", "player")
                    ]
                    == [1, 1]
                )
            )
            await anyio.sleep(3)  # no further restart
            restarts = stream.summary().restarts
    assert (restarts["recorder"], restarts["player"]) == (1, 1)
    changed = watch.of(voice_events.DefaultDeviceChanged)
    assert {(e.device, e.name) for e in changed} == {
        ("recorder", "spk.monitor"),
        ("player", "mic"),
    }
    assert not watch.of(voice_events.DeviceFailed)
    monitors = watch.of(voice_events.MicrophoneProblem)
    assert [e.problem for e in monitors] == [voice_events.SoundProblem.MONITOR]
