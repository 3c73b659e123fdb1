"""
Voice conversations with a realtime service, supervised.

`stream` has the public `Stream`, `interaction` its calls, `requests` what they need;
`supervisor` starts and stops connection, player and recorder (`audio`); `connection` is the
task that drives the sans-I/O session in `protocol`. The main flows:

- A byte of the microphone: `audio.recorder` reads it; `Session.push_audio` filters and
  buffers it (`protocol.microphone`); `Session.next_message` makes it a message, which
  `Connection` sends.
- An audio delta: `Connection` receives it; `Session._on_audio` queues it
  (`protocol.playback`); `audio.player` writes the audio that `Session.audio_due` returns.
- An interruption: `Connection` receives it; `Session._on_speech_started` has
  `protocol.requests.interruption` clear the queue (`protocol.playback`) and cut the response
  to the part that was heard, here (`protocol.conversation`) and at the service. With
  `interrupt_when`, `protocol.hearing.barge_in` decides first.
- A lost connection: `Connection` raises, and `Session.connection_lost` ends the responses
  under way; after the delay of the policy `connection.RECONNECT`, `Connection.run` dials
  the endpoint that `dialing.endpoint_list` chooses; `Session.connected` configures the
  session, and `Outbox.replay` (`protocol.outbox`) sends what `protocol.history.replay`
  selects of `Conversation.history` (`protocol.conversation`).
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
    DefaultDeviceChanged,
    DeviceFailed,
    DeviceProblem,
    EndpointChanged,
    EventsMissed,
    Interrupted,
    InterruptionPending,
    LimitReached,
    MicrophoneProblem,
    OutageAnnounced,
    Outcome,
    PlaybackCleared,
    PlayerSwitched,
    ProtocolProblem,
    ResponseFinished,
    ResponseRequested,
    ResponseStarted,
    ResponseText,
    SelfTalk,
    ServiceError,
    SessionUpdated,
    SoundProblem,
    SpeechIgnored,
    SpeechStarted,
    SpeechStopped,
    Status,
    ToolCalled,
    ToolFinished,
    ToolLimitReached,
    ToolsInterrupted,
    TranscriptionFailed,
    UnknownEvent,
    Usage,
    UserTranscript,
    VoiceEvent,
)
from realtalk_async.voice.inspection import Summary
from realtalk_async.voice.metrics import Metrics, TurnLatency
from realtalk_async.voice.protocol.conversation import Entry
from realtalk_async.voice.protocol.cost.limits import SessionLimits
from realtalk_async.voice.protocol.hearing.barge_in import InterruptWhen
from realtalk_async.voice.protocol.history.limits import HistoryLimits
from realtalk_async.voice.protocol.requests.session_config import SemanticVad, ServerVad
from realtalk_async.voice.requests.outage_sound import OutageSound
from realtalk_async.voice.requests.response_request import ResponseRequest
from realtalk_async.voice.stream import Stream
from realtalk_async.voice.tools import Tool

__all__ = [
    "AudioProgram",
    "Connected",
    "ConnectionLost",
    "ConnectionRecycled",
    "ConnectionRestored",
    "DefaultDeviceChanged",
    "Device",
    "DeviceFailed",
    "DeviceProblem",
    "EndpointChanged",
    "Entry",
    "EventFeed",
    "EventLog",
    "EventsMissed",
    "HistoryLimits",
    "InterruptWhen",
    "Interrupted",
    "InterruptionPending",
    "LimitReached",
    "LoggedEvent",
    "Machine",
    "Metrics",
    "MicrophoneProblem",
    "OutageAnnounced",
    "OutageSound",
    "Outcome",
    "PlaybackCleared",
    "PlayerSwitched",
    "ProtocolProblem",
    "ResponseFinished",
    "ResponseRequest",
    "ResponseRequested",
    "ResponseStarted",
    "ResponseText",
    "SelfTalk",
    "SemanticVad",
    "ServerVad",
    "ServiceError",
    "SessionLimits",
    "SessionUpdated",
    "SoundProblem",
    "SpeechIgnored",
    "SpeechStarted",
    "SpeechStopped",
    "Status",
    "Stream",
    "Summary",
    "Tool",
    "ToolCalled",
    "ToolFinished",
    "ToolLimitReached",
    "ToolsInterrupted",
    "TranscriptionFailed",
    "TurnLatency",
    "UnknownEvent",
    "Usage",
    "UserTranscript",
    "VoiceEvent",
]
