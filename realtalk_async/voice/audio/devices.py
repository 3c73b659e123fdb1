"""
Chooses the program that records and the program that plays, with their arguments.

The arguments give the least latency of each program; some defaults are a hundred times
worse (pacat: 1,977 ms). Every program reads or writes signed 16-bit little-endian mono
samples at 24 kHz on its pipe. The arguments for macOS are untested.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, TypeGuard, cast

from realtalk_async import arguments
from realtalk_async.concurrency.daemon_thread import call_in_thread
from realtalk_async.exceptions import AudioUnavailable, InvalidConfiguration
from realtalk_async.supervision.kernel.spawning.interpreter import script_words
from realtalk_async.voice.audio import sound_file, wav
from realtalk_async.voice.endpoint import AZURE_KEY_VARIABLE, KEY_VARIABLE

if TYPE_CHECKING:
    from realtalk_async.g711 import AudioFormat

DEFAULT: Final = "default"
"""The machine's default microphone or speaker, with the first program that works."""

Device: TypeAlias = str | os.PathLike[str] | Sequence[str] | None
"""`DEFAULT`, the path of an audio file, a command with arguments, or ``None``."""


def check_device(what: str, device: object) -> None:
    """
    Check a microphone or a speaker that an app gives.

    Args:
        what: ``microphone`` or ``speaker``.
        device: See `Stream`.

    Raises:
        InvalidConfiguration: If it is neither a file, a command, a function nor None.
    """
    is_microphone = what == "microphone"
    is_function = callable(device) or (is_microphone and _is_generator(device))
    if not (device is None or _is_command(device) or is_function or _is_path(device)):
        raise not_a_device(what, device)


def not_a_device(what: str, value: object) -> InvalidConfiguration:
    """Return the error for a microphone or a speaker that cannot be used."""
    allowed = (
        "the path of an audio file, a command as a list, a function, 'default' or None"
    )
    return arguments.refused(what, allowed, value)


def _is_command(device: object) -> bool:
    if not isinstance(device, Sequence) or isinstance(device, str | bytes | bytearray):
        return False
    words = cast("Sequence[object]", device)
    return bool(words) and all(isinstance(word, str) for word in words)


def _is_generator(device: object) -> bool:
    return isinstance(device, AsyncIterable)


def _is_path(device: object) -> bool:
    try:
        arguments.path("device", device)
    except InvalidConfiguration:
        return False
    return True


def is_program(device: object) -> TypeGuard[Device]:
    """Return whether a program serves *device*, as opposed to a callback of the app."""
    return device is None or isinstance(device, str | os.PathLike | Sequence)


Kind: TypeAlias = Literal["device", "command", "file", "function"]
"""What a microphone or a speaker is."""


def kind_of(device: object) -> Kind:
    """Return what a checked microphone or speaker is; ``None`` counts as a device."""
    if device is None or device == DEFAULT:
        return "device"
    if isinstance(device, str | os.PathLike):
        return "file"
    return "command" if isinstance(device, Sequence) else "function"


class AudioProgram(NamedTuple):
    """A program that records or plays."""

    name: str
    """The name in messages."""
    argv: tuple[str, ...]
    latency_ms: float = 0.0
    """Measured milliseconds from a player's pipe to the ear."""
    file: Path | None = None
    """The audio file that the program reads or writes; ``None`` for a device."""
    resumes: bool = False
    """Whether the next incarnation can continue in the file where this one ended."""
    of_app: bool = False
    """Whether the app gave the command line."""

    @property
    def env(self) -> dict[str, None]:
        """The variables to leave out: only a program of the app may need a key."""
        names = () if self.of_app else (KEY_VARIABLE, AZURE_KEY_VARIABLE)
        return dict.fromkeys(names)


class SoundFile(NamedTuple):
    """A sound file as microphone."""

    path: Path
    needs_ffmpeg: bool = False
    """Whether only ffmpeg can read it."""


HOMEBREW = "/opt/homebrew/bin:/usr/local/bin"
"""Where Homebrew installs; an app that is started from the Dock has a PATH without it."""


def find_program(name: str) -> str | None:
    """Return the path of a program on PATH, or of Homebrew; None if there is none."""
    return shutil.which(name) or shutil.which(name, path=HOMEBREW)


