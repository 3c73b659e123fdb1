"""
Both sides of a session in a stereo WAV, which is valid at any time.

The file is written twice a second, in a thread, and its header says each time how long
it is: if the app is killed, all but the last second is there. A disk that takes nothing
holds nobody up: what it does not take in time is silence in the file, counted and told.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from realtalk_async.concurrency.blocking_call import Blocking
from realtalk_async.exceptions import AudioUnavailable
from realtalk_async.voice.audio import wav
from realtalk_async.voice.audio.stereo_mix import Mix
from realtalk_async.voice.events import SESSION
from realtalk_async.voice.protocol.pcm import SAMPLE_RATE

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from realtalk_async.logs import Logger

_EVERY = 0.5  # seconds between two writes
_CHANNELS = 2
_MOST = 20.0  # seconds that wait for the disk: 2 MB
_LAST_WRITE = 1.0  # seconds that the end of a session waits for the disk


class Recording:
    """
    The recording of one session.

    Args:
        path: The file to write; one that is there is replaced.
        logger: Who is told of what goes wrong; the session goes on.
        extend: What writes, see `wavfile.extend`.

    Raises:
        AudioUnavailable: If it cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        logger: Logger,
        *,
        extend: Callable[[Path, bytes, int], None] = wav.extend,
    ) -> None:
        self.path = Path(path)
        """The file."""
        self.missing = 0.0
        """Seconds that are silence in it, because the disk took nothing."""
        self._logger = logger
        self._extend = extend
        self._thread: Blocking | None = None
        self._mix = Mix(time.monotonic())
        self._works = True
        self._full_since: float | None = None
        try:
            self.path.write_bytes(wav.header(_CHANNELS))
        except OSError as error:
            raise AudioUnavailable(
                f"cannot write the recording {str(self.path)!r}: {error.strerror}; "
                f"give a path in a folder that exists and is writable"
            ) from error

    @property
    def waiting(self) -> float:
        """Seconds that wait for the disk."""
        return self._mix.held / SAMPLE_RATE

    def recorded(self, pcm: bytes, at: float) -> None:
        """Add sound from the recorder."""
        if self._has_room(at):
            self._mix.hear(pcm, at)

    def received(self, part: object, pcm: bytes, at: float) -> None:
        """Do nothing: the recording has the responses as far as they are played."""

    def played(self, part: object, pcm: bytes, at: float) -> None:
        """Add a piece of a response that is audible from *at* on."""
        if self._has_room(time.monotonic()):
            self._mix.play(pcm, at)

    def _has_room(self, now: float) -> bool:
        if self._works and self._full_since is None and self.waiting >= _MOST:
            self._full_since = now
            self._complain("The disk is too slow: the recording has a gap from here on")
        return self._works and self._full_since is None

    async def run(self) -> None:
        """Write until cancelled; `finish` then writes the rest."""
        while self._works:
            await asyncio.sleep(_EVERY)
            if self._full_since is None:
                await self._write(self._mix.take(time.monotonic()))
            else:
                await self._write(self._mix.finish())
                await self._close_gap(self._full_since)

    async def _close_gap(self, since: float) -> None:
        """Go on after a gap: what was not kept is silence."""
        now = time.monotonic()
        self._full_since = None
        self.missing += now - since
        self._complain("The recording goes on", missing=round(now - since, 1))
        await self._write(b"", self._mix.skip(now))

    async def finish(self) -> None:
        """Write what is left, in a second at most. Idempotent."""
        if self._works:
            try:
                async with asyncio.timeout(_LAST_WRITE):
                    await self._write(self._mix.finish())
            except TimeoutError:
                self._complain("The disk is too slow: the recording has no end")
        self._works = False
        thread, self._thread = self._thread, None
        if thread is not None:
            await thread.aclose(grace=0.1)

    async def _write(self, frames: bytes, silence: int = 0) -> None:
        if self._thread is None:
            self._thread = Blocking(self._extend, "realtalk tape")
        try:
            await self._thread(self.path, frames, silence)
        except (OSError, wav.NotWav) as error:
            self._works = False
            self._complain("The recording ends here", error=str(error))

    def _complain(self, message: str, **context: object) -> None:
        log = self._logger.error if "error" in context else self._logger.warning
        log(SESSION, message, {"path": str(self.path), **context})
