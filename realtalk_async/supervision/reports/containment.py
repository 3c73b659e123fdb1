"""What holds the descendants of the children together, and what it cannot do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mechanism = Literal["group", "cgroup"]
"""How the descendants of a child are found and ended: its process group, or a cgroup."""

LEAVES_GROUP = (
    "a descendant that leaves its group and session, as daemons do, is not ended with its "
    "child, but with the manager, and only if it keeps its environment"
)
EACH_PROCESS = "limits are those of each process, not of all descendants together"
LEAVES_CGROUP = "a program that may write to the cgroup file system, such as one of root, can leave it"
NOT_IN_CGROUP = "processes that the app has started itself, and programs of exec probes, are in groups"
WITHOUT_CONTROLLER = {
    "memory": "a kill because memory ran out is not recognised, and memory is a limit of "
    "each process",
    "pids": "processes is a limit of the user, and root is exempt",
}


@dataclass(frozen=True, slots=True)
class Containment:
    """The containment of a manager; ``str()`` is one line for people."""

    mechanism: Mechanism
    """That of every child whose start names no other."""
    path: str | None
    """The cgroup of the manager; None if none was needed so far."""
    controllers: tuple[str, ...]
    """The controllers that enforce limits in it: ``memory``, ``pids`` or none."""
    cannot: tuple[str, ...]
    """What the mechanism cannot do, in words."""

    def to_dict(self) -> dict[str, object]:
        """Return it ready for JSON."""
        return {
            "mechanism": self.mechanism,
            "path": self.path,
            "controllers": list(self.controllers),
            "cannot": list(self.cannot),
        }

    def __str__(self) -> str:
        how = "process groups" if self.mechanism == "group" else "cgroups"
        if self.path is not None:
            some = " and ".join(self.controllers) or "no controller"
            how += f"; {self.path} with {some}"
        return f"{how}; what it cannot do: {'; '.join(self.cannot)}"


def describe_containment(
    mechanism: Mechanism, path: str | None, controllers: tuple[str, ...], missing: str
) -> Containment:
    """
    Return the containment of a manager.

    Args:
        mechanism: Its own.
        path: The cgroup of the manager, if there is one.
        controllers: Those that enforce limits in it.
        missing: Why other controllers do not.
    """
    if mechanism == "group":
        cannot = (LEAVES_GROUP, EACH_PROCESS)
        return Containment(mechanism, path, controllers, cannot)
    lacks = tuple(
        f"without the controller {name}, {words} ({missing})"
        for name, words in WITHOUT_CONTROLLER.items()
        if name not in controllers
    )
    everywhere = (LEAVES_CGROUP, NOT_IN_CGROUP)
    return Containment(mechanism, path, controllers, everywhere + lacks)
