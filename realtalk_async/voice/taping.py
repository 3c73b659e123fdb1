"""
Both sides of a session in a stereo WAV, which is valid at any time.

The file is written twice a second, off the loop, and its header says each time how long
it is: if the app is killed, all but the last second is there.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from realtalk_async.exceptions import AudioUnavailable
from realtalk_async.voice import wavfile
from realtalk_async.voice.mix import Mix

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

_EVERY = 0.5  # seconds between two writes
_CHANNELS = 2


class Tape:
    """
    The recording of one session.

    Args:
        path: The file to write; one that is there is replaced.
        complain: Called with what went wrong, once; the session goes on without.

    Raises:
        AudioUnavailable: If it cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike[str], complain: Callable[[OSError], None]
    ) -> None:
        self.path = Path(path)
        """The file."""
        self._complain = complain
        self._mix = Mix(time.monotonic())
        self._works = True
        try:
            self.path.write_bytes(wavfile.header(_CHANNELS))
        except OSError as error:
            raise AudioUnavailable(
                f"cannot write the recording {str(self.path)!r}: {error.strerror}; "
                f"give a path in a folder that exists and is writable"
            ) from error

    def hear(self, pcm: bytes) -> None:
        """Add what the recorder gave."""
        if self._works:
            self._mix.hear(pcm, time.monotonic())

    def play(self, pcm: bytes, at: float) -> None:
        """Add a piece of a reply that is heard from *at* on."""
        if self._works:
            self._mix.play(pcm, at)

    async def run(self) -> None:
        """Write until cancelled; `finish` then writes the rest."""
        while self._works:
            await asyncio.sleep(_EVERY)
            await self._write(self._mix.take(time.monotonic()))

    async def finish(self) -> None:
        """Write what is left. Bounded by one write of the disk."""
        if self._works:
            await self._write(self._mix.finish())
        self._works = False

    async def _write(self, frames: bytes) -> None:
        try:
            await anyio.to_thread.run_sync(wavfile.extend, self.path, frames)
        except OSError as error:
            self._works = False
            self._complain(error)
