"""What a voice session has done since it was last looked at, as counts. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from realtalk_async.ops import metrics as of
from realtalk_async.voice import events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtalk_async.ops.counters import Samples, Tally
    from realtalk_async.voice.metrics import Metrics, TurnLatency

MOMENTS = ("started", "first_output", "first_sound")
"""What a response's latency is measured until."""


class Ear:
    """
    Counts what a session tells, each thing once.

    Args:
        tally: Where it is counted.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._counted: set[tuple[str, str]] = set()
        self._barge_ins: tuple[float, ...] = ()
        self._sums: Counter[str] = Counter()

    def hear(self, event: events.VoiceEvent) -> None:
        """Count what an event tells."""
        match event:
            case events.ResponseFinished():
                self._tally.add(of.RESPONSES, (str(event.outcome.status),))
            case events.ConnectionRestored():
                self._tally.observe(of.OUTAGE, event.downtime)
            case _:
                pass

    def look(self, metrics: Metrics) -> Samples:
        """Count what is new in *metrics*, and return what only ever stands there."""
        self._count_turns(metrics.turns)
        for milliseconds in appended(self._barge_ins, metrics.barge_ins):
            self._tally.observe(of.BARGE_IN, milliseconds / 1000)
        self._barge_ins = metrics.barge_ins
        ways = ("sent", "played", "dropped", "withheld", "unrecorded")
        audio: dict[str, float] = {
            way: getattr(metrics, f"{way}_audio") for way in ways
        }
        return {
            of.CONNECTED: {(): float(metrics.connected)},
            of.AUDIO: {(way,): seconds for way, seconds in audio.items()},
            of.UNDERRUNS: {(): metrics.underruns},
        }

    def _count_turns(self, turns: Sequence[TurnLatency]) -> None:
        """Count each moment of each turn once, when it is known."""
        known = {(turn.response_id, moment) for turn in turns for moment in MOMENTS}
        self._counted &= known  # what is remembered is bounded, as the turns are
        for turn in turns:
            for moment in MOMENTS:
                seconds: float | None = getattr(turn, moment)
                which = turn.response_id, moment
                if seconds is not None and which not in self._counted:
                    self._counted.add(which)
                    self._tally.observe(of.LATENCY, seconds, (moment,))


def appended(before: Sequence[float], now: Sequence[float]) -> Sequence[float]:
    """
    Return what was appended, where the oldest may have been dropped since.

    The fewest that explain the difference.
    """
    for count in range(len(now) + 1):
        kept = len(now) - count
        if list(now[:kept]) == list(before[len(before) - kept :]) and kept <= len(
            before
        ):
            return now[kept:]
    return now
