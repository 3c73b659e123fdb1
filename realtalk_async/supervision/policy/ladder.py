"""
How a process is ended: steps of growing force, and when each is due. Pure.

A step goes to the whole process group. What a step waits for is that the group is empty
of all but zombies; when its time is up, the next step is taken.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.supervision.kernel.exit_status import signal_name

CLOSE_STDIN = 0
"""The gentlest step: end the child's input. No signal has this number."""

GENTLE = {CLOSE_STDIN, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}


@dataclass(frozen=True, slots=True)
class Step:
    """Send one signal (or close stdin), then wait so long for the group to empty."""

    signal: int
    wait: float
    """Seconds."""

    def __str__(self) -> str:
        return "close stdin" if self.signal == CLOSE_STDIN else signal_name(self.signal)


class Ladder:
    """
    The steps by which a process group is ended.

    Args:
        *steps: Pairs of (signal, seconds to wait after it). `CLOSE_STDIN` stands for the
            end of the child's input. SIGKILL with one second is added if it is not the
            last step, so that a ladder always ends what it can.

    Raises:
        InvalidConfiguration: If a signal is unknown or a wait is negative.
    """

    def __init__(self, *steps: tuple[int, float]) -> None:
        for number, wait in steps:
            if number != CLOSE_STDIN and number not in signal.valid_signals():
                raise InvalidConfiguration(f"no signal has the number {number}")
            if not wait >= 0:
                raise InvalidConfiguration(
                    f"a ladder waits 0 seconds or more after {signal_name(number)}, "
                    f"not {wait}"
                )
        if not steps or steps[-1][0] != signal.SIGKILL:
            steps = (*steps, (signal.SIGKILL, 1.0))
        self.steps: tuple[Step, ...] = tuple(Step(int(n), float(w)) for n, w in steps)

    @property
    def longest(self) -> float:
        """Seconds that all steps take together if none of them helps."""
        return sum(step.wait for step in self.steps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ladder) and self.steps == other.steps

    def __hash__(self) -> int:
        return hash(self.steps)

    def __repr__(self) -> str:
        return " → ".join(f"{step} {step.wait:g} s" for step in self.steps)


GRACEFUL = Ladder((signal.SIGTERM, 5.0), (signal.SIGKILL, 2.0))
"""What is used unless something else is said: 5 s as in Docker's and trio's tradition."""

AT_ONCE = Ladder((signal.SIGKILL, 2.0))
"""Without any grace."""

SWIFT = Ladder((signal.SIGTERM, 0.5), (signal.SIGKILL, 1.0))
"""For what has nothing to save."""
