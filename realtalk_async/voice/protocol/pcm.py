"""The audio format of the whole package: signed 16-bit mono samples at 24 kHz."""

from __future__ import annotations

import math

SAMPLE_RATE = 24_000
"""Samples a second."""
BYTES_PER_MS = 48
"""24 samples of 2 bytes."""
BYTES_PER_SECOND = 1000 * BYTES_PER_MS


def whole_samples(count: float) -> int:
    """Return *count* bytes rounded down to whole samples; never below zero."""
    return max(0, math.floor(count) & ~1)
