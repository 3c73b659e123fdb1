"""
Which items of the service are those that we created ourselves. Pure.
"""

from __future__ import annotations


class Echoes:
    """
    The items that we created and that the service has not yet told of.

    Most servers keep the id that we gave. One that gives its own is known by the words
    of the item, and its id stands for ours from then on.
    """

    def __init__(self) -> None:
        self._expected: dict[str, str] = {}
        self._ours: dict[str, str] = {}

    def expect(self, item_id: str, text: str) -> None:
        """Note that we created *item_id* with *text*."""
        self._expected[item_id] = text

    def expect_no_more(self) -> None:
        """Note that the connection is gone, and all echoes with it."""
        self._expected.clear()

    def known_as(self, item_id: str) -> str:
        """Return the id under which we know an item: ours, or else the service's."""
        return self._ours.get(item_id, item_id)

    def recognise(self, item_id: str, text: str) -> str:
        """Return the id under which we know an item that says *text*."""
        if item_id in self._ours:
            return self._ours[item_id]
        if item_id in self._expected:
            del self._expected[item_id]
            return item_id
        ours = next((key for key, said in self._expected.items() if said == text), None)
        if ours is None:
            return item_id
        del self._expected[ours]
        self._ours[item_id] = ours
        return ours
