"""Supervision of child processes: start, capture, restart, stop, report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.lazy_imports import lazily

if TYPE_CHECKING:
    from realtalk_async.events import Cause
    from realtalk_async.supervision.command import Command
    from realtalk_async.supervision.kernel.leaks import LeakReport
    from realtalk_async.supervision.kernel.spawning.limits import Limits
    from realtalk_async.supervision.manager import ProcessManager
    from realtalk_async.supervision.output.line import OutputLine
    from realtalk_async.supervision.output.lines import OutputLines
    from realtalk_async.supervision.policy.ladder import (
        CLOSE_STDIN,
        GRACEFUL,
        SWIFT,
        Ladder,
    )
    from realtalk_async.supervision.policy.restart import (
        PERMANENT,
        TEMPORARY,
        TRANSIENT,
        RestartPolicy,
    )
    from realtalk_async.supervision.probing.builtin_probes import (
        Probe,
        exec_probe,
        http_probe,
        tcp_probe,
    )
    from realtalk_async.supervision.process import ManagedProcess
    from realtalk_async.supervision.reports.containment import Containment
    from realtalk_async.supervision.reports.explanation import Explanation
    from realtalk_async.supervision.reports.kept_history import History
    from realtalk_async.supervision.reports.report import (
        CombinedOutput,
        ErrorHistory,
        IncarnationReport,
        ProcessHistory,
        RecoveryAttempt,
    )
    from realtalk_async.supervision.reports.status import ProcessStatus, State
    from realtalk_async.supervision.specs.child_spec import ChildSpec
    from realtalk_async.supervision.specs.difference import Difference
    from realtalk_async.supervision.task import SupervisedTask
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "probing.builtin_probes": "Probe exec_probe http_probe tcp_probe",
            "command": "Command",
            "reports.explanation": "Explanation",
            "policy.ladder": "CLOSE_STDIN GRACEFUL SWIFT Ladder",
            "manager": "ProcessManager",
            "output.line": "OutputLine",
            "output.lines": "OutputLines",
            "process": "ManagedProcess",
            "kernel.leaks": "LeakReport",
            "kernel.spawning.limits": "Limits",
            "reports.containment": "Containment",
            "reports.kept_history": "History",
            "reports.report": "CombinedOutput ErrorHistory IncarnationReport ProcessHistory RecoveryAttempt",
            "policy.restart": "PERMANENT TEMPORARY TRANSIENT RestartPolicy",
            "realtalk_async.events": "Cause",
            "reports.status": "ProcessStatus State",
            "specs.child_spec": "ChildSpec",
            "specs.difference": "Difference",
            "task": "SupervisedTask",
        },
    )

__all__ = [
    "CLOSE_STDIN",
    "GRACEFUL",
    "PERMANENT",
    "SWIFT",
    "TEMPORARY",
    "TRANSIENT",
    "Cause",
    "ChildSpec",
    "CombinedOutput",
    "Command",
    "Containment",
    "Difference",
    "ErrorHistory",
    "Explanation",
    "History",
    "IncarnationReport",
    "Ladder",
    "LeakReport",
    "Limits",
    "ManagedProcess",
    "OutputLine",
    "OutputLines",
    "Probe",
    "ProcessHistory",
    "ProcessManager",
    "ProcessStatus",
    "RecoveryAttempt",
    "RestartPolicy",
    "State",
    "SupervisedTask",
    "exec_probe",
    "http_probe",
    "tcp_probe",
]
