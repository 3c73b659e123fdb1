"""When a connection is left for a new one, by numbers."""

from realtalk_async.voice.protocol.keepalive import Lifetime


def test_an_hour_is_left_a_minute_before_its_end():
    """Also if the service does not say when it ends."""
    assert Lifetime(100.0).leaves_at == 100.0 + 3540
    lifetime = Lifetime(100.0)
    lifetime.end_at(100.0 + 1800)
    assert lifetime.leaves_at == 100.0 + 1740


def test_a_short_life_is_left_a_tenth_before_its_end():
    """A minute would be more than there is."""
    lifetime = Lifetime(100.0)
    lifetime.end_at(110.0)
    assert lifetime.leaves_at == 109.0


def test_nobody_is_left_in_the_middle_of_a_word():
    """Two seconds of quiet come first."""
    lifetime = Lifetime(100.0)
    lifetime.note_activity(3639.5)
    assert lifetime.leaves_at == 3641.5


def test_an_end_before_the_beginning_is_ignored():
    """The clocks of the two machines may differ."""
    lifetime = Lifetime(100.0)
    lifetime.end_at(99.0)
    assert lifetime.leaves_at == 3640.0
