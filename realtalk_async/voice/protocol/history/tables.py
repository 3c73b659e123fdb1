"""Tables by which a session recognises late events: they forget the oldest entries."""

from __future__ import annotations

from typing import TypeVar

Value = TypeVar("Value")

KEPT_IN_TABLES = 256
"""Entries of a table; the newest are kept."""


def forget_oldest(table: dict[str, Value], most: int = KEPT_IN_TABLES) -> None:
    """Remove the oldest entries of a table that has more than *most*."""
    while len(table) > most:
        del table[next(iter(table))]
