"""Checks of the arguments of a session that concern several of its parts."""

from __future__ import annotations

from typing import get_args

from realtalk_async import arguments
from realtalk_async.g711 import AudioFormat
from realtalk_async.voice.protocol.cost.limits import SessionLimits
from realtalk_async.voice.protocol.history.limits import HistoryLimits
from realtalk_async.voice.protocol.requests.session_config import (
    SemanticVad,
    ServerVad,
)
from realtalk_async.voice.requests.outage_sound import as_outage_sound


def check_speech(
    turn_detection: object,
    transcription: object,
    audio_format: object,
    half_duplex: object,
) -> None:
    """
    Check how the service hears.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """
    kinds, allowed = (ServerVad, SemanticVad), "ServerVad(…), SemanticVad(…)"
    arguments.instance("turn_detection", turn_detection, kinds, allowed, optional=True)
    arguments.one_line("transcription", transcription, optional=True)
    arguments.choice("audio_format", audio_format, get_args(AudioFormat))
    if half_duplex != "auto":
        arguments.flag("half_duplex", half_duplex)


def check_bounds(history: object, limits: object, outage_sound: object) -> None:
    """
    Check the bounds of a session, and what is heard in an outage.

    Raises:
        InvalidConfiguration: If an argument is invalid.
    """
    arguments.instance("history", history, HistoryLimits, "HistoryLimits(…)")
    arguments.instance("limits", limits, SessionLimits, "SessionLimits(…)")
    if outage_sound is not None:
        as_outage_sound(outage_sound)
