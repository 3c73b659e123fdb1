"""
The stop ladder: the signals that end a process group, and the wait after each.

A step sends its signal to the whole process group and waits until only zombies are left in
it. The next step follows when the wait is over.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import cast

from realtalk_async import arguments
from realtalk_async.supervision.kernel.exit_status import signal_name, signal_number

CLOSE_STDIN = 0
"""The gentlest step: close the child's stdin. No signal has this number."""

GENTLE: set[int] = {
    CLOSE_STDIN,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
}


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
        *steps: Pairs of (signal, seconds to wait after it). A signal is a number or a
            name such as ``"TERM"``. `CLOSE_STDIN`, or ``"close stdin"``, closes the
            child's stdin instead. SIGKILL with one second is added if it is not the last
            step.

    Raises:
        InvalidConfiguration: If a signal is unknown or a wait is negative.
    """

    def __init__(self, *steps: tuple[int | str, float]) -> None:
        read = [_read_step(f"steps[{n}]", step) for n, step in enumerate(steps)]
        if not read or read[-1].signal != signal.SIGKILL:
            read.append(Step(signal.SIGKILL, 1.0))
        self.steps: tuple[Step, ...] = tuple(read)

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


def _read_step(argument: str, step: object) -> Step:
    pair = cast("tuple[object, ...]", step)
    if not isinstance(step, tuple | list) or len(pair) != 2:
        allowed = "a signal and the seconds after it, such as ('TERM', 2)"
        raise arguments.refused(argument, allowed, pair)
    wanted, wait = pair
    number = (
        CLOSE_STDIN
        if wanted == "close stdin" or wanted is CLOSE_STDIN
        else checked_signal(f"the signal of {argument}", wanted, "'close stdin'")
    )
    arguments.seconds(f"the wait of {argument}", wait)
    return Step(number, float(cast("float", wait)))


def checked_signal(argument: str, value: object, *others: str) -> int:
    """
    Return the number of a signal that is given by its number or by its name.

    Args:
        argument: The name of the argument.
        value: The number, or a name such as ``TERM`` or ``SIGTERM``.
        *others: Further allowed values, for the message.

    Raises:
        InvalidConfiguration: If there is no such signal.
    """
    number = signal_number(value) if isinstance(value, str) else value
    if (
        not isinstance(number, int)
        or isinstance(number, bool)
        or number not in signal.valid_signals()
    ):
        usual = "INT, TERM, HUP, QUIT, USR1, USR2, KILL"
        allowed = " or ".join(
            (f"a signal, by its number or a name such as {usual}", *others)
        )
        raise arguments.refused(argument, allowed, value)
    return int(number)


GRACEFUL = Ladder((signal.SIGTERM, 5.0), (signal.SIGKILL, 2.0))
"""The default: 5 s, as in Docker and trio."""

AT_ONCE = Ladder((signal.SIGKILL, 2.0))
"""SIGKILL at once."""

SWIFT = Ladder((signal.SIGTERM, 0.5), (signal.SIGKILL, 1.0))
"""For programs that have nothing to save."""
