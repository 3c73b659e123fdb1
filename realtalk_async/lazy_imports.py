"""
Lazy imports of public names (PEP 562), so that importing a package is cheap.

Type checkers read the imports under ``if TYPE_CHECKING:``; at run time a package maps each
name to its module. `tests/test_exports.py` compares the two.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def lazily(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """
    Return the ``__getattr__`` and the ``__dir__`` of a package.

    Args:
        package: The ``__name__`` of the package.
        modules: The names that each module defines, separated by spaces. A module is a
            path inside the package, or a full path that begins with ``realtalk_async.``.
    """
    module_of = {
        name: module for module, names in modules.items() for name in names.split()
    }

    def get(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = module_of[name]
        path = module if module.startswith("realtalk_async.") else f"{package}.{module}"
        __import__(path)
        value: object = getattr(sys.modules[path], name)
        setattr(
            sys.modules[package], name, value
        )  # the next access skips this function
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *module_of})

    return get, names
