"""What is different from the last time it was told: a watch ships no more. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from realtalk_async.control.protocol import JsonObject


class Changed:
    """Remembers what one visitor was told."""

    def __init__(self) -> None:
        self._told: dict[str, JsonObject] = {}

    def since_last(self, rows: dict[str, JsonObject]) -> JsonObject:
        """
        Return what to tell.

        Args:
            rows: All there is now, by name.

        Returns:
            ``changed``: by name, the fields that differ, all fields of a new one;
            ``gone``: the names that are no more.
        """
        before, self._told = self._told, rows
        changed = {
            name: _differing(before.get(name), row) for name, row in rows.items()
        }
        return {
            "changed": {name: fields for name, fields in changed.items() if fields},
            "gone": [name for name in before if name not in rows],
        }


def _differing(before: JsonObject | None, now: JsonObject) -> JsonObject:
    if before is None:
        return now
    return {
        key: value
        for key, value in now.items()
        if key not in before or before[key] != value
    }
