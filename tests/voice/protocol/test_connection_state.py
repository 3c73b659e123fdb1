"""The keepalive and the lifetime of a connection."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.voice.protocol.connection_state import Expiry, Keepalive


def new_keepalive(*, answers: bool = True) -> Keepalive:
    keepalive = Keepalive(100.0, silence=30.0, timeout=5.0)
    keepalive.answers = answers
    return keepalive


def test_a_silent_service_gets_one_keepalive_and_is_then_lost():
    keepalive = new_keepalive()
    assert (keepalive.ask_at, keepalive.lost_at) == (130.0, None)
    keepalive.asked(131.0)
    assert (keepalive.ask_at, keepalive.lost_at) == (None, 136.0)
    assert keepalive.silent_for(136.0) == 36.0


def test_each_message_restarts_the_keepalive():
    keepalive = new_keepalive()
    assert not keepalive.has_received
    keepalive.asked(130.0)
    keepalive.received(134.0)
    assert keepalive.has_received
    assert (keepalive.ask_at, keepalive.lost_at) == (164.0, None)


def test_a_service_that_never_confirmed_anything_gets_no_keepalive():
    """It would not answer, and its connection would be closed for that."""
    assert new_keepalive(answers=False).ask_at is None


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=30))
def test_the_service_is_lost_only_if_it_sent_nothing_after_the_keepalive(steps):
    keepalive, now, asked, received = new_keepalive(), 100.0, None, 100.0
    for is_message, delay in steps:
        now += delay
        if is_message:
            keepalive.received(now)
            asked, received = None, now
        elif keepalive.ask_at is not None:
            keepalive.asked(now)
            asked = now
        assert keepalive.lost_at == (None if asked is None else asked + 5.0)
        assert keepalive.silent_for(now) == now - received


def test_a_connection_is_replaced_a_minute_before_the_end_of_its_hour():
    """Also if the service does not tell when it ends."""
    assert Expiry(100.0).replace_at(0.0) == 100.0 + 3540
    expiry = Expiry(100.0)
    expiry.end_at(100.0 + 1800)
    assert expiry.replace_at(0.0) == 100.0 + 1740


def test_a_connection_with_a_short_lifetime_is_replaced_a_tenth_before_its_end():
    """A minute would be more than there is."""
    expiry = Expiry(100.0)
    expiry.end_at(110.0)
    assert expiry.replace_at(0.0) == 109.0


def test_two_seconds_of_silence_come_before_the_replacement():
    assert Expiry(100.0).replace_at(3639.5) == 3641.5


def test_an_end_before_the_start_is_ignored():
    """The clocks of the two machines may differ."""
    expiry = Expiry(100.0)
    expiry.end_at(99.0)
    assert expiry.replace_at(0.0) == 3640.0
