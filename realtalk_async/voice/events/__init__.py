"""
The events of a voice session, and the data that they carry. All are frozen.

`Stream.subscribe` and `Stream.events` deliver them.
"""

from __future__ import annotations

from realtalk_async.voice.events.base import (
    CONNECTION,
    SESSION,
    VoiceEvent,
)
from realtalk_async.voice.events.connection import (
    Connected,
    ConnectionLost,
    ConnectionRecycled,
    ConnectionRestored,
    EndpointChanged,
    EventsMissed,
    OutageAnnounced,
    ProtocolProblem,
    ServiceError,
    SessionUpdated,
    UnknownEvent,
)
from realtalk_async.voice.events.devices import (
    DefaultDeviceChanged,
    DeviceFailed,
    DeviceProblem,
    MicrophoneProblem,
    PlaybackCleared,
    PlayerSwitched,
    SoundProblem,
)
from realtalk_async.voice.events.limits import (
    LimitReached,
    SelfTalk,
)
from realtalk_async.voice.events.outcome import (
    Outcome,
    Status,
)
from realtalk_async.voice.events.responses import (
    Interrupted,
    ResponseFinished,
    ResponseRequested,
    ResponseStarted,
    ResponseText,
)
from realtalk_async.voice.events.speech import (
    InterruptionPending,
    SpeechIgnored,
    SpeechStarted,
    SpeechStopped,
    TranscriptionFailed,
    UserTranscript,
)
from realtalk_async.voice.events.tools import (
    ToolCalled,
    ToolFinished,
    ToolLimitReached,
    ToolsInterrupted,
)
from realtalk_async.voice.events.usage import Usage

__all__ = [
    "CONNECTION",
    "SESSION",
    "Connected",
    "ConnectionLost",
    "ConnectionRecycled",
    "ConnectionRestored",
    "DefaultDeviceChanged",
    "DeviceFailed",
    "DeviceProblem",
    "EndpointChanged",
    "EventsMissed",
    "Interrupted",
    "InterruptionPending",
    "LimitReached",
    "MicrophoneProblem",
    "OutageAnnounced",
    "Outcome",
    "PlaybackCleared",
    "PlayerSwitched",
    "ProtocolProblem",
    "ResponseFinished",
    "ResponseRequested",
    "ResponseStarted",
    "ResponseText",
    "SelfTalk",
    "ServiceError",
    "SessionUpdated",
    "SoundProblem",
    "SpeechIgnored",
    "SpeechStarted",
    "SpeechStopped",
    "Status",
    "ToolCalled",
    "ToolFinished",
    "ToolLimitReached",
    "ToolsInterrupted",
    "TranscriptionFailed",
    "UnknownEvent",
    "Usage",
    "UserTranscript",
    "VoiceEvent",
]
