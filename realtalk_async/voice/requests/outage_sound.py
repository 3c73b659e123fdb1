"""The option for the sound file that is played while the service cannot be reached."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from realtalk_async import arguments
from realtalk_async.concurrency.daemon_thread import call_in_thread
from realtalk_async.exceptions import AudioUnavailable
from realtalk_async.voice.protocol.pcm import BYTES_PER_SECOND

if TYPE_CHECKING:
    from realtalk_async.voice.protocol.session import Session

LONGEST = 60.0
"""Seconds of the file that are played."""


@dataclass(frozen=True, slots=True)
class OutageSound:
    """
    What the speaker plays once in each outage.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """

    path: str | os.PathLike[str]
    """A sound file (WAV, FLAC, OGG, MP3); a minute of it at most is played."""
    after: float = 5.0
    """Seconds without a connection after which it is played."""

    def __post_init__(self) -> None:
        arguments.path("path", self.path)
        arguments.seconds("after", self.after)

    async def load(self) -> bytes:
        """
        Return the samples of the file.

        Raises:
            AudioUnavailable: If it cannot be read.
        """
        return await call_in_thread(self._read, "realtalk-async loads a sound")

    def _read(self) -> bytes:
        from realtalk_async.voice.audio import sound_file  # takes 0.1 s

        path, pcm = Path(self.path), bytearray()
        try:
            for piece in sound_file.pieces(path):
                pcm += piece
                if len(pcm) >= LONGEST * BYTES_PER_SECOND:
                    break
        except (OSError, sound_file.Unreadable) as error:
            raise AudioUnavailable(
                f"cannot read the outage sound {os.fspath(path)!r}: {error}"
            ) from error
        if not pcm:
            raise AudioUnavailable(f"no sound in the file {os.fspath(path)!r}")
        return bytes(pcm[: int(LONGEST) * BYTES_PER_SECOND])


def as_outage_sound(value: object) -> OutageSound:
    """
    Return the option for a sound file, or for its path.

    Raises:
        InvalidConfiguration: If it is neither.
    """
    if isinstance(value, OutageSound):
        return value
    arguments.path("outage_sound", value)
    return OutageSound(cast("str | os.PathLike[str]", value))


async def load_outage_sound(value: object, session: Session) -> None:
    """
    Load the file of a session's option; do nothing without one.

    Raises:
        AudioUnavailable: If it cannot be read.
    """
    if value is not None:
        sound = as_outage_sound(value)
        session.outage.pcm, session.outage.after = await sound.load(), sound.after
