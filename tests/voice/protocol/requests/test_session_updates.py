"""Changes of the session: confirmed, refused, overdue, and sent again."""

from __future__ import annotations

import pytest

from realtalk_async.exceptions import RequestRefused, WaitExpired
from realtalk_async.voice.protocol.microphone import MicrophoneBuffer
from realtalk_async.voice.protocol.requests.message_queue import MessageQueue
from realtalk_async.voice.protocol.requests.session_config import SessionConfig
from realtalk_async.voice.protocol.requests.session_updates import SessionUpdates
from realtalk_async.voice.protocol.turns import Turn

SLOW, FAST = (
    {"audio": {"output": {"speed": 0.5}}},
    {"audio": {"output": {"speed": 1.5}}},
)


@pytest.fixture
def queue():
    return MessageQueue()


@pytest.fixture
def published():
    return []


@pytest.fixture
def updates(queue, published):
    microphone = MicrophoneBuffer()
    return SessionUpdates(
        *(SessionConfig(), queue, Turn(microphone, 30), microphone, published.append),
        grace=5,
        timeout=30,
    )


def confirm(updates, published):
    """Let the service confirm a message; return the change that is kept, if any."""
    published.clear()
    updates.confirmed(1)
    return [event.options for event in published]


def sent(queue):
    """Return the ids and sessions of the messages that wait."""
    return [(m["event_id"], m["session"]) for m in iter(queue.pop, None)]


def test_each_confirmation_belongs_to_the_oldest_message(updates, published):
    updates.connection_opened()
    first, second = updates.add(SLOW), updates.add(FAST)
    updates.send_waiting(now=1)
    assert confirm(updates, published) == []  # the configuration
    assert confirm(updates, published) == [SLOW]
    assert (first.is_over, second.is_over) == (True, False)
    updates.send({"type": "session.update", "session": {"type": "realtime"}})
    assert confirm(updates, published) == [FAST]
    assert second.is_over
    assert confirm(updates, published) == []  # the keepalive
    assert confirm(updates, published) == []  # none was sent
    assert updates.config.to_message()["audio"]["output"]["speed"] == 1.5


def test_an_error_refuses_the_message_that_it_names(updates, queue):
    updates.connection_opened()
    first, second = updates.add(SLOW), updates.add(FAST)
    updates.send_waiting(now=1)
    _, (event_id, _), _ = sent(queue)
    assert updates.refused(event_id, "", "invalid_value", "too slow")
    assert isinstance(first.error, RequestRefused)
    assert str(first.error) == (
        "the service refused session.update: invalid_value: too slow"
    )
    assert not updates.refused("evt_other", "session.audio", "x", "y")
    assert "speed" not in updates.config.to_message()["audio"]["output"]
    updates.confirmed(1)
    updates.confirmed(1)
    assert (second.is_over, second.error) == (True, None)


def test_an_error_without_an_id_is_recognised_by_the_field(updates):
    updates.connection_opened()
    change = updates.add(SLOW)
    updates.send_waiting(now=1)
    assert not updates.refused("", "item.content", "invalid_value", "empty")
    assert updates.refused("", "session.audio.output.speed", "invalid_value", "slow")
    assert change.error is not None


def test_a_change_under_way_is_sent_again_on_the_next_connection(updates, queue):
    updates.connection_opened()
    updates.confirmed(1)
    first, second = updates.add(SLOW), updates.add(FAST)
    updates.send_waiting(now=1)
    third = updates.add({"instructions": "Sing."})
    updates.connection_lost()
    assert updates.deadline(confirms=True) is None
    sent(queue)
    updates.connection_opened()
    updates.send_waiting(now=2)
    assert [session.get("instructions") for _, session in sent(queue)] == [
        *(None, None, None, "Sing."),
    ]
    for _ in range(4):
        updates.confirmed(2)
    assert [change.is_over for change in (first, second, third)] == [True] * 3


def test_a_change_counts_with_a_service_that_confirms_nothing(updates):
    change = updates.add(SLOW)
    updates.send_waiting(now=1)
    assert updates.deadline(confirms=False) == 6
    updates.end_overdue(5.9, confirms=False)
    assert not change.is_over
    updates.end_overdue(6, confirms=False)
    assert (change.is_over, change.error) == (True, None)


def test_a_change_that_only_is_not_confirmed_ends_with_an_error(updates):
    change = updates.add(SLOW)
    updates.send_waiting(now=1)
    assert updates.deadline(confirms=True) == 31
    updates.end_overdue(31, confirms=True)
    assert isinstance(change.error, WaitExpired)
    assert updates.deadline(confirms=True) is None


def test_a_withdrawn_change_is_not_sent(updates, queue):
    change = updates.add(SLOW)
    updates.withdraw(change)
    updates.send_waiting(now=1)
    assert sent(queue) == []
    updates.withdraw(change)


def test_a_change_that_breaks_each_connection_is_given_up(updates):
    change = updates.add(SLOW)
    for _ in range(3):
        assert not change.is_over
        updates.connection_opened()
        updates.send_waiting(now=1)
        updates.connection_lost()
    assert isinstance(change.error, RequestRefused)
    assert "the connection broke 3 times after it was sent" in str(change.error)
