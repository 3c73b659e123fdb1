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
    EventsMissed,
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
    "EventsMissed",
    "Interrupted",
    "InterruptionPending",
    "MicrophoneProblem",
    "Outcome",
    "PlaybackCleared",
    "PlayerSwitched",
    "ProtocolProblem",
    "ResponseFinished",
    "ResponseRequested",
    "ResponseStarted",
    "ResponseText",
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
    "UserTranscript",
    "VoiceEvent",
]
