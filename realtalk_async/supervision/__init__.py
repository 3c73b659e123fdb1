"""Children: started, watched, captured, restarted and ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.lazy import lazily

if TYPE_CHECKING:
    from .checks import exec_probe, http_probe, tcp_probe
    from .command import Command
    from .explanation import Explanation
    from .ladder import CLOSE_STDIN, GRACEFUL, SWIFT, Ladder
    from .manager import ProcessManager
    from .output import OutputLine, OutputLines
    from .probe import Probe
    from .process import ManagedProcess
    from .remains import LeakReport
    from .report import (
        CombinedOutput,
        ErrorHistory,
        IncarnationReport,
        ProcessHistory,
        RecoveryAttempt,
    )
    from .restart import PERMANENT, TEMPORARY, TRANSIENT, RestartPolicy
    from .states import Cause, ProcessStatus, State
    from .task import SupervisedTask
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "checks": "exec_probe http_probe tcp_probe",
            "command": "Command",
            "explanation": "Explanation",
            "ladder": "CLOSE_STDIN GRACEFUL SWIFT Ladder",
            "manager": "ProcessManager",
            "output": "OutputLine OutputLines",
            "probe": "Probe",
            "process": "ManagedProcess",
            "remains": "LeakReport",
            "report": "CombinedOutput ErrorHistory IncarnationReport ProcessHistory RecoveryAttempt",
            "restart": "PERMANENT TEMPORARY TRANSIENT RestartPolicy",
            "states": "Cause ProcessStatus State",
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
    "CombinedOutput",
    "Command",
    "ErrorHistory",
    "Explanation",
    "IncarnationReport",
    "Ladder",
    "LeakReport",
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