class Machine(NamedTuple):
    """The machine on which programs are looked for."""

    which: Callable[[str], str | None] = find_program
    """Finds a program, as `shutil.which` does."""
    platform: str = sys.platform
    bundled_ffmpeg: str | None = None
    """The ffmpeg of the wheel ``imageio-ffmpeg``."""

    @classmethod
    def this(cls) -> Machine:
        """Return the machine that this process runs on."""
        return cls(bundled_ffmpeg=find_bundled_ffmpeg())

    @property
    def ffmpeg(self) -> str | None:
        """The ffmpeg on the machine's PATH, else the bundled ffmpeg."""
        return self.which("ffmpeg") or self.bundled_ffmpeg


def find_bundled_ffmpeg() -> str | None:
    """
    Return the path of the ffmpeg in the wheel ``imageio-ffmpeg``, if it is installed.

    The wheel's own function runs ``ffmpeg -version``, which would block the event loop.
    """
    from importlib.util import find_spec  # imported late: it slows down the start

    spec = find_spec("imageio_ffmpeg")
    if spec is None or spec.origin is None:
        return None
    found = sorted(Path(spec.origin).parent.glob("binaries/ffmpeg-*"))
    return next((str(path) for path in found if os.access(path, os.X_OK)), None)


# --- Microphones ------------------------------------------------------------------

_RAW = ("-t", "raw", "-r", "24000", "-c", "1", "-b", "16", "-e", "signed-integer")
_PULSE = ("--format=s16le", "--rate=24000", "--channels=1", "--raw")
_ALSA = ("-f", "S16_LE", "-r", "24000", "-c", "1", "-t", "raw")
_ALSA_BUFFER = ("--period-size=480", "--buffer-size=1920")
_PIPEWIRE = ("--rate", "24000", "--channels", "1", "--format", "s16")
_FFMPEG = ("-nostdin", "-hide_banner", "-loglevel", "error")
_FFMPEG_AT_ONCE = ("-fflags", "nobuffer", "-probesize", "32", "-analyzeduration", "0")
_LONGEST_LOOK = 10.0  # seconds that ffmpeg may look at a file
_FFMPEG_RAW = ("-f", "s16le", "-ar", "24000", "-ac", "1")


def find_recorders(
    microphone: Device | SoundFile, machine: Machine, *, start: float = 0.0
) -> list[AudioProgram]:
    """
    Return the programs that record from *microphone* on this machine, best first.

    Args:
        microphone: See `Device`; not ``None``. A file that was not examined is one that
            soundfile can read.
        machine: Where to look for programs.
        start: Where to begin in an audio file, in seconds.

    Raises:
        AudioUnavailable: If no program is found; the message lists the candidates.
        InvalidConfiguration: If *microphone* is an empty command.
    """
    if microphone == DEFAULT:
        return _found(_device_recorders(machine), "microphone", machine)
    if isinstance(microphone, SoundFile):
        return [_file_recorder(microphone, start, machine)]
    if isinstance(microphone, str | os.PathLike):
        return [_file_recorder(SoundFile(Path(microphone)), start, machine)]
    return [_own_command(microphone, "microphone", machine)]


def _device_recorders(machine: Machine) -> list[tuple[str, tuple[str, ...], float]]:
    ffmpeg = (*_FFMPEG, *_FFMPEG_AT_ONCE)
    to_pipe = ("-f", "s16le", "-ar", "24000", "-ac", "1", "-flush_packets", "1")
    if machine.platform == "darwin":  # untested
        mac = ("-f", "avfoundation", "-i", ":default", *to_pipe, "pipe:1")
        return [
            (
                "sox",
                ("-q", "--buffer", "960", "-t", "coreaudio", DEFAULT, *_RAW, "-"),
                0,
            ),
            ("ffmpeg", (*ffmpeg, *mac), 0),
        ]
    pulse = ("-f", "pulse", "-fragment_size", "960", "-sample_rate", "24000")
    pulse_in = (*pulse, "-channels", "1", "-i", DEFAULT, *to_pipe, "pipe:1")
    return [
        ("pw-record", (*_PIPEWIRE, "--latency", "20ms", "-"), 0),
        ("parec", (*_PULSE, "--latency-msec=20"), 0),
        ("arecord", ("-q", *_ALSA, *_ALSA_BUFFER), 0),
        ("sox", ("-q", "--buffer", "960", "-d", *_RAW, "-"), 0),
        ("ffmpeg", (*ffmpeg, *pulse_in), 0),
    ]


async def find_microphone(microphone: Device, machine: Machine) -> Device | SoundFile:
    """
    Return *microphone*; a file is examined first, in a thread.

    Raises:
        AudioUnavailable: If no program reads the file; the message says why.
    """
    if microphone == DEFAULT or not isinstance(microphone, str | os.PathLike):
        return microphone
    examine = partial(examine_sound_file, Path(microphone), machine)
    return await call_in_thread(examine, "realtalk-async examines a sound file")


