import io
from datetime import UTC, datetime, timedelta

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from realtalk_async.voice.eventlog import EventLog, print_table
from realtalk_async.voice.protocol import messages

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def audio(size=960):
    """Return an event with audio of the microphone."""
    return {**messages.append_audio(bytes(size)), "event_id": "evt_1"}


def filled():
    """Return a log of six entries; one is a run of three events."""
    log = EventLog()
    log.record("sent", {"type": "session.update"}, START)
    log.record("received", {"type": "session.updated"}, START + timedelta(seconds=1))
    for step in range(3):
        log.record("sent", audio(), START + timedelta(seconds=2 + step))
    log.record("received", {"type": "response.created"}, START + timedelta(seconds=5))
    log.record("sent", audio(), START + timedelta(seconds=6))
    log.record("received", {"type": "response.done"}, START + timedelta(seconds=7))
    return log


def test_events_are_kept_in_order_with_their_time_and_direction():
    log = filled()
    assert [(e.direction, e.type) for e in log] == [
        ("sent", "session.update"),
        ("received", "session.updated"),
        ("sent", "input_audio_buffer.append"),
        ("received", "response.created"),
        ("sent", "input_audio_buffer.append"),
        ("received", "response.done"),
    ]
    assert log[0].at == START
    assert [e.type for e in log[-2:]] == ["input_audio_buffer.append", "response.done"]
    assert repr(log) == "<EventLog: 6 events>"


def test_run_of_audio_events_is_one_entry_with_count_and_times():
    run = filled()[2]
    assert (run.count, run.audio_bytes) == (3, 2880)
    assert run.at == START + timedelta(seconds=2)
    assert run.until == START + timedelta(seconds=4)
    assert run.data["audio"] == "<960 bytes of audio>"
    assert run.data["event_id"] == "evt_1"


def test_audio_of_both_directions_forms_two_runs():
    """The events alternate while both sides speak."""
    log = EventLog()
    delta = {"type": "response.output_audio.delta", "delta": "AAAA"}
    for _ in range(5):
        log.record("sent", audio())
        log.record("received", delta)
    assert [(e.direction, e.count) for e in log] == [("sent", 5), ("received", 5)]


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_size_of_audio_is_exact(pcm):
    log = EventLog()
    log.record("sent", messages.append_audio(pcm))
    assert log[0].audio_bytes == len(pcm)


def test_audio_that_is_no_text_counts_as_0_bytes():
    log = EventLog()
    log.record("received", {"type": "response.output_audio.delta", "delta": None})
    log.record("received", {"no": "type"})
    assert [e.audio_bytes for e in log] == [0, 0]


def test_find_filters_by_type_direction_time_and_number():
    log = filled()
    assert len(log.find()) == 6
    assert [e.type for e in log.find("^response")] == [
        "response.created",
        "response.done",
    ]
    assert [e.type for e in log.find(direction="received", n=1)] == ["response.done"]
    assert len(log.find(since=START + timedelta(seconds=5))) == 3
    assert log.find(n=0) == []
    assert len(log.find(n=100)) == 6


def test_table_has_one_line_for_each_event():
    out = io.StringIO()
    log = filled()
    log.record("received", {"type": "error", "error": {"message": "x\n" * 200}})
    print_table(log, out)
    lines = out.getvalue().splitlines()
    assert len(lines) == 7
    assert lines[2].startswith("12:00:02.000 → input_audio_buffer.append")
    assert lines[2].endswith("3 x audio, 2,880 bytes")
    assert lines[6].endswith("…")
    assert len(lines[6]) < 180


def test_entries_can_be_written_as_json():
    for event in filled():
        assert orjson.loads(orjson.dumps(event.to_dict()))["type"] == event.type


def test_the_oldest_entries_are_dropped_and_counted():
    log = EventLog(most=20)
    for number in range(100):
        log.record("received", {"type": "response.done", "number": number}, START)
    kept = [event.data["number"] for event in log]
    assert kept == list(range(100 - len(kept), 100))
    assert 18 <= len(kept) <= 20
    assert log.dropped == 100 - len(kept)
    out = io.StringIO()
    print_table(log.find(n=1), out, log.dropped)
    first, second = out.getvalue().splitlines()
    assert first == f"({log.dropped} older events are not kept any more)"
    assert "response.done" in second


def test_the_bytes_of_entries_are_bounded_too():
    """The newest entry is always kept."""
    log = EventLog(most_bytes=10_000)
    for number in range(50):
        log.record("received", {"type": f"t{number}", "text": "x" * 1000}, START)
    assert 8 <= len(log) <= 10
    log.record("received", {"type": "large", "text": "x" * 20_000}, START)
    assert [event.type for event in log] == ["large"]
    log.record("received", {"type": "odd", "text": "\ud800"}, START)
    assert len(log) + log.dropped == 52


def test_a_run_of_audio_goes_on_after_entries_were_dropped():
    log = EventLog(most=3)
    for number in range(10):
        log.record("received", {"type": f"t{number}"}, START)
        log.record("sent", audio(), START)
        log.record("sent", audio(), START)
    assert [event.count for event in log if event.audio_bytes] == [2, 2]
