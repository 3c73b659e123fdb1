"""Metrics of a voice session."""

import asyncio

import pytest

from realtalk_async import Stream
from realtalk_async.offline import Peer
from realtalk_async.ops import Collector
from realtalk_async.ops import metrics as catalogue
from realtalk_async.ops.registry import MetricRegistry
from realtalk_async.ops.voice_metrics import VoiceMetricsListener
from realtalk_async.voice import events
from realtalk_async.voice.metrics import Metrics, TurnLatency

NOTHING = dict.fromkeys(
    [
        "duration",
        "sent_audio",
        "waiting_audio",
        "dropped_audio",
        "withheld_audio",
        "played_audio",
        "queued_audio",
        "underruns",
        "recorder_rate",
        "missed_events",
    ],
    0,
)


def metrics(*turns, barge_ins=()):
    """Return a session's figures with these turns."""
    return Metrics(
        connected=True,
        turns=turns,
        barge_ins=barge_ins,
        switches=(),
        responses={},
        restarts={},
        **NOTHING,
    )


def counts(registry, metric):
    """Return the number of values of each series of a histogram."""
    return {
        labels: sum(one.counts)
        for labels, one in registry.histograms.get(metric, {}).items()
    }


def test_each_milestone_of_a_response_is_counted_once_as_soon_as_it_is_known():
    listener = VoiceMetricsListener(registry := MetricRegistry())
    listener.update(metrics(TurnLatency("a", 0.1)))
    assert counts(registry, catalogue.LATENCY) == {("started",): 1}
    listener.update(metrics(TurnLatency("a", 0.1, 0.2)))
    listener.update(metrics(TurnLatency("a", 0.1, 0.2, 0.3), TurnLatency("b", 0.1)))
    for _ in range(3):
        listener.update(metrics(TurnLatency("b", 0.1, 0.2)))
    assert counts(registry, catalogue.LATENCY) == {
        ("started",): 2,
        ("first_output",): 2,
        ("first_sound",): 1,
    }


def test_interruptions_are_converted_from_milliseconds_to_seconds():
    listener = VoiceMetricsListener(registry := MetricRegistry())
    listener.update(metrics(barge_ins=(120.0,)))
    listener.update(metrics(barge_ins=(120.0, 80.0)))
    (one,) = registry.histograms[catalogue.BARGE_IN].values()
    assert sum(one.counts) == 2
    assert one.total == pytest.approx(0.2)


def test_an_outage_is_timed_when_it_is_over():
    listener = VoiceMetricsListener(registry := MetricRegistry())
    listener.on_event(events.ConnectionRestored(2.5, 3))
    assert counts(registry, catalogue.OUTAGE) == {(): 1}


async def test_a_session_reports_responses_latency_and_readiness(logger):
    async with Peer() as peer:
        stream = Stream(url=peer.url, microphone=None, speaker=None, logger=logger)
        async with Collector(stream.process_manager, stream) as collector:
            report = await asyncio.to_thread(collector.check, "readiness")
            assert "the voice session is not ready" in report.reasons
            async with stream:
                assert (await asyncio.to_thread(collector.check, "readiness")).ok
                outcome = await stream.send_text(
                    "What is seven plus five?", trigger_response=True
                )
                assert outcome.completed
                snapshot = await asyncio.to_thread(collector.snapshot)
    assert snapshot.samples[catalogue.RESPONSES] == {("completed",): 1}
    assert snapshot.samples[catalogue.CONNECTED] == {(): 1}
    assert snapshot.samples[catalogue.AUDIO]["sent",] == 0
    assert snapshot.samples[catalogue.STATE]["connection", "running"] == 1
    latency = snapshot.histograms[catalogue.LATENCY]
    assert sum(latency["started",].counts) == 1
    assert 0 < latency["first_output",].total < 30
