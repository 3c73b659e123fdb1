"""Apply a list of child specs: stop what is gone, restart what changed, start what is new."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from realtalk_async import arguments
from realtalk_async.events import MANAGER
from realtalk_async.exceptions import InvalidConfiguration, NotStarted, RealtalkError
from realtalk_async.supervision.coordination.shutdown import Shutdown
from realtalk_async.supervision.lifecycle.options import check_containment
from realtalk_async.supervision.policy.strategies import StartOrder
from realtalk_async.supervision.process import ManagedProcess
from realtalk_async.supervision.reports.status import State
from realtalk_async.supervision.specs.child_spec import ChildSpec
from realtalk_async.supervision.specs.difference import Difference, compare

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from realtalk_async.logs import Logger
    from realtalk_async.supervision.supervisor import Supervisor

    Specs = Mapping[str, ChildSpec]


class AppliedSpecs:
    """
    The list of specs that was applied last, and its processes.

    Processes that the app has started by other means are not touched.

    Args:
        supervisor: The supervisor of the processes.
        logger: Where each difference is logged.
        start: Starts the process of a spec, and waits until it is ready.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        logger: Logger,
        start: Callable[[ChildSpec], Awaitable[object]],
    ) -> None:
        self._supervisor = supervisor
        self._logger = logger
        self._start = start
        self._specs: Specs = {}
        self._lock = asyncio.Lock()
        """Held until the processes of the last list have ended and the new ones are known."""

    def compare(self, specs: Iterable[ChildSpec]) -> Difference:
        """
        Return what `apply` would do now.

        Raises:
            InvalidConfiguration: If the list is invalid.
            ProcessStillRunning: If the app has started a process of such a name itself.
            ContainmentUnavailable: If a cgroup is wanted and cannot be made.
        """
        wanted = self._checked(specs)
        return compare(self._specs, wanted, [*filter(self._waits, wanted)])

    async def apply(self, specs: Iterable[ChildSpec]) -> Difference:
        """
        Apply a list, and wait until all that starts is ready or has failed.

        Raises:
            As `compare`; then nothing has changed.
            NotStarted: If the manager closes meanwhile.

        Cancellation: The list is applied all the same.
        """
        kept = tuple(self._checked(specs).values())
        result: asyncio.Future[Difference] = asyncio.get_running_loop().create_future()
        self._supervisor.run_in_background(self._resolve(result, kept), "apply specs")
        return await result

    async def _resolve(
        self, result: asyncio.Future[Difference], specs: tuple[ChildSpec, ...]
    ) -> None:
        """Apply a list in a task of the manager, for a caller that may be cancelled."""
        try:
            applied = await self._apply(specs)
        except Exception as exc:
            if result.done():
                raise
            result.set_exception(exc)
        except asyncio.CancelledError:
            if not result.done():
                result.set_exception(NotStarted("the manager has been closed"))
            raise
        else:
            if not result.done():
                result.set_result(applied)

    async def _apply(self, specs: tuple[ChildSpec, ...]) -> Difference:
        failed: dict[str, Exception] = {}
        async with self._lock:
            difference = self.compare(specs)
            before, self._specs = self._specs, self._checked(specs)
            if before:
                self._log(difference)
            self._link(difference.relinked, without=difference.stopped)
            await self._end([n for n in before if n in _moved(difference)])
            self._forget(difference.stopped)
            beginning = [
                self._specs[n] for n in self._specs if n in difference.beginning
            ]
            starts = asyncio.gather(*(self._begin(one, failed) for one in beginning))
            try:
                await asyncio.sleep(0)  # then the manager knows all of them
                self._link(difference.relinked)
            except BaseException:
                starts.cancel()
                raise
        await starts
        return replace(difference, failed=failed)

    async def _begin(self, spec: ChildSpec, failed: dict[str, Exception]) -> None:
        try:
            await self._start(spec)
        except RealtalkError as exc:  # events report it, too
            failed[spec.name] = exc

    async def _end(self, names: list[str]) -> None:
        """Stop processes, each after those that depend on it."""
        supervisor = self._supervisor
        present = [name for name in names if name in supervisor.registry]
        for name in present:  # none of them starts again with one that it is bound to
            supervisor.bonds.losses.pop(name, None)
        children = {
            n: supervisor.registry[n] for n in supervisor.order.arrange(present)
        }
        await Shutdown(children, supervisor.order.needs, lambda _: True).run()

    def _forget(self, names: Iterable[str]) -> None:
        """Leave only the history of processes that are gone."""
        for name in names:
            self._supervisor.order.set_dependencies(name, ())
            self._supervisor.bonds.bind(name, ())
            self._supervisor.critical.discard(name)
            self._supervisor.degraded.pop(name, None)

    def _link(self, names: Iterable[str], without: Iterable[str] = ()) -> None:
        """Let processes that run depend on others than before, as far as these exist."""
        known = {*self._supervisor.registry} - {*without}
        for name in names:
            spec = self._specs[name]
            needs = tuple(need for need in spec.needs if need in known)
            bound_to = tuple(need for need in spec.binds_to if need in known)
            self._supervisor.order.set_dependencies(name, needs)
            self._supervisor.bonds.bind(name, bound_to)

    def _waits(self, name: str) -> bool:
        """Return whether a process waits for a dependency, or one of them has failed."""
        child = self._supervisor.registry.get(name)
        if not isinstance(child, ManagedProcess) or child.status == "running":
            return False
        is_blocked = child.pid is None and not child.stop_requested
        return is_blocked or child.state in {State.STARTING, State.BACKOFF}

    def _log(self, difference: Difference) -> None:
        if difference.is_empty:
            self._logger.info(MANAGER, "Applied a list of processes without a change")
            return
        shown = {
            "stopped": list(difference.stopped),
            "restarted": {n: list(what) for n, what in difference.restarted.items()},
            "started": list(difference.started),
            "same": len(difference.same),
        }
        self._logger.info(MANAGER, "Applies a changed list of processes", shown)

    # ---- checks

    def _checked(self, specs: Iterable[ChildSpec]) -> Specs:
        given = arguments.several("specs", specs, _check_spec, "ChildSpec objects")
        names = [spec.name for spec in given]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise InvalidConfiguration(f"specs has the name {name!r} twice")
        for spec in given:
            self._check_spec(spec, names)
        return {spec.name: spec for spec in _in_start_order(given)}

    def _check_spec(self, spec: ChildSpec, names: list[str]) -> None:
        """Check a spec against the others and the manager."""
        cgroups, registry = self._supervisor.cgroups, self._supervisor.registry
        if spec.name not in self._specs:
            registry.check_free(spec.name)
        for need in spec.needs:
            if need not in names and (need not in registry or need in self._specs):
                known = ", ".join(map(repr, names))
                raise InvalidConfiguration(
                    f"{spec.name!r} depends on {need!r}, which specs does not have; "
                    f"there are {known}"
                )
        mechanism = spec.containment or cgroups.mechanism
        check_containment(mechanism, spec.command, has_manager=True)
        cgroups.require(mechanism)


def _check_spec(argument: str, value: object) -> None:
    arguments.instance(argument, value, ChildSpec, "a ChildSpec")


def _moved(difference: Difference) -> set[str]:
    return {*difference.ending, *difference.beginning}


def _in_start_order(specs: Iterable[ChildSpec]) -> list[ChildSpec]:
    """
    Return specs, each after those that it depends on, otherwise in the given order.

    Raises:
        InvalidConfiguration: If they depend on each other.
    """
    order, by_name = StartOrder(), {spec.name: spec for spec in specs}
    for spec in by_name.values():
        order.reject_cycles(spec.name, spec.needs)
        order.set_dependencies(spec.name, spec.needs)
    return [by_name[name] for name in order.arrange(by_name)]
