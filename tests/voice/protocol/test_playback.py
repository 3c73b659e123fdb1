"""Playback: the amounts of audio that are written ahead, and that were heard."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtalk_async.voice.protocol.playback import Cut, Part, Playback

MS = 48
A = Part("a", 0)
B = Part("b", 0)


# --- The player -------------------------------------------------------------------


def test_only_the_lead_is_written_ahead_of_the_clock():
    """The rest stays in the queue, where it can be cleared."""
    playback = Playback(ahead_ms=60)
    playback.push(A, bytes(1000 * MS), now=10.0)
    assert len(playback.due(10.0)) == 60 * MS
    assert playback.due(10.0) == b""
    assert playback.level_ms(10.0) == pytest.approx(60)
    assert playback.wait(10.0) == pytest.approx(0.031)
    assert len(playback.due(10.040)) == pytest.approx(40 * MS, abs=2)
    assert playback.queued == pytest.approx(900 * MS, abs=2)
    assert playback.remaining(10.040) == pytest.approx(0.960, abs=0.001)


def test_writes_have_a_minimum_size():
    """However often the buffer is asked."""
    playback = Playback(ahead_ms=60)
    playback.push(A, bytes(1000 * MS), now=0.0)
    writes = [len(playback.due(step / 10_000)) for step in range(10_000)]
    sizes = [size // MS for size in writes if size]
    assert len(sizes) < 40
    assert min(sizes[:-1]) >= 29


def test_an_empty_buffer_has_no_time_of_its_next_write():
    playback = Playback()
    assert playback.due(1.0) == b""
    assert playback.wait(1.0) is None
    assert playback.remaining(1.0) == 0


def test_clearing_the_queue_returns_the_milliseconds_that_were_heard():
    """Twelve seconds arrived at once; the user interrupted after one."""
    playback = Playback(ahead_ms=60)
    playback.push(A, bytes(12_000 * MS), now=0.0)
    for step in range(51):
        playback.due(step / 50)
    (cut,) = playback.clear(1.0)
    assert (cut.part, cut.received_ms) == (A, 12_000)
    assert cut.heard_ms == pytest.approx(1060, abs=1)
    assert playback.queued == 0
    assert playback.due(1.5) == b""


def test_a_lost_speaker_drops_the_queue_and_all_later_audio():
    playback = Playback(ahead_ms=60)
    playback.push(A, bytes(1000 * MS), now=0.0)
    playback.due(0.0)
    playback.speaker_lost(0.1)
    playback.push(B, bytes(1000 * MS), now=0.2)
    assert playback.queued == 0
    assert playback.due(1.0) == b""


def test_audio_is_dropped_without_a_speaker():
    playback = Playback(has_speaker=False)
    playback.push(A, bytes(1000 * MS), now=0.0)
    assert playback.due(0.0) == b""
    assert playback.remaining(0.0) == 0
    assert playback.clear(0.0) == []


def test_audio_within_the_players_latency_was_not_heard():
    playback = Playback(ahead_ms=60, latency_ms=40)
    playback.push(A, bytes(1000 * MS), now=0.0)
    playback.due(0.0)
    assert playback.heard_ms(A, 0.0) == 20
    assert playback.clear(0.0) == [Cut(A, 20, 1000)]


def test_a_response_that_was_written_completely_is_not_interrupted():
    playback = Playback(ahead_ms=60)
    playback.push(A, bytes(50 * MS), now=0.0)
    playback.due(0.0)
    assert playback.clear(0.01) == []
    assert playback.heard_ms(A, 0.01) == 50


def test_each_queued_part_is_truncated_on_its_own():
    """One half heard, the next not at all, an earlier one completely."""
    playback = Playback(ahead_ms=60)
    whole = Part("whole", 0)
    playback.push(whole, bytes(30 * MS), now=0.0)
    playback.push(A, bytes(100 * MS), now=0.0)
    playback.push(B, bytes(100 * MS), now=0.0)
    playback.due(0.0)
    assert playback.clear(0.0) == [Cut(A, 30, 100), Cut(B, 0, 100)]


def test_an_underrun_within_a_response_makes_the_lead_larger():
    playback = Playback(ahead_ms=60, ahead_after_underrun_ms=200)
    playback.push(A, bytes(20 * MS), now=0.0)
    playback.due(0.0)
    playback.push(A, bytes(1000 * MS), now=0.5)
    assert playback.underruns == 1
    assert len(playback.due(0.5)) == 200 * MS


def test_silence_between_responses_is_no_underrun():
    playback = Playback(ahead_ms=60)
    playback.push(A, bytes(20 * MS), now=0.0)
    playback.due(0.0)
    playback.push(B, bytes(1000 * MS), now=5.0)
    assert playback.underruns == 0
    assert len(playback.due(5.0)) == 60 * MS


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.binary(max_size=3000), st.floats(0, 0.2), st.sampled_from([A, B])),
        max_size=40,
    )
)
def test_all_audio_is_written_once_in_order_at_most_the_lead_ahead_of_the_clock(pushes):
    now, playback, written = 100.0, Playback(ahead_ms=60), 0
    for pcm, pause, part in pushes:
        playback.push(part, pcm, now)
        now += pause
        chunk = playback.due(now)
        written += len(chunk)
        assert len(chunk) % 2 == 0
        assert playback.level_ms(now) <= 200.1
        for each in (A, B):
            assert playback.heard_ms(each, now) <= playback.received_ms(each)
    received = sum(len(pcm) for pcm, _, _ in pushes)
    assert written == playback.written
    assert 0 <= received - written - playback.queued <= 2  # half samples wait
    cuts = playback.clear(now)
    assert all(0 <= cut.heard_ms <= cut.received_ms for cut in cuts)


def test_half_samples_are_joined_across_deltas():
    """A server may split its audio anywhere."""
    playback = Playback()
    playback.push(A, b"\1\2\3", now=0.0)
    playback.push(A, b"\4\5\6", now=0.0)
    assert playback.due(0.0) == b"\1\2\3\4\5\6"


# --- Prebuffering -----------------------------------------------------------------


def test_a_response_begins_to_play_when_its_prebuffer_is_full():
    playback = Playback(ahead_ms=60, prebuffer_ms=100)
    playback.push(A, bytes(50 * MS), now=10.0)
    assert playback.due(10.0) == b""
    assert playback.wait(10.0) == pytest.approx(0.101)
    playback.push(A, bytes(50 * MS), now=10.02)
    assert len(playback.due(10.02)) == 60 * MS
    assert len(playback.due(10.06)) == 40 * MS
    assert playback.underruns == 0


def test_a_short_response_waits_no_longer_than_its_prebuffer():
    """The response may be complete."""
    playback = Playback(ahead_ms=60, prebuffer_ms=100)
    playback.push(A, bytes(20 * MS), now=10.0)
    assert playback.remaining(10.0) == pytest.approx(0.12)
    assert playback.due(10.099) == b""
    assert len(playback.due(10.1)) == 20 * MS


def test_each_response_is_prebuffered_anew():
    """If the earlier audio has been played."""
    playback = Playback(ahead_ms=60, prebuffer_ms=100)
    playback.push(A, bytes(100 * MS), now=10.0)
    playback.due(10.0)
    playback.due(10.04)
    playback.push(B, bytes(20 * MS), now=10.08)
    assert len(playback.due(10.08)) >= 20 * MS  # there is no hole to be filled
    playback.push(A, bytes(20 * MS), now=20.0)
    assert playback.due(20.0) == b""
