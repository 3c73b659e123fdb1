"""
What a session decides: words for the stream, which carries them out in order. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from realtalk_async.voice.events import ToolCalled, VoiceEvent
    from realtalk_async.voice.protocol.messages import Message
    from realtalk_async.voice.protocol.playback import Part


class Send(NamedTuple):
    """Send this message, which has its ``event_id``."""

    message: Message


class Play(NamedTuple):
    """Queue this audio for the player."""

    part: Part
    pcm: bytes


class Hush(NamedTuple):
    """Clear the player's queue, then tell `Session.cut_off` what was cut."""


class Tell(NamedTuple):
    """Tell the app; a `words.ResponseFinished` also resolves who waits for it."""

    event: VoiceEvent


class RunTool(NamedTuple):
    """Run a tool of the app, then tell `Session.tool_finished`."""

    call: ToolCalled


class Redial(NamedTuple):
    """This connection is of no more use: close it and dial again."""

    reason: str
    planned: bool = False
    """Nothing broke: it is only left before the service would end it."""


class End(NamedTuple):
    """End the session: no second try can mend this."""

    code: str
    message: str


Decision: TypeAlias = Send | Play | Hush | Tell | RunTool | Redial | End
