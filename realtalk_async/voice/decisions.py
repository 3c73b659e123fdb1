"""
What a session decides: words for the stream, which carries them out in order. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from realtalk_async.voice.pacing import Part
    from realtalk_async.voice.protocol import Message
    from realtalk_async.voice.words import ToolCalled, VoiceEvent


@dataclass(frozen=True, slots=True)
class Send:
    """Send this message, which has its ``event_id``."""

    message: Message


@dataclass(frozen=True, slots=True)
class Play:
    """Queue this audio for the player."""

    part: Part
    pcm: bytes


@dataclass(frozen=True, slots=True)
class Hush:
    """Clear the player's queue, then tell `Session.cut_off` what was cut."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the app; a `words.ReplyFinished` also resolves who waits for it."""

    event: VoiceEvent


@dataclass(frozen=True, slots=True)
class RunTool:
    """Run a tool of the app, then tell `Session.tool_finished`."""

    call: ToolCalled


@dataclass(frozen=True, slots=True)
class Redial:
    """This connection is of no more use: close it and dial again."""

    reason: str
    planned: bool = False
    """Nothing broke: it is only left before the service would end it."""


@dataclass(frozen=True, slots=True)
class End:
    """End the session: no second try can mend this."""

    code: str
    message: str


Decision: TypeAlias = Send | Play | Hush | Tell | RunTool | Redial | End
