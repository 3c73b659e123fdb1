"""The cgroups of one manager: made at the first need, and removed at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.events import MANAGER
from realtalk_async.exceptions import ContainmentUnavailable
from realtalk_async.supervision.kernel.cgroups.manager_cgroup import (
    HOW_TO,
    ManagerCgroup,
)
from realtalk_async.supervision.reports.containment import (
    Containment,
    Mechanism,
    describe_containment,
)

if TYPE_CHECKING:
    from realtalk_async.logs import Logger
    from realtalk_async.supervision.kernel.cgroups.cgroup import Cgroup
    from realtalk_async.supervision.kernel.guard import Guard
    from realtalk_async.supervision.kernel.spawning.limits import Limits


class Cgroups:
    """
    The cgroups of the children of one manager.

    Args:
        guard: Ends and removes them if the app is killed.
        mechanism: The containment of a child whose start names none.
        logger: Where a cgroup that cannot be removed is logged.
    """

    def __init__(
        self, guard: Guard | None, mechanism: Mechanism, logger: Logger
    ) -> None:
        self._logger = logger
        self.mechanism: Mechanism = mechanism
        self._guard = guard
        self._manager: ManagerCgroup | None = None

    def require(self, mechanism: Mechanism) -> None:
        """
        Make the cgroup of the manager if *mechanism* needs it.

        Raises:
            ContainmentUnavailable: If it cannot be made; nothing was changed.
        """
        if mechanism == "cgroup" and self._manager is None:
            self._manager = ManagerCgroup(self._announce)

    def _announce(self, path: str) -> None:
        if self._guard is not None:
            self._guard.add_cgroup(path)

    def make(self, name: str, limits: Limits | None) -> Cgroup:
        """
        Make the cgroup of one incarnation.

        Raises:
            ContainmentUnavailable: If the kernel refuses.
        """
        self.require("cgroup")
        assert self._manager is not None
        try:
            return self._manager.make(name, limits)
        except OSError as error:
            raise ContainmentUnavailable(self._manager.path, error, HOW_TO) from error

    def describe(self) -> Containment:
        """Return the mechanism in use, and what it cannot do."""
        made = self._manager
        if made is None:
            return describe_containment(self.mechanism, None, (), "not yet made")
        return describe_containment(
            self.mechanism, made.path, made.controllers, made.missing
        )

    async def aclose(self) -> None:
        """Kill what is left in them, and remove them."""
        made = self._manager
        if made is not None and not await made.aclose():
            self._logger.warning(
                MANAGER, "A cgroup cannot be removed", {"path": made.path}
            )

    def close_now(self) -> None:
        """Kill what is left in them, and remove them, without the loop."""
        if self._manager is not None:
            self._manager.close_now()
