"""Events of a voice session: line for people, JSON form, log entry."""

import pytest

from realtalk_async.voice import events
from realtalk_async.voice.events import Outcome, Status


def finished(status, reason=""):
    return events.ResponseFinished(Outcome("r1", status, "Five.", reason))


def tool_finished(*, failed):
    return events.ToolFinished("c1", "look", "sunny", 0.1, failed=failed)


LINES = [
    (events.Connected("s1", "m"), "INFO", "connection", "Connected"),
    (events.ConnectionLost("1006"), "ERROR", "connection", "Connection lost"),
    (events.ConnectionRestored(1.5, 2), "INFO", "connection", "Connection restored"),
    (
        events.ConnectionRecycled(3540.0),
        "INFO",
        "connection",
        "Connection recycled",
    ),
    (events.ToolCalled("c1", "look", "{}"), "INFO", "session", "Tool called"),
    (tool_finished(failed=False), "INFO", "session", "Tool finished"),
    (tool_finished(failed=True), "WARNING", "session", "Tool failed"),
    (
        events.DefaultDeviceChanged("recorder", "headset"),
        "INFO",
        "recorder",
        "Follows the default device",
    ),
    (
        events.SpeechIgnored(80, -40, "too short or too quiet"),
        "INFO",
        "session",
        "Speech ignored",
    ),
    (
        events.MicrophoneProblem(
            events.SoundProblem.SILENT, "nothing but digital silence", "unmute it"
        ),
        "WARNING",
        "recorder",
        "Microphone: nothing but digital silence",
    ),
    (
        events.DeviceFailed(
            "recorder", events.DeviceProblem.BUSY, "exit status 1", "wait"
        ),
        "WARNING",
        "recorder",
        "Device failed",
    ),
    (events.EventsMissed(3), "WARNING", "session", "3 events missed"),
    (events.SpeechStarted("u1"), "INFO", "session", "Speech started"),
    (events.SpeechStopped("u1"), "INFO", "session", "Speech stopped"),
    (events.ResponseStarted("r1"), "INFO", "session", "Response started"),
    (events.UserTranscript("u1", "Hi"), "INFO", "session", "User said"),
    (events.TranscriptionFailed("u1", "no"), "WARNING", "session", "Not transcribed"),
    (finished(Status.COMPLETED), "INFO", "session", "Response completed"),
    (finished(Status.CANCELLED, "client"), "INFO", "session", "Response cancelled"),
    (finished(Status.LOST, "1006"), "WARNING", "session", "Response lost"),
    (finished(Status.STALLED, "30 s"), "WARNING", "session", "Response stalled"),
    (events.Interrupted("i1", 5, 9, "Fi"), "INFO", "session", "Response interrupted"),
    (events.ProtocolProblem("not JSON"), "WARNING", "connection", "Message skipped"),
    (events.UnknownEvent("x.y", {}), "WARNING", "connection", "Unknown event"),
    (
        events.ServiceError("c", "m", "e", "t", fatal=False),
        "WARNING",
        "connection",
        "The service reported an error",
    ),
    (
        events.ServiceError("c", "m", "e", "t", fatal=True),
        "ERROR",
        "connection",
        "The service reported an error",
    ),
]


@pytest.mark.parametrize(
    ("event", "level", "component", "message"), LINES, ids=[e.kind for e, *_ in LINES]
)
def test_every_event_has_a_log_entry_with_level_component_and_message(
    event, level, component, message
):
    entry = event.log_entry()
    assert entry is not None
    assert entry[:3] == (level, component, message)
    assert str(event)
    assert event.to_dict()["kind"] == event.kind


def test_parts_of_a_text_are_not_logged():
    # They arrive many times a second.
    assert events.ResponseText("r1", "i1", "Fi").log_entry() is None


def test_a_finished_response_is_logged_with_its_text_and_reason():
    assert finished(Status.COMPLETED).log_entry().context == {"text": "Five."}
    assert finished(Status.FAILED, "x").log_entry().context == {
        "text": "Five.",
        "reason": "x",
    }


def test_every_event_has_a_kind_of_its_own():
    classes = [thing for thing in vars(events).values() if isinstance(thing, type)]
    kinds = [one.kind for one in classes if issubclass(one, events.VoiceEvent)]
    assert len(set(kinds)) == len(kinds) == 34
