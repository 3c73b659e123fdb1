"""
The stop ladder: the signals that end a process group, and the wait after each.

A step sends its signal to the whole process group and waits until only zombies are left in
it. The next step follows when the wait is over.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision.kernel.exit_status import signal_name

CLOSE_STDIN = 0
"""The gentlest step: close the child's stdin. No signal has this number."""

GENTLE = {CLOSE_STDIN, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}


@dataclass(frozen=True, slots=True)
class Step:
    """Send one signal (or close stdin), then wait for the group to end."""

    signal: int
    wait: float
    """Seconds."""

    def __str__(self) -> str:
        return "close stdin" if self.signal == CLOSE_STDIN else signal_name(self.signal)


class Ladder:
    """
    The steps that end a process group.

    Args:
        *steps: Pairs of (signal, seconds to wait after it). `CLOSE_STDIN` closes the
            child's stdin instead. SIGKILL with one second is added if it is not the last
            step.

    Raises:
        InvalidConfiguration: If a signal is unknown or a wait is negative.
    """

    def __init__(self, *steps: tuple[int, float]) -> None:
        for number, wait in steps:
            if number != CLOSE_STDIN and number not in signal.valid_signals():
                raise InvalidConfiguration(f"no signal has the number {number}")
            if not wait >= 0:
                raise InvalidConfiguration(
                    f"the wait after {signal_name(number)} must be 0 seconds or more, "
                    f"not {wait}"
                )
        if not steps or steps[-1][0] != signal.SIGKILL:
            steps = (*steps, (signal.SIGKILL, 1.0))
        self.steps: tuple[Step, ...] = tuple(Step(int(n), float(w)) for n, w in steps)

    @property
    def longest(self) -> float:
        """Seconds that all steps take together if none of them ends the group."""
        return sum(step.wait for step in self.steps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ladder) and self.steps == other.steps

    def __hash__(self) -> int:
        return hash(self.steps)

    def __repr__(self) -> str:
        return " → ".join(f"{step} {step.wait:g} s" for step in self.steps)


GRACEFUL = Ladder((signal.SIGTERM, 5.0), (signal.SIGKILL, 2.0))
"""The default: 5 s, as in Docker and trio."""

AT_ONCE = Ladder((signal.SIGKILL, 2.0))
"""SIGKILL at once."""

SWIFT = Ladder((signal.SIGTERM, 0.5), (signal.SIGKILL, 1.0))
"""For programs that have nothing to save."""
