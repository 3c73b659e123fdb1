"""
What differs between Linux, macOS and other POSIX systems, behind one interface.

`SYSTEM` is chosen once, when this package is imported. No other module asks which system it
runs on, except the table of audio programs.
"""

from __future__ import annotations

import sys
from typing import Final

from realtalk_async.operating_system.interface import (
    Peer,
    ProcessInfo,
    ProcessTable,
    Readiness,
    System,
    Usage,
)


def _choose() -> System:
    if sys.platform == "linux":
        from realtalk_async.operating_system.linux import Linux, lacks

        if not lacks():
            return Linux()
    from realtalk_async.operating_system.posix import Posix

    return Posix()


SYSTEM: Final = _choose()

__all__ = [
    "SYSTEM", "Peer", "ProcessInfo", "ProcessTable", "Readiness", "System", "Usage",
]  # fmt: skip
