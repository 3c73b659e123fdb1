"""
Typed events of supervised processes.

Each event knows its line for people (`str()`), its JSON form (`to_dict()`) and its log
entry (`log_entry()`).
"""

from __future__ import annotations

from realtalk_async.base_event import (
    APP,
    POLICY,
    SCHEMA_VERSION,
    BaseEvent,
    EventLogEntry,
)
from realtalk_async.events.event import MANAGER, Cause, Event
from realtalk_async.events.manager_events import (
    CallbackFailed,
    Degraded,
    GuardLost,
    ShutdownStarted,
)
from realtalk_async.events.process_events import (
    DeviceAwaited,
    InternalError,
    OutputDropped,
    ProbeFailed,
    ProcessExited,
    ProcessGivenUp,
    ProcessReady,
    ProcessRestarted,
    ProcessStarted,
    ProcessStopped,
    ReadinessLost,
    RestartFailed,
    RestartScheduled,
    SpawnRefused,
    StopStep,
    TaskFailed,
    Unkillable,
)

__all__ = [
    "APP",
    "MANAGER",
    "POLICY",
    "SCHEMA_VERSION",
    "BaseEvent",
    "CallbackFailed",
    "Cause",
    "Degraded",
    "DeviceAwaited",
    "Event",
    "EventLogEntry",
    "GuardLost",
    "InternalError",
    "OutputDropped",
    "ProbeFailed",
    "ProcessExited",
    "ProcessGivenUp",
    "ProcessReady",
    "ProcessRestarted",
    "ProcessStarted",
    "ProcessStopped",
    "ReadinessLost",
    "RestartFailed",
    "RestartScheduled",
    "ShutdownStarted",
    "SpawnRefused",
    "StopStep",
    "TaskFailed",
    "Unkillable",
]
