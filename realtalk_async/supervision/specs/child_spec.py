"""`ChildSpec`: one process as data, with the arguments of `ProcessManager.start`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from realtalk_async import arguments
from realtalk_async.supervision.command import Command
from realtalk_async.supervision.coordination.device_leases import checked_devices
from realtalk_async.supervision.output.tap import ChildOutput
from realtalk_async.supervision.policy.devices import DEVICE_PATIENCE
from realtalk_async.supervision.policy.ladder import GRACEFUL, Ladder
from realtalk_async.supervision.policy.probes import Probe, checked_probes
from realtalk_async.supervision.policy.restart import TRANSIENT, RestartPolicy
from realtalk_async.supervision.process import MAX_SIZE, check_oneshot
from realtalk_async.supervision.reports.containment import Mechanism

if TYPE_CHECKING:
    from collections.abc import Iterable

    from realtalk_async.supervision.lifecycle.app_callbacks import RestartFunction


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """
    One process of `ProcessManager.apply`; the fields are the arguments of `start`.

    As there, a list of words is taken as the command, and a word as the restart policy.

    Raises:
        InvalidConfiguration: If a field is invalid.
    """

    name: str
    command: Command
    restart: RestartPolicy = TRANSIENT
    critical: bool = False
    depends_on: tuple[str, ...] = ()
    binds_to: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    device_patience: float = DEVICE_PATIENCE
    oneshot: bool = False
    probes: tuple[Probe, ...] = ()
    recover: RestartFunction | None = None
    ladder: Ladder = GRACEFUL
    max_size: int = MAX_SIZE
    containment: Mechanism | None = None
    """That of the manager if None."""

    def __post_init__(self) -> None:
        arguments.one_line("name", self.name)
        arguments.flag("critical", self.critical)
        arguments.function("recover", self.recover, optional=True)
        arguments.instance("ladder", self.ladder, Ladder, "a Ladder")
        arguments.integer("max_size", self.max_size, of="bytes", minimum=1)
        read = {
            "command": Command.of(self.command),
            "restart": RestartPolicy.of(self.restart),
            "depends_on": _names("depends_on", self.depends_on),
            "binds_to": _names("binds_to", self.binds_to),
            "devices": checked_devices(self.devices, self.device_patience),
            "probes": checked_probes(self.probes),
        }
        for field, value in read.items():
            object.__setattr__(self, field, value)
        check_oneshot(self.oneshot, self.restart, self.probes)
        if self.containment is not None:
            arguments.choice("containment", self.containment, get_args(Mechanism))

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the processes that it starts after."""
        source = self.command.stdin
        read = (source.name,) if isinstance(source, ChildOutput) else ()
        return tuple(dict.fromkeys((*self.depends_on, *self.binds_to, *read)))

    def options(self) -> dict[str, Any]:
        """Return the arguments of `ProcessManager.start` after the command."""
        fields = ChildSpec.__dataclass_fields__
        return {
            key: getattr(self, key) for key in fields if key not in {"name", "command"}
        }


def _names(argument: str, names: Iterable[str]) -> tuple[str, ...]:
    return arguments.several(argument, names, arguments.one_line, "names")
