"""An incarnation in a cgroup of its own: no descendant can leave it by a fork or setsid."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Unpack

from realtalk_async.supervision.kernel import process_groups
from realtalk_async.supervision.lifecycle.incarnation import Callbacks, Spawned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from realtalk_async.operating_system import ProcessInfo
    from realtalk_async.supervision.command import Command
    from realtalk_async.supervision.kernel.cgroups.cgroup import Cgroup
    from realtalk_async.supervision.kernel.child_process import ChildProcess
    from realtalk_async.supervision.lifecycle.supervisor_port import SupervisorPort
    from realtalk_async.supervision.reports.containment import Mechanism


class Contained(Spawned):
    """
    A spawned incarnation whose descendants are the members of a cgroup.

    Its process group counts as well: the program leads it a moment before it enters the
    cgroup.

    Args:
        command: The command to run.
        cgroup: An empty cgroup; it is removed when it is empty again.
        environment: Variables to add to its environment.
        callbacks: The callbacks of `Spawned`.

    Raises:
        OSError: If the operating system refuses to start it; the cgroup is removed then.
    """

    def __init__(
        self,
        command: Command,
        cgroup: Cgroup,
        environment: Mapping[str, str],
        **callbacks: Unpack[Callbacks],
    ) -> None:
        self._cgroup = cgroup
        self._is_removed = False
        try:
            super().__init__(
                command, environment=environment, cgroup=cgroup, **callbacks
            )
        except BaseException:
            cgroup.send_signal(signal.SIGKILL)
            cgroup.remove()
            raise

    def _note_exit(self, child: ChildProcess) -> None:
        # Before its removal, which takes the counts away.
        if self._cgroup.oom_kills():
            limit = self._limits.memory if self._limits else None
            size = f": memory limit of {limit / 2**20:.0f} MiB" if limit else ""
            self.limit_reached = f"out of memory{size}"
        super()._note_exit(child)

    def signal(self, number: int) -> None:
        """Send a signal to all members; SIGKILL ends them in one step."""
        super().signal(number)
        if self._is_removed:
            return
        self._cgroup.send_signal(number)
        if number not in {signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT}:
            self._cgroup.send_signal(signal.SIGCONT)

    def is_gone(self) -> bool:
        """Return whether the program, its group and all members have ended."""
        return super().is_gone() and self._is_empty()

    def _is_empty(self) -> bool:
        """Return whether no member lives; remove the cgroup then."""
        # Asked once: the last member can end between two answers, and nobody would
        # remove what the first one still held.
        is_empty = self._is_removed or self._cgroup.is_empty()
        if is_empty and not self._is_removed and not self.alive:
            self._is_removed = self._cgroup.remove()
        return is_empty

    async def members(self) -> list[ProcessInfo]:
        """Return the members of the cgroup and of the group except zombies."""
        found = {one.pid: one for one in await super().members()}
        if not self._is_empty():
            for pid in self._cgroup.pids():
                one = await process_groups.read_process(pid)
                if one is not None and one.alive:
                    found[pid] = one
        if not found:
            self._is_empty()  # the last one ended meanwhile: nobody looks again
        return list(found.values())

    def kill_now(self) -> None:
        """Kill all members and close its pipes, without waiting for the loop."""
        super().kill_now()
        self._is_empty()


def spawn_incarnation(
    name: str,
    containment: Mechanism,
    supervisor: SupervisorPort,
    command: Command,
    **callbacks: Unpack[Callbacks],
) -> Spawned:
    """
    Start a command as the next incarnation of *name*.

    Raises:
        OSError: If the operating system refuses to start it, or to make its cgroup.
    """
    environment = supervisor.environment
    if containment == "group":
        return Spawned(command, environment=environment, **callbacks)
    cgroup = supervisor.make_cgroup(name, command.limits)
    return Contained(command, cgroup, environment, **callbacks)
