"""
A slow network between the peer and its clients: a delay of each event, in order.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, cast

from realtalk_async import arguments

if TYPE_CHECKING:
    from collections.abc import Sequence

LatencyArgument: TypeAlias = float | tuple[float, float]
"""Seconds, or the mean and the jitter in seconds."""


@dataclass(slots=True)
class Latency:
    """
    Decides when each event arrives: after *mean* seconds, *jitter* more or less.

    Like on a TCP connection no event overtakes another.
    """

    mean: float
    jitter: float
    seed: int
    _random: random.Random = field(init=False)
    _last: float = 0.0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - no cryptography

    def arrival(self, now: float) -> float:
        """Return when an event that is sent *now* arrives."""
        if not self.mean:
            return now
        delay = self._random.uniform(self.mean - self.jitter, self.mean + self.jitter)
        self._last = max(self._last, now + delay)
        return self._last


def check_latency(latency: object, seed: object) -> tuple[float, float]:
    """
    Return mean and jitter.

    Raises:
        InvalidConfiguration: If they are invalid, or *seed* is no integer.
    """
    allowed = "seconds, or a pair (mean, jitter) of seconds with jitter <= mean"
    is_pair = isinstance(latency, tuple | list)
    pair = tuple(cast("Sequence[object]", latency)) if is_pair else (latency, 0.0)
    arguments.integer("seed", seed)
    if len(pair) != 2:
        raise arguments.refused("latency", allowed, latency)
    for part in pair:
        arguments.number("latency", part, minimum=0)
    mean, jitter = cast("tuple[float, float]", pair)
    if jitter > mean:
        raise arguments.refused("latency", allowed, latency)
    return float(mean), float(jitter)
