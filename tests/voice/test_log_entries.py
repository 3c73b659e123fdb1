"""How voice events read in the log."""

import pytest

from realtalk_async.voice import events as words
from realtalk_async.voice.events import Outcome, Status
from realtalk_async.voice.log_entries import narrate


def finished(status, reason=""):
    """Return the event of a reply that ended so."""
    return words.ResponseFinished(Outcome("r1", status, "Five.", reason))


def tool_finished(*, failed):
    """Return the event of a tool that answered, or failed."""
    return words.ToolFinished("c1", "look", "sunny", 0.1, failed=failed)


LINES = [
    (words.Connected("s1", "m"), "INFO", "connection", "Connected"),
    (words.ConnectionLost("1006"), "ERROR", "connection", "Connection lost"),
    (words.ConnectionRestored(1.5, 2), "INFO", "connection", "Connection restored"),
    (
        words.ConnectionRecycled(3540.0),
        *("INFO", "connection", "Connection recycled"),
    ),
    (words.ToolCalled("c1", "look", "{}"), "INFO", "session", "Tool called"),
    (tool_finished(failed=False), "INFO", "session", "Tool answered"),
    (tool_finished(failed=True), "WARNING", "session", "Tool failed"),
    (
        words.DeviceFailed("recorder", words.Trouble.BUSY, "exit status 1", "wait"),
        *("WARNING", "recorder", "Device failed"),
    ),
    (words.EventsMissed(3), "WARNING", "session", "3 events missed"),
    (words.SpeechStarted("u1"), "INFO", "session", "Speech started"),
    (words.SpeechStopped("u1"), "INFO", "session", "Speech stopped"),
    (words.ResponseStarted("r1"), "INFO", "session", "Reply started"),
    (words.UserTranscript("u1", "Hi"), "INFO", "session", "User said"),
    (words.TranscriptionFailed("u1", "no"), "WARNING", "session", "Not transcribed"),
    (finished(Status.COMPLETED), "INFO", "session", "Reply completed"),
    (finished(Status.CANCELLED, "client"), "INFO", "session", "Reply cancelled"),
    (finished(Status.LOST, "1006"), "WARNING", "session", "Reply lost"),
    (finished(Status.STALLED, "30 s"), "WARNING", "session", "Reply stalled"),
    (words.Interrupted("i1", 5, 9, "Fi"), "INFO", "session", "Reply interrupted"),
    (words.ProtocolProblem("not JSON"), "WARNING", "connection", "Skipped"),
    (words.UnknownEvent("x.y", {}), "WARNING", "connection", "Unknown event"),
    (
        words.ServiceError("c", "m", "e", "t", fatal=False),
        *("WARNING", "connection", "The service reports an error"),
    ),
    (
        words.ServiceError("c", "m", "e", "t", fatal=True),
        *("ERROR", "connection", "The service reports an error"),
    ),
]


@pytest.mark.parametrize(
    ("event", "level", "component", "message"), LINES, ids=[e.kind for e, *_ in LINES]
)
def test_each_event_has_its_line(event, level, component, message):
    """Level, component and words; and a line for people, and a form for JSON."""
    line = narrate(event)
    assert line is not None
    assert line[:3] == (level, component, message)
    assert str(event)
    assert event.to_dict()["kind"] == event.kind


def test_what_happens_all_the_time_is_not_logged():
    """Pieces of text come many times a second."""
    assert narrate(words.ResponseText("r1", "i1", "Fi")) is None


def test_a_reply_is_logged_with_its_text_and_the_reason_of_its_end():
    """As far as there are any."""
    assert narrate(finished(Status.COMPLETED))[3] == {"text": "Five."}
    assert narrate(finished(Status.FAILED, "x"))[3] == {"text": "Five.", "reason": "x"}


def test_every_kind_of_event_is_told_by_its_own_name():
    """Two events of one kind could not be told apart."""
    things = [thing for thing in vars(words).values() if isinstance(thing, type)]
    events = [thing for thing in things if issubclass(thing, words.VoiceEvent)]
    assert len({event.kind for event in events}) == len(events) == 20
