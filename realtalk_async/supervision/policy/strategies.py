"""The order of starts: dependencies, and turns in a restart of several processes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from realtalk_async.exceptions import InvalidConfiguration

if TYPE_CHECKING:
    from collections.abc import Iterable


class StartOrder:
    """The processes that must run before others: always (dependencies), or once (turns)."""

    def __init__(self) -> None:
        self._needs: dict[str, tuple[str, ...]] = {}
        self._turns: dict[str, str] = {}

    # ---- dependencies

    def set_dependencies(self, name: str, needs: tuple[str, ...]) -> None:
        """Set the processes that *name* depends on, in place of earlier ones."""
        self._needs[name] = needs
        if not needs:
            del self._needs[name]

    def is_needed(self, name: str) -> bool:
        """Return whether another process depends on *name*."""
        return any(name in needs for needs in self._needs.values())

    def needs(self, name: str) -> tuple[str, ...]:
        """Return the direct dependencies of *name*."""
        return self._needs.get(name, ())

    def all_needs(self, name: str) -> set[str]:
        """Return the direct and indirect dependencies of *name*."""
        found: set[str] = set()
        new = {*self.needs(name)}
        while new:
            found |= new
            new = {need for one in new for need in self.needs(one)} - found
        return found

    def reject_cycles(self, name: str, needs: tuple[str, ...]) -> None:
        """
        Raise an error if *name* would depend on itself through *needs*.

        Raises:
            InvalidConfiguration: If it would; the message names both processes.
        """
        for need in needs:
            if name == need or name in self.all_needs(need):
                raise InvalidConfiguration(
                    f"{name!r} cannot depend on {need!r}, which depends on {name!r}"
                )

    def arrange(self, names: Iterable[str]) -> list[str]:
        """
        Return *names* with each after its dependencies, otherwise in the given order.

        The given order is the order of start. It differs from the result only if a name
        was started again while other processes depended on it.
        """
        wanted = dict.fromkeys(names)
        arranged: dict[str, None] = {}

        def place(name: str) -> None:
            for need in self.needs(name):
                if need not in arranged:
                    place(need)
            arranged[name] = None

        for name in wanted:
            place(name)
        return [name for name in arranged if name in wanted]

    # ---- turns

    def set_restart_order(self, names: Iterable[str]) -> None:
        """Make each of *names* wait, at its next start, for the name before it."""
        self._turns.update((after, before) for before, after in pairwise(names))

    def cancel_turn(self, name: str) -> None:
        """Make *name* wait for no other process at its next start."""
        self._turns.pop(name, None)

    def take_turn(self, name: str, present: Iterable[str]) -> str | None:
        """
        Return the process that *name* must wait for, once; None if there is none.

        A process that comes after *name* by now does not count: waits never form a cycle.

        Args:
            name: The process that is about to start.
            present: All names, in the order of start.
        """
        before = self._turns.pop(name, None)
        if before is None:
            return None
        order = self.arrange(present)
        return before if order.index(before) < order.index(name) else None
