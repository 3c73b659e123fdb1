"""Changes of the session: confirmed, refused, overdue, and sent again."""

from __future__ import annotations

import pytest

from realtalk_async.exceptions import RequestRefused, WaitExpired
from realtalk_async.voice.protocol.requests.message_queue import MessageQueue
from realtalk_async.voice.protocol.requests.session_config import SessionConfig
from realtalk_async.voice.protocol.requests.session_updates import SessionUpdates

SLOW, FAST = (
    {"audio": {"output": {"speed": 0.5}}},
    {"audio": {"output": {"speed": 1.5}}},
)


@pytest.fixture
def queue():
    return MessageQueue()


@pytest.fixture
def updates(queue):
    return SessionUpdates(SessionConfig(), queue, grace=5, timeout=30)


def sent(queue):
    """Return the ids and sessions of the messages that wait."""
    return [(m["event_id"], m["session"]) for m in iter(queue.pop, None)]


def test_each_confirmation_belongs_to_the_oldest_message(updates):
    updates.configure()
    first, second = updates.add(SLOW), updates.add(FAST)
    updates.send_waiting(now=1)
    assert updates.confirmed() is None  # the configuration
    assert updates.confirmed() is first
    updates.send({"type": "session.update", "session": {"type": "realtime"}})
    assert updates.confirmed() is second
    assert (first.is_over, second.is_over) == (True, True)
    assert updates.confirmed() is None  # the keepalive
    assert updates.confirmed() is None  # none was sent


def test_an_error_refuses_the_message_that_it_names(updates, queue):
    updates.configure()
    first, second = updates.add(SLOW), updates.add(FAST)
    updates.send_waiting(now=1)
    _, (event_id, _), _ = sent(queue)
    assert updates.refused(event_id, "", "invalid_value", "too slow")
    assert isinstance(first.error, RequestRefused)
    assert str(first.error) == (
        "the service refused session.update: invalid_value: too slow"
    )
    assert not updates.refused("evt_other", "session.audio", "x", "y")
    updates.confirmed()
    assert updates.confirmed() is second


def test_an_error_without_an_id_is_recognised_by_the_field(updates):
    updates.configure()
    change = updates.add(SLOW)
    updates.send_waiting(now=1)
    assert not updates.refused("", "item.content", "invalid_value", "empty")
    assert updates.refused("", "session.audio.output.speed", "invalid_value", "slow")
    assert change.error is not None


def test_a_change_under_way_is_sent_again_on_the_next_connection(updates, queue):
    updates.configure()
    updates.confirmed()
    first, second = updates.add(SLOW), updates.add(FAST)
    updates.send_waiting(now=1)
    third = updates.add({"instructions": "Sing."})
    updates.connection_lost()
    assert updates.deadline(confirms=True) is None
    sent(queue)
    updates.configure()
    updates.send_waiting(now=2)
    assert [session.get("instructions") for _, session in sent(queue)] == [
        *(None, None, None, "Sing."),
    ]
    updates.confirmed()
    assert [updates.confirmed() for _ in range(3)] == [first, second, third]


def test_a_change_counts_with_a_service_that_confirms_nothing(updates):
    change = updates.add(SLOW)
    updates.send_waiting(now=1)
    assert updates.deadline(confirms=False) == 6
    assert list(updates.overdue(5.9, confirms=False)) == []
    assert list(updates.overdue(6, confirms=False)) == [change]
    assert (change.is_over, change.error) == (True, None)


def test_a_change_that_only_is_not_confirmed_ends_with_an_error(updates):
    change = updates.add(SLOW)
    updates.send_waiting(now=1)
    assert updates.deadline(confirms=True) == 31
    assert list(updates.overdue(31, confirms=True)) == [change]
    assert isinstance(change.error, WaitExpired)
    assert updates.deadline(confirms=True) is None


def test_a_withdrawn_change_is_not_sent(updates, queue):
    change = updates.add(SLOW)
    updates.withdraw(change)
    updates.send_waiting(now=1)
    assert sent(queue) == []
    updates.withdraw(change)
