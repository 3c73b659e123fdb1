"""
Diagnoses the problem of a microphone or a speaker, and decides whether to wait for it.

A busy device and a missing sound server are often temporary; the program's last output
names them, or sox and ffmpeg exit with status 0. When a device is unplugged, its program
keeps running without audio. Audio at a wrong rate is unintelligible. The last two problems
show only in the bytes that arrive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.supervision import Cause
from realtalk_async.voice.events import DeviceProblem
from realtalk_async.voice.protocol.pcm import BYTES_PER_MS

if TYPE_CHECKING:
    from realtalk_async.supervision import IncarnationReport

EXPECTED_RATE = 1000 * BYTES_PER_MS
"""Bytes a second."""
TOLERANCE = 0.1
"""The share by which the rate may differ."""

_MAX_MISSING = 5.0 * EXPECTED_RATE  # bytes
_MIN_PERIOD = 0.5  # seconds; the rate over a shorter period says nothing

_PROBLEM_OF_SIGN = {
    "device busy": DeviceProblem.BUSY,
    "no sound server": DeviceProblem.SERVER_GONE,
    "no such device": DeviceProblem.MISSING,
}
_ADVICE = {
    DeviceProblem.BUSY: "another program holds the device; waiting for it",
    DeviceProblem.SERVER_GONE: "the sound server has ended; waiting for it",
    DeviceProblem.MISSING: "the device does not exist: was it unplugged?",
    DeviceProblem.LOST: "no audio passes any more: was the device unplugged?",
    DeviceProblem.WRONG_RATE: "the audio is not 24 kHz mono of 16 bits in real time",
    DeviceProblem.DIED: "the program died",
}
TEMPORARY_PROBLEMS = frozenset(
    {DeviceProblem.BUSY, DeviceProblem.SERVER_GONE, DeviceProblem.MISSING}
)
"""
Problems that are waited out if the device has worked before: retries are no failures.
"""

RETRY_WINDOW = 30.0
"""Seconds for which a temporary problem is waited out."""

RETRY_PAUSE = 0.3
"""Seconds between two retries."""


def diagnose(
    report: IncarnationReport, *, is_device: bool, wrong_rate: bool = False
) -> DeviceProblem:
    """
    Return the problem of a recorder or a player that died.

    Args:
        report: The incarnation that died.
        is_device: Whether it used a device, as opposed to a file or the app's own command.
        wrong_rate: Whether it was ended because of its rate.
    """
    if report.sign is not None and report.sign.kind in _PROBLEM_OF_SIGN:
        return _PROBLEM_OF_SIGN[report.sign.kind]
    if report.cause is Cause.UNHEALTHY:
        return DeviceProblem.WRONG_RATE if wrong_rate else DeviceProblem.LOST
    if is_device and report.exit_status == 0:
        return DeviceProblem.SERVER_GONE
    return DeviceProblem.DIED


def advise(problem: DeviceProblem) -> str:
    """Return the meaning of a problem, and advice."""
    return _ADVICE[problem]


class RetryWindow:
    """Limits the time of restarts that a temporary problem does not count against."""

    def __init__(self) -> None:
        self._since: float | None = None

    def allows(self, problem: DeviceProblem, now: float) -> bool:
        """Return whether *problem* is temporary and the window is not over."""
        if problem not in TEMPORARY_PROBLEMS:
            return False
        if self._since is None:
            self._since = now
        return now - self._since < RETRY_WINDOW

    def reset(self) -> None:
        """Begin a new window at the next problem: the device works again."""
        self._since = None


class RateMonitor:
    """
    Measures the rate at which the microphone delivers audio.

    Args:
        now: When the first period begins, in monotonic seconds.
        received: Bytes that had been delivered by then.
    """

    def __init__(self, now: float = 0.0, received: int = 0) -> None:
        self.rate = 0.0
        """Bytes a second in the last period."""
        self._began_at = now
        self._received = received
        self._missing = 0.0  # bytes that were late so far and may still arrive

    def reset(self, now: float, received: int) -> None:
        """Begin a new period, with a new recorder."""
        self._began_at, self._received, self._missing = now, received, 0.0

    def check(self, now: float, received: int) -> str | None:
        """
        End a period of at least half a second; return the problem of its rate.

        ``None`` if the rate is right, or if nothing arrived: a probe detects silence. A
        program that a busy machine has delayed then delivers what is missing: this is
        no wrong rate.
        """
        elapsed, delivered = now - self._began_at, received - self._received
        if elapsed < _MIN_PERIOD:
            return None
        self._began_at, self._received = now, received
        self.rate = delivered / elapsed
        excess = delivered - EXPECTED_RATE * elapsed
        made_up = min(max(excess, 0.0), self._missing)
        self._missing = min(max(self._missing - excess, 0.0), _MAX_MISSING)
        wrong = abs((self.rate - made_up / elapsed) / EXPECTED_RATE - 1) > TOLERANCE
        if not (delivered and wrong):
            return None
        return (
            f"delivers {self.rate:,.0f} bytes a second, not {EXPECTED_RATE:,}: "
            f"{advise(DeviceProblem.WRONG_RATE)}"
        )
