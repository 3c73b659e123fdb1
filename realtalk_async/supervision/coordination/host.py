"""What the host of an app lacks, or has been asked for, told once in the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.events import MANAGER
from realtalk_async.operating_system import SYSTEM

if TYPE_CHECKING:
    from realtalk_async.logs import Logger


def log_what_is_missing(logger: Logger) -> None:
    """Log a WARNING for what this host cannot give to a manager."""
    if not SYSTEM.processes.is_readable:
        logger.warning(
            MANAGER,
            "there is neither /proc nor a ps that works: a process that leaves its group is "
            "not found; mount /proc (mount -t proc proc /proc)",
        )
    if limit := SYSTEM.raise_descriptor_limit():
        logger.info(MANAGER, f"this process may now open {limit} descriptors")
