"""Faults that the offline peer injects on demand."""

from __future__ import annotations

from realtalk_async.offline.faults.kinds import (
    CLOSE_CODES,
    FAULT_KINDS,
    NOW,
    Fault,
    describe_faults,
)

__all__ = ["CLOSE_CODES", "FAULT_KINDS", "NOW", "Fault", "describe_faults"]
