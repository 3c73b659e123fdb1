"""
Public names that are loaded when first asked for (PEP 562): a package is cheap to import.

Type checkers read the imports under ``if TYPE_CHECKING:``; at run time a package says
which of its modules gives which name. `tests/test_exports.py` holds the two in step.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def lazily(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """
    Return the ``__getattr__`` and the ``__dir__`` of a package.

    Args:
        package: Its ``__name__``.
        homes: Names, separated by spaces, by the module that defines them: a path inside
            the package, or a full path that begins with ``realtalk_async.``.
    """
    home = {name: module for module, names in homes.items() for name in names.split()}

    def get(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = home[name]
        path = module if module.startswith("realtalk_async.") else f"{package}.{module}"
        __import__(path)
        value: object = getattr(sys.modules[path], name)
        setattr(sys.modules[package], name, value)  # not asked for again
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home})

    return get, names
