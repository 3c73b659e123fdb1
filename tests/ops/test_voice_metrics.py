"""A voice session is counted: each moment of each response once."""

import asyncio

import pytest

from realtalk_async import Stream
from realtalk_async.offline import Peer
from realtalk_async.ops import Watch
from realtalk_async.ops import metrics as of
from realtalk_async.ops.counters import Tally
from realtalk_async.ops.voice_metrics import Ear
from realtalk_async.voice import events
from realtalk_async.voice.metrics import Metrics, TurnLatency

pytestmark = pytest.mark.timeout(60)

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


def counts(tally, metric):
    """Return how many values each series of a histogram has."""
    return {
        labels: sum(one.counts)
        for labels, one in tally.distributions.get(metric, {}).items()
    }


def test_each_moment_of_a_response_is_counted_once_and_when_it_is_known():
    """Its first sound comes when it had been looked at before."""
    ear = Ear(tally := Tally())
    ear.look(metrics(TurnLatency("a", 0.1)))
    assert counts(tally, of.LATENCY) == {("started",): 1}
    ear.look(metrics(TurnLatency("a", 0.1, 0.2)))
    ear.look(metrics(TurnLatency("a", 0.1, 0.2, 0.3), TurnLatency("b", 0.1)))
    for _ in range(3):
        ear.look(metrics(TurnLatency("b", 0.1, 0.2)))
    assert counts(tally, of.LATENCY) == {
        ("started",): 2,
        ("first_output",): 2,
        ("first_sound",): 1,
    }


def test_interruptions_are_timed_in_seconds():
    """They are told in milliseconds."""
    ear = Ear(tally := Tally())
    ear.look(metrics(barge_ins=(120.0,)))
    ear.look(metrics(barge_ins=(120.0, 80.0)))
    (one,) = tally.distributions[of.BARGE_IN].values()
    assert sum(one.counts) == 2
    assert one.total == pytest.approx(0.2)


def test_an_outage_is_timed():
    """When it is over."""
    ear = Ear(tally := Tally())
    ear.hear(events.ConnectionRestored(2.5, 3))
    assert counts(tally, of.OUTAGE) == {(): 1}


async def test_a_session_is_told_of(logger):
    """Its responses, how long they took, and whether it is ready."""
    async with Peer() as peer:
        stream = Stream(url=peer.url, microphone=None, speaker=None, logger=logger)
        async with Watch(stream.process_manager, stream) as watch:
            verdict = await asyncio.to_thread(watch.verdict, "readiness")
            assert "the voice session is not ready" in verdict.reasons
            async with stream:
                assert (await asyncio.to_thread(watch.verdict, "readiness")).good
                stream.send_text("What is seven plus five?", trigger_response=True)
                outcome = await stream.wait_for_response(timeout=30)
                assert outcome.completed
                look = await asyncio.to_thread(watch.look)
    assert look.samples[of.RESPONSES] == {("completed",): 1}
    assert look.samples[of.CONNECTED] == {(): 1}
    assert look.samples[of.AUDIO]["sent",] == 0
    assert look.samples[of.STATE]["connection", "running"] == 1
    latency = look.distributions[of.LATENCY]
    assert sum(latency["started",].counts) == 1
    assert 0 < latency["first_output",].total < 30
