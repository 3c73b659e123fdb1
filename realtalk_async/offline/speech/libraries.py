"""
Import of the libraries of an extra at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


def load_library(name: str, *, extras: str = "offline") -> ModuleType:
    """
    Import a library of the extras.

    Raises:
        ImportError: If it is not installed; the message names the extras.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        message = f"the offline peer needs {name}: "
        message += f"pip install 'realtalk-async[{extras}]'"
        raise ImportError(f"{message} ({error})", name=name) from error
