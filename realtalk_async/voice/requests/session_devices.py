"""The recorder and the player of a session: programs, files, or functions of the app."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from realtalk_async.voice.audio.devices import find_microphone, is_program
from realtalk_async.voice.audio.player import Player
from realtalk_async.voice.audio.recorder import Recorder

if TYPE_CHECKING:
    from realtalk_async.voice.audio.callbacks import Sink, Source
    from realtalk_async.voice.audio.devices import Device, Machine
    from realtalk_async.voice.audio.hearing import Hearing
    from realtalk_async.voice.connection import Connection
    from realtalk_async.voice.supervisor import Microphone, Speaker


async def make_microphone(
    microphone: Device | Source | None,
    machine: Machine,
    connection: Connection,
    hearing: Hearing,
) -> Microphone | None:
    """
    Return what records; ``None`` for a session without a microphone.

    Raises:
        AudioUnavailable: If no program or file can be used.
    """
    if microphone is None:
        return None
    if is_program(microphone):
        device = await find_microphone(microphone, machine)
        return Recorder(device, machine, connection)
    from realtalk_async.voice.audio.callbacks import CallbackRecorder  # few have one

    return CallbackRecorder(cast("Source", microphone), connection, hearing)


def make_speaker(
    speaker: Device | Sink | None,
    machine: Machine,
    connection: Connection,
    *,
    standby: bool,
) -> Speaker | None:
    """
    Return what plays; ``None`` for a session without a speaker.

    Raises:
        AudioUnavailable: If no program or file can be used.
    """
    if speaker is None:
        return None
    if is_program(speaker):
        return Player(speaker, machine, connection, standby=standby)
    from realtalk_async.voice.audio.callbacks import CallbackPlayer  # few have one

    return CallbackPlayer(cast("Sink", speaker), connection)
