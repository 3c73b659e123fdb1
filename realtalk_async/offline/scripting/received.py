"""
What the clients sent: a list that can be searched.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from realtalk_async import arguments

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtalk_async.offline.effects import JsonObject


@dataclass(frozen=True, slots=True)
class Received:
    """An event from a client."""

    connection: int
    """The number of its connection, from 1."""
    at: float
    """The time of its arrival, by `time.monotonic`."""
    event: JsonObject = field(repr=False)

    @property
    def type(self) -> str:
        """The event's type."""
        return str(self.event.get("type"))


class ReceivedEvents(list[Received]):
    """The events of all clients, in the order of their arrival."""

    def find(
        self,
        event_type: str | None = None,
        *,
        connection: int | None = None,
        where: Callable[[JsonObject], object] | None = None,
    ) -> list[Received]:
        """
        Return the events that match, oldest first.

        Args:
            event_type: The whole type, such as ``response.create``.
            connection: The number of a connection, from 1.
            where: Returns whether an event, a dict, is wanted.

        Raises:
            InvalidConfiguration: If an argument is invalid.
        """
        arguments.one_line("event_type", event_type, optional=True)
        arguments.integer("connection", connection, minimum=1, optional=True)
        arguments.function("where", where, optional=True)
        return [
            each
            for each in self
            if event_type in (None, each.type)
            and connection in (None, each.connection)
            and (where is None or where(each.event))
        ]

    def summary(self) -> str:
        """Return the types and their numbers, for people."""
        counts = Counter(each.type for each in self)
        shown = ", ".join(f"{count} {name}" for name, count in counts.items())
        return shown or "nothing"
