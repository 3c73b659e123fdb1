from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.offline.effects import FRAME_MS
from realtalk_async.offline.vad import (
    ONSET_FRAMES,
    ONSET_VOICED,
    IdleTimer,
    TurnChange,
    TurnDetector,
)


def changes(voiced: list[bool], silence_ms: int = 200) -> list[tuple[int, TurnChange]]:
    """Return the frames at which a turn starts or stops."""
    detector = TurnDetector()
    pushed = (detector.push(voiced=voice, silence_ms=silence_ms) for voice in voiced)
    return [(index, change) for index, change in enumerate(pushed) if change]


def test_a_click_starts_no_turn():
    assert changes([False] * 9 + [True] * (ONSET_VOICED - 1) + [False] * 20) == []


def test_a_turn_starts_at_the_frame_that_makes_the_voice_long_enough():
    started = changes([False] * 10 + [True] * 10)
    assert started == [(9 + ONSET_VOICED, TurnChange.STARTED)]


def test_a_pause_shorter_than_the_silence_does_not_stop_a_turn():
    pause = [False] * 9
    assert len(changes([True] * 10 + pause + [True] + pause + [True])) == 1


def test_a_turn_stops_at_the_frame_that_completes_the_silence():
    assert changes([True] * 10 + [False] * 30, 200)[1] == (19, TurnChange.STOPPED)


@given(st.lists(st.booleans(), max_size=300), st.integers(1, 40))
def test_starts_and_stops_alternate(voiced: list[bool], frames: int):
    silence_ms = frames * FRAME_MS
    found = changes(voiced, silence_ms)
    kinds = [change for _, change in found]
    assert (
        kinds
        == [TurnChange.STARTED, TurnChange.STOPPED] * (len(kinds) // 2)
        + kinds[len(kinds) // 2 * 2 :]
    )
    assert kinds[:1] in ([], [TurnChange.STARTED])
    for index, change in found:
        if change is TurnChange.STOPPED:
            assert not any(voiced[index - frames + 1 : index + 1])
        else:
            window = voiced[max(index - ONSET_FRAMES + 1, 0) : index + 1]
            assert sum(window) >= ONSET_VOICED


def test_reset_drops_the_voice_of_earlier_frames():
    detector = TurnDetector()
    for _ in range(ONSET_VOICED - 1):
        detector.push(voiced=True, silence_ms=200)
    detector.reset()
    assert detector.push(voiced=True, silence_ms=200) is None
    assert not detector.speaking


@given(st.integers(0, 10_000), st.integers(0, 20_000), st.integers(1, 10_000))
def test_the_idle_timer_expires_exactly_after_the_timeout(heard_ms, now_ms, timeout_ms):
    timer = IdleTimer()
    assert timer.expired_since(now_ms, timeout_ms) is None
    timer.start(heard_ms)
    late = now_ms >= heard_ms + timeout_ms
    assert timer.expired_since(now_ms, timeout_ms) == (heard_ms if late else None)
    timer.stop()
    assert timer.expired_since(now_ms, timeout_ms) is None
