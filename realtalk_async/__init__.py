"""
Supervision of child processes for live audio apps, native to asyncio.

`ProcessManager` starts, supervises, restarts and stops children; `ManagedProcess` is one
child with its whole output; `Logger` is the log; `Stream` is a voice session on top of
them. The module `realtalk_async.exceptions` lists the errors, `realtalk_async.events` the
events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.lazy_imports import lazily

if TYPE_CHECKING:
    from realtalk_async.exceptions import (
        AudioUnavailable,
        AuthenticationRefused,
        ClosedStream,
        ContainmentUnavailable,
        CriticalProcessFailed,
        DeviceBusy,
        EndSession,
        GaveUp,
        InvalidConfiguration,
        LogUnavailable,
        LogUnreadable,
        MissingApiKey,
        NotStarted,
        ProcessDead,
        ProcessStillRunning,
        RealtalkError,
        RequestRefused,
        ResponseNotCompleted,
        ServiceRefused,
        ServiceUnreachable,
        SpawnFailed,
        StreamError,
        TooManyRestarts,
        UnknownProcess,
        WaitExpired,
        WriteStalled,
        WrongEventLoop,
    )
    from realtalk_async.logs import Level, LogEntry, Logger
    from realtalk_async.supervision import (
        CLOSE_STDIN,
        GRACEFUL,
        PERMANENT,
        SWIFT,
        TEMPORARY,
        TRANSIENT,
        Cause,
        ChildSpec,
        CombinedOutput,
        Command,
        Containment,
        Difference,
        ErrorHistory,
        Explanation,
        History,
        IncarnationReport,
        Ladder,
        LeakReport,
        Limits,
        ManagedProcess,
        OutputLine,
        OutputLines,
        Probe,
        ProcessHistory,
        ProcessManager,
        ProcessStatus,
        RecoveryAttempt,
        RestartPolicy,
        State,
        SupervisedTask,
    )
    from realtalk_async.voice import Stream, Summary
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "exceptions": "AudioUnavailable AuthenticationRefused ClosedStream "
            "ContainmentUnavailable CriticalProcessFailed DeviceBusy EndSession GaveUp InvalidConfiguration LogUnavailable LogUnreadable "
            "MissingApiKey NotStarted ProcessDead ProcessStillRunning RealtalkError RequestRefused ResponseNotCompleted "
            "ServiceRefused ServiceUnreachable SpawnFailed StreamError TooManyRestarts "
            "UnknownProcess WaitExpired WriteStalled WrongEventLoop",
            "logs": "Level LogEntry Logger",
            "supervision": "CLOSE_STDIN GRACEFUL PERMANENT SWIFT TEMPORARY TRANSIENT "
            "Cause ChildSpec CombinedOutput Command Containment Difference ErrorHistory Explanation History "
            "IncarnationReport Ladder LeakReport Limits ManagedProcess OutputLine OutputLines Probe ProcessHistory ProcessManager "
            "ProcessStatus RecoveryAttempt RestartPolicy State SupervisedTask",
            # Needs the extra ``voice``; an app with supervision only never loads it.
            "voice": "Stream Summary",
        },
    )

__version__ = "0.2.0"

__all__ = [
    "CLOSE_STDIN",
    "GRACEFUL",
    "PERMANENT",
    "SWIFT",
    "TEMPORARY",
    "TRANSIENT",
    "AudioUnavailable",
    "AuthenticationRefused",
    "Cause",
    "ChildSpec",
    "ClosedStream",
    "CombinedOutput",
    "Command",
    "Containment",
    "ContainmentUnavailable",
    "CriticalProcessFailed",
    "DeviceBusy",
    "Difference",
    "EndSession",
    "ErrorHistory",
    "Explanation",
    "GaveUp",
    "History",
    "IncarnationReport",
    "InvalidConfiguration",
    "Ladder",
    "LeakReport",
    "Level",
    "Limits",
    "LogEntry",
    "LogUnavailable",
    "LogUnreadable",
    "Logger",
    "ManagedProcess",
    "MissingApiKey",
    "NotStarted",
    "OutputLine",
    "OutputLines",
    "Probe",
    "ProcessDead",
    "ProcessHistory",
    "ProcessManager",
    "ProcessStatus",
    "ProcessStillRunning",
    "RealtalkError",
    "RecoveryAttempt",
    "RequestRefused",
    "ResponseNotCompleted",
    "RestartPolicy",
    "ServiceRefused",
    "ServiceUnreachable",
    "SpawnFailed",
    "State",
    "Stream",
    "StreamError",
    "Summary",
    "SupervisedTask",
    "TooManyRestarts",
    "UnknownProcess",
    "WaitExpired",
    "WriteStalled",
    "WrongEventLoop",
    "__version__",
]
