"""
A WAV file as microphone or speaker: a child program of ours, and the file's repair.

It stands in where no ffmpeg is at hand, and it goes on with a file whose writer was
killed, which ffmpeg cannot. Run as a program it needs the standard library only and
imports nothing of this package, so that it starts in a few milliseconds::

    python wavfile.py read PATH [START]   # to stdout, in real time, then silence
    python wavfile.py write PATH          # from stdin, behind what PATH holds

Both speak signed 16-bit little-endian mono samples at 24 kHz. What is written is a
valid WAV at any time but for the last second, also after SIGKILL.
"""

from __future__ import annotations

import array
import os
import signal
import struct
import sys
import time
import wave
from typing import IO, TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

_RATE = 24_000
_BYTES_PER_SECOND = 2 * _RATE
_FRAME = 480  # samples in 20 ms
_LARGEST = 0xFFFF_FFFF
_PATCH_EVERY = 1.0  # seconds


class NotWav(ValueError):
    """A file is not a WAV of samples, or has no data chunk."""


# --- Writing ----------------------------------------------------------------------


def header(channels: int = 1) -> bytes:
    """Return the header of an empty WAV: 44 bytes."""
    per_second, frame = channels * _BYTES_PER_SECOND, channels * 2
    fmt = struct.pack("<IHHIIHH", 16, 1, channels, _RATE, per_second, frame, 16)
    return b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + fmt + b"data\0\0\0\0"


def data_offset(file: IO[bytes]) -> int:
    """
    Return where the samples begin.

    Raises:
        NotWav: If *file* has no data chunk.
    """
    file.seek(0)
    riff, _, kind = struct.unpack("<4sI4s", _exactly(file, 12))
    if riff != b"RIFF" or kind != b"WAVE":
        raise NotWav("not a WAV file")
    while True:
        name, size = struct.unpack("<4sI", _exactly(file, 8))
        if name == b"data":
            return file.tell()
        file.seek(size + (size & 1), os.SEEK_CUR)


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise NotWav("the file ends before its samples begin")
    return data


def patch(file: IO[bytes], start: int) -> None:
    """Write into the header how long the samples are that begin at *start*."""
    end = file.seek(0, os.SEEK_END)
    for place, size in ((4, end - 8), (start - 4, end - start)):
        file.seek(place)
        file.write(struct.pack("<I", min(size, _LARGEST)))
    file.seek(0, os.SEEK_END)
    file.flush()


def repair(path: str | os.PathLike[str]) -> bool:
    """
    Make the header of a WAV say what the file holds, as after its writer was killed.

    Returns:
        Whether *path* is a WAV file. One that is not is left as it is.

    Raises:
        OSError: If the file cannot be opened.
    """
    with open(path, "r+b") as file:
        try:
            start = data_offset(file)
        except NotWav:
            return False
        length = file.seek(0, os.SEEK_END) - start
        if length & 1:  # the writer died within a sample
            file.truncate(start + length - 1)
        patch(file, start)
        return True


def extend(path: str | os.PathLike[str], frames: bytes, silence: int = 0) -> None:
    """
    Append *frames* to a stereo WAV, and say so in its header.

    Args:
        path: The file.
        frames: 4 bytes each.
        silence: So many frames of silence are to follow; they take no disk.

    Raises:
        OSError: If the file cannot be opened or written.
        NotWav: If it is none any more.
    """
    with open(path, "r+b") as file:
        start = data_offset(file)
        file.seek(0, os.SEEK_END)
        file.write(frames)
        file.truncate(file.tell() + 4 * silence)
        patch(file, start)


def _write(path: str) -> None:
    """Append stdin to *path* until it ends."""
    if not (os.path.exists(path) and repair(path)):
        with open(path, "wb") as file:
            file.write(header())
    with open(path, "r+b") as file:
        start = data_offset(file)
        file.seek(0, os.SEEK_END)
        try:
            _append(file, start)
        finally:
            patch(file, start)


def _append(file: IO[bytes], start: int) -> None:
    due = time.monotonic() + _PATCH_EVERY
    while chunk := os.read(0, 65_536):
        file.write(chunk)
        file.flush()
        if time.monotonic() >= due:
            patch(file, start)
            due = time.monotonic() + _PATCH_EVERY


# --- Reading ----------------------------------------------------------------------


def _samples(data: bytes, width: int) -> array.array[int]:
    """Return PCM of *width* bytes a sample as 16-bit samples."""
    if width == 1:  # unsigned, as only 8-bit WAV is
        return array.array("h", ((byte - 128) << 8 for byte in data))
    if width > 2:  # the two high bytes of each
        pairs = (data[i + width - 2 : i + width] for i in range(0, len(data), width))
        data = b"".join(pairs)
    samples = array.array("h", data)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def _mono(samples: array.array[int], channels: int) -> array.array[int]:
    if channels == 1:
        return samples
    frames = zip(*(samples[i::channels] for i in range(channels)), strict=True)
    return array.array("h", (sum(frame) // channels for frame in frames))


def _resampled(samples: array.array[int], rate: int) -> array.array[int]:
    """Bring one block to 24 kHz by straight lines: enough for speech."""
    if rate == _RATE or not samples:
        return samples
    last = len(samples) - 1
    resampled = array.array("h")
    for i in range(len(samples) * _RATE // rate):
        place, rest = divmod(i * rate, _RATE)
        here, there = samples[place], samples[min(place + 1, last)]
        resampled.append(here + (there - here) * rest // _RATE)
    return resampled


def _frames(path: str, start: float) -> Iterator[bytes]:
    """Yield *path* from *start* seconds on, in pieces of 20 ms, then silence."""
    with wave.open(path, "rb") as file:
        rate = file.getframerate()
        file.setpos(min(file.getnframes(), int(start * rate)))
        pending = array.array("h")
        while data := file.readframes(rate // 10):
            samples = _mono(_samples(data, file.getsampwidth()), file.getnchannels())
            pending += _resampled(samples, rate)
            while len(pending) >= _FRAME:
                yield pending[:_FRAME].tobytes()
                del pending[:_FRAME]
        yield pending.tobytes()
    while True:
        yield bytes(2 * _FRAME)


def _read(path: str, start: float) -> None:
    """Play *path* to stdout in real time, for ever."""
    began, sent = time.monotonic(), 0
    for frame in _frames(path, start):
        ahead = sent / _BYTES_PER_SECOND - (time.monotonic() - began)
        if ahead > 0:
            time.sleep(ahead)
        _write_all(frame)
        sent += len(frame)


def _write_all(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


# --- The program ------------------------------------------------------------------


def _end(signal_number: int, frame: object) -> NoReturn:
    raise SystemExit(0)  # by way of the ``finally`` that patches the sizes


def main(arguments: list[str]) -> int:
    """Run as a program; see the module's text. Returns the exit code."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    try:
        match arguments:
            case ["read", path]:
                _read(path, 0.0)
            case ["read", path, start]:
                _read(path, float(start))
            case ["write", path]:
                _write(path)
            case _:
                sys.stderr.write("usage: wavfile.py read PATH [START] | write PATH\n")
                return 2
    except BrokenPipeError:
        return 0  # nobody listens any more
    except (OSError, EOFError, ValueError, wave.Error) as error:
        sys.stderr.write(f"wavfile: {arguments[1]}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
