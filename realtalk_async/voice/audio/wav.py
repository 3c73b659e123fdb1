"""
WAV files as speaker: a script that writes them, and their repair.

The script is used without ffmpeg, and to append to a file whose writer was killed, which
ffmpeg cannot do. It imports only the standard library, to start in a few milliseconds::

    python wav.py PATH [FORMAT]   # append stdin to PATH

The samples are mono: signed 16-bit little-endian at 24 kHz, or those of the ``audio/pcmu``
or ``audio/pcma`` of the realtime protocol: G.711 at 8 kHz. A written file is a valid WAV at
any time, also after SIGKILL; its header may lack the last second.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from typing import IO, NoReturn

_RATE = 24_000
_BYTES_PER_SECOND = 2 * _RATE
_TELEPHONE_RATE = 8000
_TAGS = {"audio/pcma": 6, "audio/pcmu": 7}
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


def telephone_header(audio_format: str) -> bytes:
    """Return the header of an empty WAV in a format of G.711: 46 bytes."""
    tag, rate = _TAGS[audio_format], _TELEPHONE_RATE
    fmt = struct.pack("<IHHIIHHH", 18, tag, 1, rate, rate, 1, 8, 0)
    return b"RIFF" + struct.pack("<I", 38) + b"WAVEfmt " + fmt + b"data\0\0\0\0"


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
        if length & 1 and not _is_telephone(file):  # the writer died within a sample
            file.truncate(start + length - 1)
        update_header(file, start)
        return True


def _is_telephone(file: IO[bytes]) -> bool:
    file.seek(12)
    name, _, tag = struct.unpack("<4sIH", file.read(10))
    return name == b"fmt " and tag in _TAGS.values()


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


def _write(path: str, audio_format: str = "audio/pcm") -> None:
    """Append stdin to *path* until stdin ends."""
    if not (os.path.exists(path) and repair(path)):
        telephone = audio_format in _TAGS
        with open(path, "wb") as file:
            file.write(telephone_header(audio_format) if telephone else header())
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


# --- The script -------------------------------------------------------------------


def _exit(signal_number: int, frame: object) -> NoReturn:
    raise SystemExit(0)  # so that `finally` updates the header


def main(arguments: list[str]) -> int:
    """Run the script, as described above; return the exit code."""
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, _exit)
    try:
        _write(*arguments)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"wav: {arguments[0]}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
