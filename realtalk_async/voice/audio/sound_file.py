"""
Reads a sound file as a microphone: in real time, as 24 kHz mono, then endless silence.

libsndfile, inside the wheels of soundfile, reads WAV of every kind, FLAC, OGG, MP3, AIFF
and more. As a script it is the recorder of a file::

    python -P sound_file.py PATH [START]   # to stdout; START in seconds

A file with G.711 and no header is known by its suffix. Damage behind the start of a file
ends the sound, not the recorder.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_RATE = 24_000
_FRAME_BYTES = 960  # 20 ms
_BYTES_PER_SECOND = 2 * _RATE
_BLOCK = 0.1  # seconds that are read at once
_LONGEST_HEADER = 65_536  # bytes

_HEADERLESS = {
    **dict.fromkeys((".ul", ".ulaw", ".mulaw", ".pcmu"), "ULAW"),
    **dict.fromkeys((".al", ".alaw", ".pcma"), "ALAW"),
}
_TELEPHONE = {"samplerate": 8000, "channels": 1, "format": "RAW"}


class Unreadable(ValueError):
    """The file holds no sound that can be read; the message says why."""


def check(path: Path) -> None:
    """
    Check that a file holds sound that can be read.

    Raises:
        Unreadable: If it does not.
        OSError: If it cannot be opened.
        ImportError: If soundfile is not installed.
    """
    soundfile = import_module("soundfile")

    with _open(path) as file:
        try:
            found = len(file.read(1))
        except soundfile.LibsndfileError as error:
            raise Unreadable(error.error_string.rstrip(".")) from error
    if not found:
        raise Unreadable("it holds no sound")


@contextmanager
def _open(path: Path) -> Generator[Any]:
    """Open a file as a ``soundfile.SoundFile``, which has no types."""
    soundfile = import_module("soundfile")  # takes 0.1 s
    if path.suffix.lower() == ".raw":  # soundfile would ask for the format
        raise Unreadable("it has no header that tells its format")
    subtype = _HEADERLESS.get(path.suffix.lower())
    headerless = {} if subtype is None else {**_TELEPHONE, "subtype": subtype}
    with path.open("rb") as raw, ExitStack() as opened:
        try:
            file = opened.enter_context(soundfile.SoundFile(raw, **headerless))
            if not file.frames and (head := _complete_header(raw)):
                mended = _Mended(raw, head)
                file = opened.enter_context(soundfile.SoundFile(mended))
        except soundfile.LibsndfileError as error:
            raise Unreadable(error.error_string.rstrip(".")) from error
        # Otherwise soundfile seeks after each read, which breaks the decoder of MP3.
        file.seekable = _never
        yield file


def _never() -> bool:
    return False


def _complete_header(file: IO[bytes]) -> bytes:
    """
    Return the header of a WAV whose writer never wrote its size; empty for any other file.

    Programs that write to a pipe, and those that were killed, leave a size of zero.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(_LONGEST_HEADER)
    file.seek(0)
    start = head.find(b"data" + bytes(4)) + 8
    if head[:4] != b"RIFF" or start < 8 or start >= end:
        return b""
    riff, data = (
        struct.pack("<I", min(n, 0xFFFF_FFFF)) for n in (end - 8, end - start)
    )
    return head[:4] + riff + head[8 : start - 4] + data


class _Mended:
    """A file that begins with other bytes than those on the disk."""

    def __init__(self, file: IO[bytes], head: bytes) -> None:
        self._file = file
        self._head = head
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        at = self._file.tell()
        data = self._file.read(size)
        head = self._head[at : at + len(data)]
        return head + data[len(head) :]


def pieces(path: Path, start: float = 0.0) -> Iterator[bytes]:
    """
    Yield the sound of a file from *start* seconds on, in pieces of any size.

    Raises:
        Unreadable: If there is none, or if the file is damaged from some point on.
    """
    numpy = import_module("numpy")
    soundfile = import_module("soundfile")

    with _open(path) as file:
        rate = file.samplerate
        convert = _converter(rate)
        try:
            _skip(file, int(start * rate))
            while True:
                block = file.read(max(1, int(rate * _BLOCK)), "float32", always_2d=True)
                samples = numpy.nan_to_num(block.mean(axis=1))
                samples = convert(samples, last=not len(block))
                clipped = numpy.clip(numpy.rint(samples * 32768), -32768, 32767)
                yield clipped.astype("<i2").tobytes()
                if not len(block):
                    return
        except soundfile.LibsndfileError as error:
            reason = error.error_string.rstrip(".")
            raise Unreadable(f"it is damaged: {reason}") from error


def _skip(file: Any, count: int) -> None:  # noqa: ANN401
    """Skip *count* frames; a jump would break the decoder of MP3, and GSM allows none."""
    if file.format not in ("MP3", "OGG") and not file.subtype.startswith("GSM"):
        file.seek(min(file.frames, max(0, count)))
        return
    while count > 0 and len(skipped := file.read(min(count, file.samplerate))):
        count -= len(skipped)


def _converter(rate: int) -> Any:  # noqa: ANN401 - neither numpy nor soxr is imported here
    if rate == _RATE:
        return _unchanged
    soxr = import_module("soxr")
    return soxr.ResampleStream(rate, _RATE, 1, dtype="float32").resample_chunk


def _unchanged(samples: Any, *, last: bool) -> Any:  # noqa: ANN401
    del last
    return samples


def _frames(path: Path, start: float) -> Iterator[bytes]:
    """Yield pieces of 20 ms, the last one filled with silence, then endless silence."""
    pending = b""
    try:
        for piece in pieces(path, start):
            pending += piece
            while len(pending) >= _FRAME_BYTES:
                yield pending[:_FRAME_BYTES]
                pending = pending[_FRAME_BYTES:]
    except Unreadable as problem:
        print(f"sound file {path}: {problem}; silence follows", file=sys.stderr)  # noqa: T201
    yield pending.ljust(_FRAME_BYTES, b"\0")
    while True:
        yield bytes(_FRAME_BYTES)


def _write_all(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def main(arguments: list[str]) -> int:
    """Run the script, as described above; return the exit code."""
    path, start = Path(arguments[0]), float((*arguments, "0")[1])
    frames = _frames(path, start)
    frame = next(frames)
    began, sent = time.monotonic(), 0
    try:
        while True:
            ahead = sent / _BYTES_PER_SECOND - (time.monotonic() - began)
            if ahead > 0:
                time.sleep(ahead)
            _write_all(frame)
            sent += len(frame)
            frame = next(frames)
    except (BrokenPipeError, KeyboardInterrupt):
        return 0  # the reader has closed the pipe, or Ctrl-C went to all


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
