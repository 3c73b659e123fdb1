"""Where speech begins and ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.offline.effects import FRAME_MS
from realtalk_async.offline.vad import ONSET_FRAMES, ONSET_VOICED, Edge, Gate, Patience


def edges(voiced: list[bool], silence_ms: int = 200) -> list[tuple[int, Edge]]:
    """Return at which frames something changed."""
    gate = Gate()
    pushed = (gate.push(voiced=voice, silence_ms=silence_ms) for voice in voiced)
    return [(index, edge) for index, edge in enumerate(pushed) if edge]


def test_a_click_is_no_speech():
    """A voice must last."""
    assert edges([False] * 9 + [True] * (ONSET_VOICED - 1) + [False] * 20) == []


def test_speech_starts_once_the_voice_has_lasted():
    """At the frame that makes it enough."""
    started = edges([False] * 10 + [True] * 10)
    assert started == [(9 + ONSET_VOICED, Edge.STARTED)]


def test_a_pause_shorter_than_the_silence_is_no_end():
    """Only unbroken silence counts."""
    pause = [False] * 9
    assert len(edges([True] * 10 + pause + [True] + pause + [True])) == 1


def test_speech_stops_at_the_frame_that_completes_the_silence():
    """No sooner, no later."""
    assert edges([True] * 10 + [False] * 30, 200)[1] == (19, Edge.STOPPED)


@given(st.lists(st.booleans(), max_size=300), st.integers(1, 40))
def test_starts_and_stops_alternate(voiced: list[bool], frames: int):
    """Whatever is heard: a start first, and each stop after its silence."""
    silence_ms = frames * FRAME_MS
    found = edges(voiced, silence_ms)
    kinds = [edge for _, edge in found]
    assert (
        kinds
        == [Edge.STARTED, Edge.STOPPED] * (len(kinds) // 2)
        + kinds[len(kinds) // 2 * 2 :]
    )
    assert kinds[:1] in ([], [Edge.STARTED])
    for index, edge in found:
        if edge is Edge.STOPPED:
            assert not any(voiced[index - frames + 1 : index + 1])
        else:
            window = voiced[max(index - ONSET_FRAMES + 1, 0) : index + 1]
            assert sum(window) >= ONSET_VOICED


def test_reset_forgets_a_voice_that_had_begun():
    """The next frame is the first."""
    gate = Gate()
    for _ in range(ONSET_VOICED - 1):
        gate.push(voiced=True, silence_ms=200)
    gate.reset()
    assert gate.push(voiced=True, silence_ms=200) is None
    assert not gate.speaking


@given(st.integers(0, 10_000), st.integers(0, 20_000), st.integers(1, 10_000))
def test_patience_ends_exactly_when_the_timeout_is_over(heard_ms, now_ms, timeout_ms):
    """Counted from the moment at which the answer has been heard."""
    patience = Patience()
    assert patience.due(now_ms, timeout_ms) is None
    patience.begin(heard_ms)
    late = now_ms >= heard_ms + timeout_ms
    assert patience.due(now_ms, timeout_ms) == (heard_ms if late else None)
    patience.end()
    assert patience.due(now_ms, timeout_ms) is None
