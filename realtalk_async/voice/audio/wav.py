"""
WAV files as microphone and speaker: a script that reads and writes them, and their repair.

The script is used without ffmpeg, and to append to a file whose writer was killed, which
ffmpeg cannot do. It imports only the standard library, to start in a few milliseconds::

    python wav.py read PATH [START]   # to stdout, in real time, then silence
    python wav.py write PATH          # append stdin to PATH

Both use signed 16-bit little-endian mono samples at 24 kHz. A written file is a valid WAV
at any time, also after SIGKILL; its header may lack the last second.
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
_UPDATE_PERIOD = 1.0  # seconds


class NotWav(ValueError):
    """The file is no WAV file, or has no data chunk."""


# --- Writing ----------------------------------------------------------------------


def header(channels: int = 1) -> bytes:
    """Return the header of an empty WAV: 44 bytes."""
    per_second, frame = channels * _BYTES_PER_SECOND, channels * 2
    fmt = struct.pack("<IHHIIHH", 16, 1, channels, _RATE, per_second, frame, 16)
    return b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + fmt + b"data\0\0\0\0"


def data_offset(file: IO[bytes]) -> int:
    """
    Return the offset of the first sample.

    Raises:
        NotWav: If *file* has no data chunk.
    """
    file.seek(0)
    riff, _, kind = struct.unpack("<4sI4s", _read_exactly(file, 12))
    if riff != b"RIFF" or kind != b"WAVE":
        raise NotWav("not a WAV file")
    while True:
        name, size = struct.unpack("<4sI", _read_exactly(file, 8))
        if name == b"data":
            return file.tell()
        file.seek(size + (size & 1), os.SEEK_CUR)


def _read_exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise NotWav("the file ends before its samples begin")
    return data


def update_header(file: IO[bytes], start: int) -> None:
    """Write the length of the samples, which begin at offset *start*, into the header."""
    end = file.seek(0, os.SEEK_END)
    for offset, size in ((4, end - 8), (start - 4, end - start)):
        file.seek(offset)
        file.write(struct.pack("<I", min(size, _LARGEST)))
    file.seek(0, os.SEEK_END)
    file.flush()


def repair(path: str | os.PathLike[str]) -> bool:
    """
    Correct the lengths in a WAV file's header, as needed after its writer was killed.

    Returns:
        Whether *path* is a WAV file. Any other file is left unchanged.

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
        update_header(file, start)
        return True


def extend(path: str | os.PathLike[str], frames: bytes, silence: int = 0) -> None:
    """
    Append *frames* to a stereo WAV file and update its header.

    Args:
        path: The file.
        frames: 4 bytes each.
        silence: Frames of silence to append as well; they take no disk space.

    Raises:
        OSError: If the file cannot be opened or written.
        NotWav: If the file is no WAV file.
    """
    with open(path, "r+b") as file:
        start = data_offset(file)
        file.seek(0, os.SEEK_END)
        file.write(frames)
        file.truncate(file.tell() + 4 * silence)
        update_header(file, start)


def _write(path: str) -> None:
    """Append stdin to *path* until stdin ends."""
    if not (os.path.exists(path) and repair(path)):
        with open(path, "wb") as file:
            file.write(header())
    with open(path, "r+b") as file:
        start = data_offset(file)
        file.seek(0, os.SEEK_END)
        try:
            _append(file, start)
        finally:
            update_header(file, start)


def _append(file: IO[bytes], start: int) -> None:
    due = time.monotonic() + _UPDATE_PERIOD
    while chunk := os.read(0, 65_536):
        file.write(chunk)
        file.flush()
        if time.monotonic() >= due:
            update_header(file, start)
            due = time.monotonic() + _UPDATE_PERIOD


# --- Reading ----------------------------------------------------------------------


def _samples(data: bytes, width: int) -> array.array[int]:
    """Convert PCM with *width* bytes a sample to 16-bit samples."""
    if width == 1:  # only 8-bit WAV is unsigned
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
    """Resample one block to 24 kHz by linear interpolation, which suffices for speech."""
    if rate == _RATE or not samples:
        return samples
    last = len(samples) - 1
    resampled = array.array("h")
    for i in range(len(samples) * _RATE // rate):
        index, rest = divmod(i * rate, _RATE)
        left, right = samples[index], samples[min(index + 1, last)]
        resampled.append(left + (right - left) * rest // _RATE)
    return resampled


def _frames(path: str, start: float) -> Iterator[bytes]:
    """Yield *path* from *start* seconds on in pieces of 20 ms, then endless silence."""
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
    """Write *path* and then endless silence to stdout in real time."""
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


# --- The script -------------------------------------------------------------------


def _exit(signal_number: int, frame: object) -> NoReturn:
    raise SystemExit(0)  # so that `finally` updates the header


def main(arguments: list[str]) -> int:
    """Run the script, as described above; return the exit code."""
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, _exit)
    try:
        match arguments:
            case ["read", path]:
                _read(path, 0.0)
            case ["read", path, start]:
                _read(path, float(start))
            case ["write", path]:
                _write(path)
            case _:
                sys.stderr.write("usage: wav.py read PATH [START] | write PATH\n")
                return 2
    except BrokenPipeError:
        return 0  # the reader has closed the pipe
    except (OSError, EOFError, ValueError, wave.Error) as error:
        sys.stderr.write(f"wav: {arguments[1]}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
