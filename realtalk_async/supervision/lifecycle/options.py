"""The options under which a process is supervised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from realtalk_async import arguments
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision.command import Command
from realtalk_async.supervision.output.tap import ChildOutput
from realtalk_async.supervision.reports.containment import Mechanism

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from realtalk_async.supervision.lifecycle.app_callbacks import RestartFunction
    from realtalk_async.supervision.policy.ladder import Ladder
    from realtalk_async.supervision.policy.probes import Probe
    from realtalk_async.supervision.policy.restart import RestartPolicy

NOT_IN_CGROUP = {
    "user": "another user may not enter a cgroup of the app; let the program change the "
    "user itself (setpriv, runuser)",
    "group": "another group may not enter a cgroup of the app; let the program change the "
    "group itself (setpriv)",
    "extra_groups": "they may lack the right to enter a cgroup of the app; let the program "
    "change them itself (setpriv)",
    "executable": "the shell that enters the cgroup becomes the program that the first "
    "word names",
}
"""The options that a command in a cgroup cannot have, with the reasons."""


@dataclass(frozen=True, slots=True)
class SupervisionOptions:
    """How a process is restarted, stopped, probed and drained."""

    restart: RestartPolicy
    recover: RestartFunction | None
    ladder: Ladder
    probes: tuple[Probe, ...]
    drain: float
    wait_for_dependencies: Callable[[], Awaitable[None]] | None = None
    """
    Waits until its dependencies run and its devices are free; raises `ProcessDead` or
    `DeviceBusy` if that fails.
    """
    devices: tuple[str, ...] = ()
    """Devices that the process uses exclusively."""
    device_patience: float = 0.0
    """Seconds of retries while another program holds one of its devices."""
    oneshot: bool = False
    """Whether it is ready when it has finished, and stays so."""
    containment: Mechanism = "group"
    """How its descendants are found and ended."""

    @property
    def must_be_ready(self) -> bool:
        """Whether the process has a readiness probe, or is ready when it has finished."""
        return self.oneshot or any(
            probe.purpose == "readiness" for probe in self.probes
        )


def check_stdin(process: object, *, has_manager: bool) -> None:
    """
    Check where the stdin of a process comes from.

    Raises:
        InvalidConfiguration: If it is the output of another one, without a manager.
    """
    source = process.stdin if isinstance(process, Command) else None
    if isinstance(source, ChildOutput) and not has_manager:
        raise InvalidConfiguration(
            f"stdin={str(source)!r} needs a ProcessManager, which knows the other process: "
            f"use manager.start(…)"
        )


def check_containment(mechanism: object, process: object, *, has_manager: bool) -> None:
    """
    Check how the descendants of a process are to be found and ended.

    Raises:
        InvalidConfiguration: If the process cannot be contained in that way.
    """
    arguments.choice("containment", mechanism, get_args(Mechanism))
    if mechanism == "group":
        return
    if not has_manager:
        raise InvalidConfiguration(
            "containment='cgroup' needs a ProcessManager, which removes the cgroup: use "
            "manager.start(…)"
        )
    if not isinstance(process, Command):
        raise InvalidConfiguration(
            "containment='cgroup' needs a Command: a running process cannot be moved with "
            "all that it has started"
        )
    for option, why in NOT_IN_CGROUP.items():
        if option in process.options:
            raise InvalidConfiguration(
                f"containment='cgroup' does not allow the option {option!r} of the "
                f"command: {why}"
            )
