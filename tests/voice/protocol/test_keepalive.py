"""Whether the service is still there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.voice.protocol.keepalive import Presence


def presence(*, answers: bool = True) -> Presence:
    """Return one that asks after 30 s and waits for 5 s."""
    found = Presence(100.0, silence=30.0, patience=5.0)
    found.answers = answers
    return found


def test_silence_is_asked_about_and_then_believed():
    """Once."""
    service = presence()
    assert (service.ask_at, service.gone_at) == (130.0, None)
    service.asked(131.0)
    assert (service.ask_at, service.gone_at) == (None, 136.0)
    assert service.silent_for(136.0) == 36.0


def test_any_sign_of_life_ends_the_doubt():
    """And begins the silence anew."""
    service = presence()
    assert not service.has_spoken
    service.asked(130.0)
    service.heard(134.0)
    assert service.has_spoken
    assert (service.ask_at, service.gone_at) == (164.0, None)


def test_who_never_confirmed_anything_is_not_asked():
    """It would not answer, and be left for that."""
    assert presence(answers=False).ask_at is None


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=30))
def test_it_is_gone_only_when_asked_and_never_heard_since(steps):
    """Whatever the order."""
    service, now, asked, heard = presence(), 100.0, None, 100.0
    for is_heard, delay in steps:
        now += delay
        if is_heard:
            service.heard(now)
            asked, heard = None, now
        elif service.ask_at is not None:
            service.asked(now)
            asked = now
        assert service.gone_at == (None if asked is None else asked + 5.0)
        assert service.silent_for(now) == now - heard
