"""
What is wrong with a microphone or a speaker, and what follows from it. Pure.

A device that is busy, or whose sound server is gone, comes back if one waits; one that
vanished leaves its program alive and mute; one that records at another rate would be
heard as garble. The programs tell the first two in their last words, sox and ffmpeg the
second one by exiting with status 0, and the other two only their bytes can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.supervision import Cause
from realtalk_async.voice.events import DeviceProblem
from realtalk_async.voice.protocol.pcm import BYTES_PER_MS

if TYPE_CHECKING:
    from realtalk_async.supervision import IncarnationReport

EXPECTED = 1000 * BYTES_PER_MS
"""Bytes a second."""
TOLERANCE = 0.1

_SHORTEST = 0.5  # seconds that tell something about the rate

_SIGNS = {
    "device busy": DeviceProblem.BUSY,
    "no sound server": DeviceProblem.SERVER_GONE,
    "no such device": DeviceProblem.MISSING,
}
_ADVICE = {
    DeviceProblem.BUSY: "another program holds it: it is waited for",
    DeviceProblem.SERVER_GONE: "its sound server went away: it is waited for",
    DeviceProblem.MISSING: "there is no such device, or no more: was it unplugged?",
    DeviceProblem.LOST: "it delivers nothing any more: was it unplugged?",
    DeviceProblem.WRONG_RATE: "it does not deliver 24 kHz mono of 16 bits in real time",
    DeviceProblem.DIED: "its program died",
}
WAITS_FOR = frozenset(
    {DeviceProblem.BUSY, DeviceProblem.SERVER_GONE, DeviceProblem.MISSING}
)
"""
Troubles that may pass, of a device that has worked: their tries do not count as failures.
"""

PATIENCE = 30.0
"""Seconds for which a device that worked before may be busy, or without its server."""

PAUSE = 0.3
"""Seconds between two tries of a device that is waited for."""


def diagnose(
    report: IncarnationReport, *, is_device: bool, wrong_rate: bool = False
) -> DeviceProblem:
    """
    Return what was wrong with a recorder or a player that died.

    Args:
        report: Its last life.
        is_device: Whether it is about a device, not a file or a command of the app.
        wrong_rate: Whether we ended it for that.
    """
    if report.sign is not None and report.sign.kind in _SIGNS:
        return _SIGNS[report.sign.kind]
    if report.cause is Cause.UNHEALTHY:
        return DeviceProblem.WRONG_RATE if wrong_rate else DeviceProblem.LOST
    if is_device and report.exit_status == 0:
        return DeviceProblem.SERVER_GONE
    return DeviceProblem.DIED


def advise(trouble: DeviceProblem) -> str:
    """Say what a trouble means."""
    return _ADVICE[trouble]


class Patience:
    """How long a device that has worked before is waited for."""

    def __init__(self) -> None:
        self._since: float | None = None

    def lasts(self, trouble: DeviceProblem, now: float) -> bool:
        """Return whether a trouble passes by itself, and has not lasted too long."""
        if trouble not in WAITS_FOR:
            return False
        if self._since is None:
            self._since = now
        return now - self._since < PATIENCE

    def renew(self) -> None:
        """Note that the device works again."""
        self._since = None


class RateMonitor:
    """
    How fast the microphone delivers, from one look to the next.

    Args:
        now: The time of the first look.
        received: Bytes that had come then.
    """

    def __init__(self, now: float = 0.0, received: int = 0) -> None:
        self.rate = 0.0
        """Bytes a second, between the last two looks."""
        self._looked_at = now
        self._received = received

    def begin(self, now: float, received: int) -> None:
        """Begin anew, with another recorder."""
        self._looked_at, self._received = now, received

    def look(self, now: float, received: int) -> str | None:
        """
        Return what is wrong with the rate, or ``None``.

        Silence is not this one's to judge, and less than half a second tells nothing.
        """
        elapsed, came = now - self._looked_at, received - self._received
        if elapsed < _SHORTEST:
            return None
        self.begin(now, received)
        self.rate = came / elapsed
        if not came or abs(self.rate / EXPECTED - 1) <= TOLERANCE:
            return None
        return (
            f"delivers {self.rate:,.0f} bytes a second, not {EXPECTED:,}: "
            f"{advise(DeviceProblem.WRONG_RATE)}"
        )
