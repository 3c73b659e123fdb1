"""
Records both sides of a session to a stereo WAV file that is valid at any time.

A thread writes the file and its header twice a second, so a killed app loses at most the last
second. A slow disk does not delay the session: audio that it does not take in time becomes
silence in the file, and is counted and logged.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from realtalk_async.concurrency.blocking_call import Blocking
from realtalk_async.exceptions import AudioUnavailable
from realtalk_async.voice.audio import wav
from realtalk_async.voice.audio.stereo_mix import StereoMix
from realtalk_async.voice.events import SESSION
from realtalk_async.voice.protocol.pcm import SAMPLE_RATE

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from realtalk_async.logs import Logger

_WRITE_PERIOD = 0.5  # seconds
_CHANNELS = 2
_MAX_PENDING = 20.0  # seconds of audio that wait for the disk: 2 MB
_LAST_WRITE_TIMEOUT = 1.0  # seconds


class Recording:
    """
    The recording of one session.

    Args:
        path: The file to write; an existing file is overwritten.
        logger: Gets an entry for each problem; the session continues without recording.
        extend: Appends to the file, as `wav.extend` does.

    Raises:
        AudioUnavailable: If the file cannot be written.
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
        """Seconds of silence in the file in place of audio that the disk did not take."""
        self._logger = logger
        self._extend = extend
        self._thread: Blocking | None = None
        self._mix = StereoMix(time.monotonic())
        self._works = True
        self._gap_since: float | None = None
        try:
            self.path.write_bytes(wav.header(_CHANNELS))
        except OSError as error:
            raise AudioUnavailable(
                f"cannot write the recording {str(self.path)!r}: {error.strerror}; "
                f"give a path in a folder that exists and is writable"
            ) from error

    @property
    def pending(self) -> float:
        """Seconds of audio that wait for the disk."""
        return self._mix.pending / SAMPLE_RATE

    def recorded(self, pcm: bytes, at: float) -> None:
        """Add audio of the recorder."""
        if self._has_room(at):
            self._mix.add_user(pcm, at)

    def received(self, part: object, pcm: bytes, at: float) -> None:
        """Do nothing: the recording has only the played part of a response."""

    def played(self, part: object, pcm: bytes, at: float) -> None:
        """Add audio of a response that is audible from *at* on."""
        if self._has_room(time.monotonic()):
            self._mix.add_response(pcm, at)

    def _has_room(self, now: float) -> bool:
        if self._works and self._gap_since is None and self.pending >= _MAX_PENDING:
            self._gap_since = now
            self._report("The disk is too slow: the recording has a gap from here on")
        return self._works and self._gap_since is None

    async def run(self) -> None:
        """Write until cancelled; `finish` writes the rest."""
        while self._works:
            await asyncio.sleep(_WRITE_PERIOD)
            if self._gap_since is None:
                await self._write(self._mix.take(time.monotonic()))
            else:
                await self._write(self._mix.finish())
                await self._close_gap(self._gap_since)

    async def _close_gap(self, since: float) -> None:
        """Continue after a gap, which becomes silence."""
        now = time.monotonic()
        self._gap_since = None
        self.missing += now - since
        self._report(
            "The recording continues after a gap", missing=round(now - since, 1)
        )
        await self._write(b"", self._mix.skip(now))

    async def finish(self) -> None:
        """Write the rest, for 1 s at most. Idempotent."""
        if self._works:
            try:
                async with asyncio.timeout(_LAST_WRITE_TIMEOUT):
                    await self._write(self._mix.finish())
            except TimeoutError:
                self._report(
                    "The disk is too slow: the end of the recording is missing"
                )
        self._works = False
        thread, self._thread = self._thread, None
        if thread is not None:
            await thread.aclose(grace=0.1)

    async def _write(self, frames: bytes, silence: int = 0) -> None:
        if self._thread is None:
            self._thread = Blocking(self._extend, "realtalk recording")
        try:
            await self._thread(self.path, frames, silence)
        except (OSError, wav.NotWav) as error:
            self._works = False
            self._report("The recording ends here", error=str(error))

    def _report(self, message: str, **context: object) -> None:
        log = self._logger.error if "error" in context else self._logger.warning
        log(SESSION, message, {"path": str(self.path), **context})
