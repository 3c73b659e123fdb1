import pytest

from realtalk_async import events
from realtalk_async.voice import events as voice_events
from realtalk_async.voice.timeline import recorder
from realtalk_async.voice.timeline.marks import Mark
from realtalk_async.voice.timeline.recorder import TimelineRecorder


class Clock:
    """A clock that shows the time that a test sets."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def timeline(clock):
    return TimelineRecorder(clock)


def test_successive_pieces_of_audio_are_one_mark_until_a_gap(timeline):
    timeline.began_at = 100.0
    for at in (101.0, 101.02, 101.04, 102.0):
        timeline.add_audio("recorder", "sound", at, at + 0.02, 0.02)
    timeline.add_audio("service", "audio", 101.0, 101.0, 0.5)
    timeline.add_audio("service", "audio", 101.1, 101.1, 0.5)
    recorded, received, later = timeline.marks
    assert (recorded.at, recorded.amount) == pytest.approx((1.0, 0.06))
    assert recorded.until == pytest.approx(1.06)
    assert (received.at, received.amount) == pytest.approx((1.0, 1.0))
    assert later.at == pytest.approx(2.0)


def test_sound_tap_gives_audio_with_its_duration(timeline):
    timeline.recorded(bytes(4800), 1.0)
    timeline.received(None, bytes(48_000), 2.0)
    timeline.played(None, bytes(24_000), 2.5)
    assert timeline.marks == (
        Mark(1.0, "recorder", "sound", "", 1.0, 0.1),
        Mark(2.0, "service", "audio", "", 2.0, 1.0),
        Mark(2.5, "speaker", "heard", "", 3.0, 0.5),
    )


def test_span_lasts_until_its_end_and_an_end_without_begin_is_ignored(timeline):
    timeline.end("user", "speech", 1.0)
    timeline.begin("user", "speech", 2.0)
    timeline.add_moment("connection", "lost", 3.0, "broken")
    timeline.end("user", "speech", 4.0, "hello")
    assert timeline.marks == (
        Mark(2.0, "user", "speech", "hello", 4.0),
        Mark(3.0, "connection", "lost", "broken"),
    )


def test_memory_is_bounded_and_dropped_marks_are_counted(timeline, monkeypatch):
    monkeypatch.setattr(recorder, "MAX_MARKS", 10)
    for number in range(24):
        timeline.begin("user", "speech", number)
        timeline.end("user", "speech", number + 0.5)
    assert timeline.dropped + len(timeline.marks) == 24
    assert len(timeline.marks) <= 10
    assert timeline.marks[-1] == Mark(23.0, "user", "speech", "", 23.5)


def test_session_events_become_marks_on_their_tracks(timeline, clock):
    outcome = voice_events.Outcome("r1", voice_events.Status.COMPLETED, "Five.")
    for clock.now, event in enumerate(
        [
            voice_events.Connected("s", "m"),
            voice_events.SpeechStarted("i"),
            voice_events.SpeechStopped("i"),
            voice_events.UserTranscript("i", "Two and three?"),
            voice_events.ToolCalled("c", "add", "{}"),
            voice_events.ToolFinished("c", "add", "5", 0.1),
            voice_events.ResponseText("r1", "i", "Fi"),
            voice_events.ResponseFinished(outcome),
            voice_events.Interrupted("i", 1, 2, "Fi"),
            voice_events.ConnectionLost("broken"),
            voice_events.ConnectionRestored(0.1, 3),
            voice_events.ConnectionRecycled(3540.0),
            voice_events.ServiceError("code", "message", "", "", fatal=False),
            voice_events.EventsMissed(3),
        ]
    ):
        timeline.on_event(event)
    assert [(m.at, m.track, m.kind, m.until) for m in timeline.marks] == [
        (0, "connection", "connected", None),
        (0, "connection", "up", 9),
        (1, "user", "speech", 2),
        (3, "user", "transcript", None),
        (4, "tools", "call", 5),
        (6, "service", "text", 6),
        (7, "service", "completed", None),
        (8, "speaker", "interrupted", None),
        (9, "connection", "lost", None),
        (10, "connection", "restored", None),
        (10, "connection", "up", 11),
        (11, "connection", "recycled", None),
        (12, "service", "error", None),
    ]


def test_failures_and_restarts_of_recorder_and_player_become_marks(timeline):
    died = {"pid": 7, "exit_status": -9, "cause": "signalled", "uptime": 1.0}
    for event in (
        events.ProcessExited(process="recorder", summary="killed", **died),
        events.ProcessRestarted(process="recorder", pid=8, downtime=0.02),
        events.ProcessExited(process="database", summary="killed", **died),
        events.ProbeFailed(process="player", probe="silence", reason="silent"),
        events.ProcessGivenUp(process="player", reason="too often"),
        events.ProcessStarted(process="player", pid=9),
        events.ProcessExited(
            process="player", summary="", **{**died, "cause": "stopped by us"}
        ),
    ):
        timeline.on_process_event(event)
    assert [(m.track, m.kind, m.text) for m in timeline.marks] == [
        ("recorder", "died", "killed"),
        ("recorder", "restarted", "after 20 ms"),
        ("player", "failed", "silent"),
        ("player", "given up", "too often"),
    ]
