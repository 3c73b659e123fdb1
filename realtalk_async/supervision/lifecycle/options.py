"""The options under which a process is supervised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from realtalk_async.supervision.lifecycle.app_callbacks import RestartFunction
    from realtalk_async.supervision.policy.ladder import Ladder
    from realtalk_async.supervision.policy.probes import Probe
    from realtalk_async.supervision.policy.restart import RestartPolicy


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

    @property
    def must_be_ready(self) -> bool:
        """Whether the process has a readiness probe, or is ready when it has finished."""
        return self.oneshot or any(
            probe.purpose == "readiness" for probe in self.probes
        )