def examine_sound_file(path: Path, machine: Machine) -> SoundFile:
    """
    Find out which program reads a sound file; this blocks for up to some seconds.

    Raises:
        AudioUnavailable: If none does; the message says why.
    """
    if not path.exists():
        raise AudioUnavailable(
            f"no such audio file for the microphone: {str(path)!r}; "
            f"give the path of a sound file, {DEFAULT!r} for the machine's microphone, "
            f"or None for a session without one"
        )
    if not path.is_file():
        raise _unreadable(path, "it is no regular file")
    try:
        sound_file.check(path)
    except OSError as error:
        raise _unreadable(path, str(error.strerror)) from error
    except sound_file.Unreadable as problem:
        if machine.ffmpeg is None or not _ffmpeg_reads(path, machine.ffmpeg):
            raise _unreadable(path, str(problem)) from problem
        return SoundFile(path, needs_ffmpeg=True)
    except ImportError as error:
        if machine.ffmpeg is None:
            why = "soundfile is not installed: `pip install 'realtalk-async[voice]'`"
            raise _unreadable(path, why) from error
        if not _ffmpeg_reads(path, machine.ffmpeg):
            raise _unreadable(path, "ffmpeg finds no sound in it") from error
        return SoundFile(path, needs_ffmpeg=True)
    return SoundFile(path)


def _ffmpeg_reads(path: Path, ffmpeg: str) -> bool:
    to_nowhere = ("-t", "0.1", "-vn", "-f", "s16le", "pipe:1")
    argv = (ffmpeg, *_FFMPEG, "-i", f"file:{path}", *to_nowhere)
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LONGEST_LOOK,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and bool(done.stdout)


def _unreadable(path: Path, why: str) -> AudioUnavailable:
    return AudioUnavailable(
        f"cannot read the sound file {str(path)!r} as microphone: {why}; WAV, FLAC, OGG, "
        f"MP3 and AIFF are read, and with ffmpeg many more formats"
    )


def _file_recorder(file: SoundFile, start: float, machine: Machine) -> AudioProgram:
    """Return a program that plays a file in real time, then endless silence."""
    path, where = file.path, f"{start:.3f}"
    # -P: the folder of the script is not on the path of its imports.
    script = script_words(sound_file.__name__, "-P")
    if script and (not file.needs_ffmpeg or machine.ffmpeg is None):
        argv = (*script, str(path), where)
        return AudioProgram("sound_file.py", argv, file=path, resumes=True)
    if machine.ffmpeg is None:
        raise _without_interpreter(path)
    # ``-re`` would write the first half second at once; ``arealtime`` does not. The filter
    # ``arealtime`` relies on timestamps, and ``asetpts`` gives them to padded silence:
    # without timestamps that silence is written at 80 MB a second.
    pace = "aresample=24000,apad,asetpts=N/SR/TB,asetnsamples=480,arealtime"
    ffmpeg = (
        *(machine.ffmpeg, *_FFMPEG, "-ss", where, "-i", f"file:{path}", "-vn"),
        *("-af", pace, *_FFMPEG_RAW, "-flush_packets", "1", "pipe:1"),
    )
    return AudioProgram("ffmpeg", ffmpeg, file=path, resumes=True)


# --- Speakers ---------------------------------------------------------------------


def find_players(
    speaker: Device, machine: Machine, audio_format: AudioFormat = "audio/pcm"
) -> list[AudioProgram]:
    """
    Return the programs that play to *speaker* on this machine, best first.

    Args:
        speaker: See `Device`; not ``None``. A file is overwritten.
        machine: Where to look for programs.
        audio_format: The format of a file.

    Raises:
        AudioUnavailable: If no program is found, or the file cannot be written; the
            message lists the candidates.
        InvalidConfiguration: If *speaker* is an empty command.
    """
    if speaker == DEFAULT:
        return _found(_device_players(machine), "speaker", machine)
    if isinstance(speaker, str | os.PathLike):
        return [_file_player(Path(speaker), machine, audio_format)]
    return [_own_command(speaker, "speaker", machine)]


