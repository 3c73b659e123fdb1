"""The times of a session's turns, by numbers."""

import pytest

from realtalk_async.voice.metrics import LatencyMeter, TurnLatency, quantile
from realtalk_async.voice.protocol.playback import Part

A, B = Part("a", 0), Part("b", 0)


def test_a_turn_is_timed_from_the_end_of_the_question():
    """Begun, first output, first sound; each once."""
    meter = LatencyMeter()
    meter.asked(10.0)
    meter.began("r1", 10.25)
    meter.came(10.5)
    meter.came(10.75, A)
    meter.came(11.0, A)
    meter.sounds(A, 11.25)
    meter.sounds(A, 12.0)
    assert list(meter.turns) == [TurnLatency("r1", 0.25, 0.5, 1.25)]


def test_a_response_that_nobody_asked_for_counts_from_its_beginning():
    """As after the answer of a tool."""
    meter = LatencyMeter()
    meter.began("r1", 10.0)
    meter.came(10.5, A)
    assert list(meter.turns) == [TurnLatency("r1", 0.0, 0.5)]


def test_the_sound_of_an_earlier_response_is_not_taken_for_the_newest():
    """It may still play when the next one begins."""
    meter = LatencyMeter()
    meter.began("r1", 10.0)
    meter.came(10.0, A)
    meter.began("r2", 11.0)
    meter.sounds(A, 11.0)
    meter.came(11.5, B)
    meter.sounds(A, 11.5)
    meter.sounds(None, 11.5)
    assert meter.turns[-1].first_sound is None
    meter.sounds(B, 12.0)
    assert meter.turns[-1].first_sound == 1.0


def test_sound_without_a_response_is_nothing():
    """Servers that announce nothing."""
    meter = LatencyMeter()
    meter.came(1.0, A)
    meter.sounds(A, 1.0)
    assert not meter.turns


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 3), (0.99, 4), (1.0, 4)])
def test_a_quantile_is_one_of_the_values(share, value):
    """None of none."""
    assert quantile([4, 3, 1, 2], share) == value
    assert quantile([], share) is None


def test_what_is_remembered_is_bounded():
    """A session may be long."""
    meter = LatencyMeter()
    for number in range(1500):
        meter.began(str(number), number)
        meter.silenced(40.0)
    assert len(meter.turns) == len(meter.barge_ins) == 1000
