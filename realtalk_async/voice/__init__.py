"""
A voice conversation with a realtime service, supervised.

Begin with `stream`, the public face. `run` brings up the three that it needs: `link`
holds the connection, `recorder` and `player` the programs for sound, `functions` those of
the app. `engine` carries out what `session` decides, which is pure: events and the time
in, decisions out; its parts are `conversation`, `responses`, `items`, `saying` and
`outgoing`. ``tests/test_layers.py`` has all files from bottom to top.
"""

from __future__ import annotations

from realtalk_async.event_bus import EventFeed
from realtalk_async.voice.audio.devices import AudioProgram, Device, Machine
from realtalk_async.voice.eventlog import EventLog, LoggedEvent
from realtalk_async.voice.events import (
    Connected,
    ConnectionLost,
    ConnectionRecycled,
    ConnectionRestored,
    DeviceFailed,
    Entry,
    EventsMissed,
    Interrupted,
    Outcome,
    ProtocolProblem,
    ResponseFinished,
    ResponseStarted,
    ResponseText,
    ServiceError,
    SpeechStarted,
    SpeechStopped,
    Status,
    ToolCalled,
    ToolFinished,
    TranscriptionFailed,
    Trouble,
    UnknownEvent,
    UserTranscript,
    VoiceEvent,
)
from realtalk_async.voice.metrics import Metrics, TurnLatency
from realtalk_async.voice.protocol.messages import SemanticVad, ServerVad
from realtalk_async.voice.stream import Stream
from realtalk_async.voice.summary import Summary
from realtalk_async.voice.tools import Tool

__all__ = [
    "AudioProgram",
    "Connected",
    "ConnectionLost",
    "ConnectionRecycled",
    "ConnectionRestored",
    "Device",
    "DeviceFailed",
    "Entry",
    "EventFeed",
    "EventLog",
    "EventsMissed",
    "Interrupted",
    "LoggedEvent",
    "Machine",
    "Metrics",
    "Outcome",
    "ProtocolProblem",
    "ResponseFinished",
    "ResponseStarted",
    "ResponseText",
    "SemanticVad",
    "ServerVad",
    "ServiceError",
    "SpeechStarted",
    "SpeechStopped",
    "Status",
    "Stream",
    "Summary",
    "Tool",
    "ToolCalled",
    "ToolFinished",
    "TranscriptionFailed",
    "Trouble",
    "TurnLatency",
    "UnknownEvent",
    "UserTranscript",
    "VoiceEvent",
]
