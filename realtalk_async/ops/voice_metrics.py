"""Metrics of a voice session, from its events and from its own figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtalk_async.ops import metrics as catalogue
from realtalk_async.voice import events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtalk_async.ops.registry import MetricRegistry, Samples
    from realtalk_async.voice.metrics import Metrics, TurnLatency

MILESTONES = ("started", "first_output", "first_sound")
"""The moments of a response up to which its latency is measured."""

AUDIO_PATHS = ("sent", "played", "dropped", "withheld", "unrecorded")


class VoiceMetricsListener:
    """
    Adds a voice session's events and figures to a registry, each of them once.

    Args:
        registry: Where they are counted.
    """

    def __init__(self, registry: MetricRegistry) -> None:
        self._registry = registry
        self._counted: set[tuple[str, str]] = set()
        self._barge_ins: tuple[float, ...] = ()

    def on_event(self, event: events.VoiceEvent) -> None:
        """Count one voice event: a subscriber of the session."""
        match event:
            case events.ResponseFinished():
                status = str(event.outcome.status)
                self._registry.add(catalogue.RESPONSES, (status,))
            case events.ConnectionRestored():
                self._registry.observe(catalogue.OUTAGE, event.downtime)
            case _:
                pass

    def update(self, metrics: Metrics) -> Samples:
        """Count latencies that are new in *metrics*; return its gauges and totals."""
        self._count_turns(metrics.turns)
        for milliseconds in appended(self._barge_ins, metrics.barge_ins):
            self._registry.observe(catalogue.BARGE_IN, milliseconds / 1000)
        self._barge_ins = metrics.barge_ins
        audio: dict[str, float] = {
            path: getattr(metrics, f"{path}_audio") for path in AUDIO_PATHS
        }
        return {
            catalogue.CONNECTED: {(): float(metrics.connected)},
            catalogue.AUDIO: {(path,): seconds for path, seconds in audio.items()},
            catalogue.UNDERRUNS: {(): metrics.underruns},
        }

    def _count_turns(self, turns: Sequence[TurnLatency]) -> None:
        """Observe each milestone of each turn once, as soon as it is known."""
        # The session keeps a bounded number of turns, so this set is bounded as well.
        self._counted &= {
            (turn.response_id, name) for turn in turns for name in MILESTONES
        }
        for turn in turns:
            for name in MILESTONES:
                seconds: float | None = getattr(turn, name)
                key = turn.response_id, name
                if seconds is not None and key not in self._counted:
                    self._counted.add(key)
                    self._registry.observe(catalogue.LATENCY, seconds, (name,))


def appended(before: Sequence[float], now: Sequence[float]) -> Sequence[float]:
    """
    Return the values that were appended to a bounded list since *before*.

    The oldest values may have been dropped meanwhile; the shortest addition that explains
    the difference is returned.
    """
    for count in range(len(now) + 1):
        kept = len(now) - count
        if (
            kept <= len(before)
            and list(now[:kept]) == list(before)[len(before) - kept :]
        ):
            return now[kept:]
    return now
