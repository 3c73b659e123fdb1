"""
Typed events of supervised processes, and the table of all events in their JSON form.

Each event knows its line for people (`str()`), its JSON form (`to_dict()`) and its log
entry (`log_entry()`). Every JSON form begins with these fields:

    version  integer  `SCHEMA_VERSION`; within a version, fields and kinds are only added
    id       text     unique across processes and restarts of the app
    kind     text     the first column of the table below
    at       text     wall-clock time in ISO 8601, with the offset of its zone
    actor    text     who requested it: ``app``, ``uid:1000`` (a user of the control
                      socket), or ``policy`` (a rule led to it, or it happened);
                      of a voice session always ``policy``

The other fields of each kind. An ``outcome`` has the fields of `Outcome` in
`realtalk_async.voice.events`::

    callback.failed process: text, incarnation: integer, callback: text, reason: text
    connection.endpoint_changed endpoint: text, model: text, reason: text
    connection.lost reason: text
    connection.opened session_id: text, model: text
    connection.outage_announced seconds: number
    connection.recycled age: number, requested: boolean
    connection.restored downtime: number, replayed: integer, left_out: integer
    device.default_changed device: text, name: text
    device.failed device: text, problem: text, reason: text, advice: text
    events.missed count: integer
    guard.lost process: text, incarnation: integer, reason: text, replaced: boolean
    incident.occurred process: text, incarnation: integer, incident: text,
        processes: list of texts, reason: text, seconds: number, given_up: list of texts
    interruption.pending speech_ms: number, dbfs: number
    manager.degraded process: text, incarnation: integer, incident: text,
        incident_size: integer, reason: text
    manager.shutdown process: text, incarnation: integer, reason: text
    manager.shutdown_timed_out process: text, incarnation: integer, seconds: number,
        left: list of texts
    microphone.problem_found problem: text, reason: text, advice: text
    playback.cleared audible_ms: number
    player.switched seconds: number
    process.device_awaited process: text, incarnation: integer, holders: object
    process.exited process: text, incarnation: integer, incident: text,
        incident_size: integer, pid: integer or null, exit_status: integer or text,
        cause: text, uptime: number, summary: text, sign: text, last_words: text,
        last_lines: list of texts, after: number, log: text
    process.given_up process: text, incarnation: integer, incident: text,
        incident_size: integer, reason: text, critical: boolean
    process.internal_error process: text, incarnation: integer, error: text,
        traceback: text
    process.output_dropped process: text, incarnation: integer, stream: text,
        max_size: integer
    process.probe_failed process: text, incarnation: integer, probe: text, reason: text,
        after: number
    process.readiness_lost process: text, incarnation: integer, probe: text,
        reason: text
    process.ready process: text, incarnation: integer, after: number
    process.restart_failed process: text, incarnation: integer, reason: text
    process.restart_refused process: text, incarnation: integer, pid: integer or null,
        reason: text
    process.restart_scheduled process: text, incarnation: integer, incident: text,
        incident_size: integer, delay: number, reason: text
    process.restarted process: text, incarnation: integer, pid: integer,
        downtime: number
    process.spawn_refused process: text, incarnation: integer, incident: text,
        incident_size: integer, error: text
    process.started process: text, incarnation: integer, pid: integer, command: text
    process.stop_step process: text, incarnation: integer, step: text, members: integer,
        routine: boolean
    process.stopped process: text, incarnation: integer, exit_status: integer or text,
        escalated: boolean, while_down: boolean
    process.unkillable process: text, incarnation: integer, survivors: list of texts
    response.finished outcome: object
    response.interrupted item_id: text, heard_ms: integer, received_ms: integer,
        text: text
    response.requested
    response.started response_id: text
    response.text_added response_id: text, item_id: text, text: text
    service.error_reported code: text, message: text, event_id: text, about: text,
        fatal: boolean
    service.malformed_message reason: text
    service.unknown_event_sent type: text, data: object
    session.limit_reached name: text, limit: number, used: number
    session.self_talk_noticed responses: integer, echoes: integer
    session.updated options: object
    speech.ignored speech_ms: number, dbfs: number, reason: text
    speech.started item_id: text
    speech.stopped item_id: text
    task.failed process: text, incarnation: integer, incident: text,
        incident_size: integer, reason: text, uptime: number, traceback: text
    tool.called call_id: text, name: text, arguments: text
    tool.finished call_id: text, name: text, output: text, seconds: number,
        failed: boolean, error: text, blocked: number, cancelled: boolean,
        ends_session: boolean
    tool.interrupted call_ids: list of texts
    tool.limit_reached call_id: text, name: text, limit: integer
    user.transcribed item_id: text, text: text, usage: object or null
    user.transcription_failed item_id: text, reason: text
"""

from __future__ import annotations

from realtalk_async.events.base import (
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
    IncidentOccurred,
    ShutdownStarted,
    ShutdownTimedOut,
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
    RestartRefused,
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
    "IncidentOccurred",
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
    "RestartRefused",
    "RestartScheduled",
    "ShutdownStarted",
    "ShutdownTimedOut",
    "SpawnRefused",
    "StopStep",
    "TaskFailed",
    "Unkillable",
]
