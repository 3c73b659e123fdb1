"""
A key whose `repr` does not show it.

Tools that show the local variables of a traceback call `repr`.
"""

from __future__ import annotations

from typing import Final, cast

HIDDEN: Final = "[redacted]"


class ApiKey(str):
    """A key, or a header that holds one: a text that `repr` does not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(HIDDEN)


class _Unfit:
    """Stands for a value that is no text, and no key therefore."""

    def __init__(self, value: object) -> None:
        self._type = type(value).__name__

    def __repr__(self) -> str:
        return f"<{self._type} {HIDDEN}>"


def as_key(value: object) -> ApiKey | None:
    """
    Return a given key as one that `repr` does not show.

    What is no text becomes a value that `check_key` refuses, and that shows its type only.
    """
    if value is None or isinstance(value, ApiKey):
        return value
    return ApiKey(value) if isinstance(value, str) else cast("ApiKey", _Unfit(value))
