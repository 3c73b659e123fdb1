"""Who depends on whom, and who goes first where several are restarted together. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from realtalk_async.exceptions import InvalidConfiguration

if TYPE_CHECKING:
    from collections.abc import Iterable


class StartOrder:
    """What must run before what: for good (dependencies), or for once (turns)."""

    def __init__(self) -> None:
        self._needs: dict[str, tuple[str, ...]] = {}
        self._turns: dict[str, str] = {}

    # ---- for good

    def depend(self, name: str, needs: tuple[str, ...]) -> None:
        """Note what *name* depends on; what it depended on before is forgotten."""
        self._needs[name] = needs

    def needs(self, name: str) -> tuple[str, ...]:
        """Return what *name* depends on directly."""
        return self._needs.get(name, ())

    def all_needs(self, name: str) -> set[str]:
        """Return all that *name* depends on, itself or by way of others."""
        found: set[str] = set()
        new = {*self.needs(name)}
        while new:
            found |= new
            new = {need for one in new for need in self.needs(one)} - found
        return found

    def reject_cycles(self, name: str, needs: tuple[str, ...]) -> None:
        """
        Raise an error if *name*, depending on *needs*, would depend on itself.

        Raises:
            InvalidConfiguration: If so; it names the two.
        """
        for need in needs:
            if name == need or name in self.all_needs(need):
                raise InvalidConfiguration(
                    f"{name!r} cannot depend on {need!r}, which depends on {name!r}"
                )

    def arrange(self, names: Iterable[str]) -> list[str]:
        """
        Return *names* with each after those that it depends on, otherwise as they are.

        That is the order of their start, unless one was started anew, under its old
        name, while others depended on it.
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

    # ---- for once

    def set_restart_order(self, names: Iterable[str]) -> None:
        """Have each of *names* wait, at its next start, for the one before it."""
        self._turns.update((after, before) for before, after in pairwise(names))

    def leave(self, name: str) -> None:
        """Have *name* wait for nobody's turn."""
        self._turns.pop(name, None)

    def take_turn(self, name: str, present: Iterable[str]) -> str | None:
        """
        Return whom *name* has to wait for now, once; None if for nobody.

        One that comes later by now is not waited for, so nobody waits in a circle.

        Args:
            name: Who is about to start.
            present: All names, in the order of their start.
        """
        before = self._turns.pop(name, None)
        if before is None:
            return None
        order = self.arrange(present)
        return before if order.index(before) < order.index(name) else None
