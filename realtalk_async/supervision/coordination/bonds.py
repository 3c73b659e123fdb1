"""
Bonds: children that restart and stop with another one, as by systemd's ``BindsTo=``.

A child that is bound to another one depends on it too, so it starts when that one is ready
and cycles are refused. The end of a child first ends those that are bound to it directly;
each of these first ends those that are bound to itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from realtalk_async.events.base import POLICY, acting_as
from realtalk_async.exceptions import RealtalkError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from realtalk_async.supervision.reports.status import ProcessStatus


class Child(Protocol):
    """A process or task, as its bonds see it."""

    @property
    def is_settled(self) -> bool:
        """Whether it is dead and will not be restarted automatically."""
        ...

    @property
    def stop_requested(self) -> bool:
        """Whether a stop was requested since its last start."""
        ...

    def request_stop(self) -> None:
        """Request its stop, without waiting."""
        ...

    async def start(self) -> ProcessStatus:
        """Start it again."""
        ...

    async def restart_with_group(self, why: str) -> None:
        """End the current incarnation so that the next one follows."""
        ...

    async def wait_until_settled(self) -> ProcessStatus:
        """Wait until it is dead and will not be restarted automatically."""
        ...


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a child was stopped that is bound to another one."""

    reason: str
    failed: bool
    """Whether that one was given up, and did not end or was stopped."""


class Bonds:
    """
    The bonds between the children of one manager.

    Args:
        children: All children by name, in the order of their start.
        run: Runs a coroutine in the background.
    """

    def __init__(
        self,
        children: Mapping[str, Child],
        run: Callable[[Coroutine[None, None, None]], object],
    ) -> None:
        self.losses: dict[str, Loss] = {}
        """The children that were stopped because of one that they are bound to."""
        self._children = children
        self._run = run
        self._bound_to: dict[str, tuple[str, ...]] = {}

    def bind(self, name: str, others: tuple[str, ...]) -> None:
        """Bind *name* to *others*, in place of earlier bonds."""
        self.losses.pop(name, None)
        self._bound_to.pop(name, None)
        if others:
            self._bound_to[name] = others

    def needs(self, name: str) -> tuple[str, ...]:
        """Return the names that *name* is bound to."""
        return self._bound_to.get(name, ())

    def dependants(self, name: str) -> list[str]:
        """Return the names that are bound to *name* directly, the last one first."""
        found = [one for one, others in self._bound_to.items() if name in others]
        return found[::-1]

    def all_dependants(self, name: str) -> list[str]:
        """Return the names that are bound to *name*, directly or not."""
        found = dict.fromkeys(self.dependants(name))
        new = list(found)
        while new:
            one = new.pop()
            more = [name for name in self.dependants(one) if name not in found]
            found |= dict.fromkeys(more)
            new += more
        return list(found)

    def restart(self, name: str) -> Awaitable[object] | None:
        """Return an awaitable that ends what restarts with *name*; None if nothing does."""
        running = [n for n in self.dependants(name) if not self._children[n].is_settled]
        return self._restart_all(name, running) if running else None

    async def _restart_all(self, name: str, dependants: list[str]) -> None:
        why = f"restarted with {name!r}, which it is bound to"
        with acting_as(POLICY):
            await asyncio.gather(
                *(self._children[one].restart_with_group(why) for one in dependants),
                return_exceptions=True,
            )

    def stop(self, name: str) -> Awaitable[object] | None:
        """Return an awaitable that stops what is bound to *name*; None if nothing is."""
        stopped = self.lose(name, "is stopped", failed=False)
        return self._wait_for(stopped) if stopped else None

    async def _wait_for(self, names: list[str]) -> None:
        for name in names:
            await self._children[name].wait_until_settled()

    def lose(self, name: str, what: str, *, failed: bool) -> list[str]:
        """
        Request the stop of all children that are bound to *name*.

        Args:
            name: The child that ends for good.
            what: What happened to it, in words.
            failed: Whether it was given up.

        Returns:
            The names of those that stop.
        """
        stopping: list[str] = []
        for one in self.dependants(name):
            child = self._children[one]
            if child.is_settled:
                continue
            stopping.append(one)
            if not child.stop_requested:
                reason = f"stopped because {name!r}, which it is bound to, {what}"
                self.losses[one] = Loss(reason, failed)
                with acting_as(POLICY):
                    child.request_stop()
        return stopping

    def begin(self, name: str) -> None:
        """Start again what was stopped because *name* had ended: it starts now."""
        self.losses.pop(name, None)
        for one in reversed(self.dependants(name)):
            needs = [self._children[need] for need in self.needs(one)]
            if one in self.losses and not any(need.is_settled for need in needs):
                self._run(self._start(self._children[one]))

    async def _start(self, child: Child) -> None:
        if child.stop_requested:  # its stop may still run
            await child.wait_until_settled()
        with acting_as(POLICY), contextlib.suppress(RealtalkError):
            await child.start()
