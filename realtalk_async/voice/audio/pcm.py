"""The audio format of the whole package: signed 16-bit mono samples at 24 kHz."""

from __future__ import annotations

SAMPLE_RATE = 24_000
"""Samples a second."""
BYTES_PER_MS = 48
"""24 samples of 2 bytes."""
BYTES_PER_SECOND = 1000 * BYTES_PER_MS