def _device_players(machine: Machine) -> list[tuple[str, tuple[str, ...], float]]:
    sox = ("-q", "--buffer", "960", *_RAW, "-")
    ffmpeg = (*_FFMPEG, *_FFMPEG_AT_ONCE, *_FFMPEG_RAW, "-i", "pipe:0")
    if machine.platform == "darwin":  # untested
        return [
            ("sox", (*sox, "-t", "coreaudio", DEFAULT), 138),
            ("ffmpeg", (*ffmpeg, "-f", "audiotoolbox", "-"), 83),
        ]
    pulse_out = ("-f", "pulse", "-buffer_duration", "40", "realtalk")
    return [
        ("pw-play", ("--latency", "20ms", *_PIPEWIRE, "-"), 37),
        ("pacat", (*_PULSE, "--latency-msec=40"), 18),
        ("aplay", ("-q", *_ALSA, *_ALSA_BUFFER), 6),
        ("sox", (*sox, "-d"), 138),
        ("ffmpeg", (*ffmpeg, *pulse_out), 83),
    ]


def _file_player(
    path: Path, machine: Machine, audio_format: AudioFormat
) -> AudioProgram:
    if not os.access(path.parent, os.W_OK | os.X_OK) or path.is_dir():
        raise AudioUnavailable(
            f"cannot write the speaker's audio file {str(path)!r}; "
            f"give a path in a folder that exists and is writable, {DEFAULT!r} for "
            f"the machine's speaker, or None for a session without one"
        )
    if machine.ffmpeg is None or audio_format != "audio/pcm":
        path.unlink(missing_ok=True)
        return continue_file(path, audio_format)
    output = ("-f", "wav", "-flush_packets", "1", "-y", f"file:{path}")
    pipe = (*_FFMPEG_AT_ONCE, *_FFMPEG_RAW, "-i", "pipe:0")
    argv = (machine.ffmpeg, *_FFMPEG, *pipe, *output)
    return AudioProgram("ffmpeg", argv, file=path, resumes=True)


def continue_file(path: Path, audio_format: AudioFormat = "audio/pcm") -> AudioProgram:
    """Return a player that appends to a WAV file whose writer died."""
    script = script_words(wav.__name__)
    if script is None:
        raise _without_interpreter(path)
    return AudioProgram(
        "wav.py", (*script, str(path), audio_format), file=path, resumes=True
    )


# --- Both -------------------------------------------------------------------------


def _without_interpreter(path: Path) -> AudioUnavailable:
    return AudioUnavailable(
        f"cannot use the file {str(path)!r}: a frozen app has no Python interpreter for "
        f"it; install ffmpeg, or give a function instead of a file"
    )


def _own_command(
    argv: Sequence[str] | None, what: str, machine: Machine
) -> AudioProgram:
    if not argv:
        raise not_a_device(what, argv)
    if machine.which(argv[0]) is None:
        raise AudioUnavailable(
            f"the program for the {what} was not found: {argv[0]!r}; "
            f"check its name and that it may be executed. "
            f"{installation_advice(what, machine.platform)}"
        )
    return AudioProgram(Path(argv[0]).name, tuple(argv), of_app=True)


def _found(
    candidates: list[tuple[str, tuple[str, ...], float]], what: str, machine: Machine
) -> list[AudioProgram]:
    """Return the installed programs of *candidates*."""
    found: list[AudioProgram] = []
    for name, options, latency in candidates:
        path = machine.ffmpeg if name == "ffmpeg" else machine.which(name)
        if path is not None:
            found.append(AudioProgram(name, (path, *options), latency))
    if not found:
        tried = ", ".join(name for name, _, _ in candidates)
        raise AudioUnavailable(
            f"no program for the {what} was found; looked for {tried}. "
            f"{installation_advice(what, machine.platform)}"
        )
    return found


def not_working(
    what: str, programs: Sequence[AudioProgram], reason: str, stderr: Sequence[str]
) -> AudioUnavailable:
    """
    Return the error for installed programs that do not work.

    Args:
        what: ``microphone`` or ``speaker``.
        programs: The programs that were tried.
        reason: Why the last program was given up.
        stderr: Last lines of that program.
    """
    tried = ", ".join(dict.fromkeys(program.name for program in programs))
    output = f"; its last output: {' / '.join(stderr)}" if stderr else ""
    return AudioUnavailable(
        f"the {what} does not work; tried {tried}: {reason}{output}. "
        f"{installation_advice(what, sys.platform)}"
    )


def installation_advice(what: str, platform: str) -> str:
    """Return advice for a machine without a program or without a device."""
    if platform == "darwin":
        install = "`brew install sox`"
    else:
        install = "your system's pulseaudio-utils, pipewire-bin, alsa-utils or sox"
    return (
        f"Install {install}, or `pip install 'realtalk-async[ffmpeg]'`; "
        f"or give {what}=… the path of a WAV file, your own command, "
        f"or None for a session without one"
    )
