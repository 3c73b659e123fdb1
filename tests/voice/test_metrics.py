import pytest

from realtalk_async.voice.metrics import LatencyMeter, TurnLatency, quantile
from realtalk_async.voice.protocol.playback import Part

A, B = Part("a", 0), Part("b", 0)


def test_latency_counts_from_the_end_of_the_turn():
    meter = LatencyMeter()
    meter.turn_ended(10.0)
    meter.response_started("r1", 10.25)
    meter.output_arrived(10.5)
    meter.output_arrived(10.75, A)
    meter.output_arrived(11.0, A)
    meter.audible(A, 11.25)
    meter.audible(A, 12.0)
    assert list(meter.turns) == [TurnLatency("r1", 0.25, 0.5, 1.25)]


def test_latency_of_a_response_without_a_turn_counts_from_its_start():
    """Such a response follows the result of a tool."""
    meter = LatencyMeter()
    meter.response_started("r1", 10.0)
    meter.output_arrived(10.5, A)
    assert list(meter.turns) == [TurnLatency("r1", 0.0, 0.5)]


def test_audio_of_an_earlier_response_does_not_count_for_the_newest():
    """The player may still play it when the next response starts."""
    meter = LatencyMeter()
    meter.response_started("r1", 10.0)
    meter.output_arrived(10.0, A)
    meter.response_started("r2", 11.0)
    meter.audible(A, 11.0)
    meter.output_arrived(11.5, B)
    meter.audible(A, 11.5)
    meter.audible(None, 11.5)
    assert meter.turns[-1].first_sound is None
    meter.audible(B, 12.0)
    assert meter.turns[-1].first_sound == 1.0


def test_audio_without_a_response_is_ignored():
    """Some servers do not announce a response."""
    meter = LatencyMeter()
    meter.output_arrived(1.0, A)
    meter.audible(A, 1.0)
    assert not meter.turns


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 3), (0.99, 4), (1.0, 4)])
def test_quantile_is_one_of_the_values_or_none_without_values(share, value):
    assert quantile([4, 3, 1, 2], share) == value
    assert quantile([], share) is None


def test_number_of_kept_turns_is_bounded():
    meter = LatencyMeter()
    for number in range(1500):
        meter.response_started(str(number), number)
        meter.interrupted(40.0)
    assert len(meter.turns) == len(meter.barge_ins) == 1000
