"""The time line: what is kept of a session, and its picture."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async import events
from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.voice import events as words
from realtalk_async.voice.timeline import recorder, svg
from realtalk_async.voice.timeline.marks import write_down, write_down_process
from realtalk_async.voice.timeline.recorder import LANES, Chronicle, Mark

SVG = "{http://www.w3.org/2000/svg}"


def draw(marks):
    """Return the picture as a tree, which it must be."""
    return ET.fromstring(svg.render(marks))


def titles(marks):
    """Return what is told to who points at things."""
    return [element.text for element in draw(marks).iter(f"{SVG}title")]


# --- Keeping ----------------------------------------------------------------------


def test_pieces_of_sound_that_follow_each_other_are_one_mark():
    """Until there is a hole; each kind by itself."""
    kept = Chronicle(100.0)
    for at in (101.0, 101.02, 101.04, 102.0):
        kept.note_sound("recorder", "sound", at, at + 0.02, 0.02)
    kept.note_sound("service", "audio", 101.0, 101.0, 0.5)
    kept.note_sound("service", "audio", 101.1, 101.1, 0.5)
    recorded, came, later = kept.marks
    assert (recorded.at, recorded.amount) == pytest.approx((1.0, 0.06))
    assert recorded.until == pytest.approx(1.06)
    assert (came.at, came.amount) == pytest.approx((1.0, 1.0))
    assert later.at == pytest.approx(2.0)


def test_what_is_opened_lasts_until_it_is_closed():
    """What was not opened cannot be closed."""
    kept = Chronicle(0.0)
    kept.close("user", "speech", 1.0)
    kept.open("user", "speech", 2.0)
    kept.note("connection", "lost", 3.0, "broken")
    kept.close("user", "speech", 4.0, "hello")
    assert kept.marks == (
        Mark(2.0, "user", "speech", "hello", 4.0),
        Mark(3.0, "connection", "lost", "broken"),
    )


def test_memory_is_bounded_and_what_is_dropped_is_counted(monkeypatch):
    """The newest are kept."""
    monkeypatch.setattr(recorder, "_MOST", 10)
    kept = Chronicle(0.0)
    for number in range(24):
        kept.open("user", "speech", number)
        kept.close("user", "speech", number + 0.5)
    assert kept.dropped + len(kept.marks) == 24
    assert len(kept.marks) <= 10
    assert kept.marks[-1] == Mark(23.0, "user", "speech", "", 23.5)


def test_voice_events_are_written_down():
    """Each in its lane; what nobody needs to see is left out."""
    kept = Chronicle(0.0)
    outcome = words.Outcome("r1", words.Status.COMPLETED, "Five.")
    for now, event in enumerate(
        [
            words.Connected("s", "m"),
            words.SpeechStarted("i"),
            words.SpeechStopped("i"),
            words.UserTranscript("i", "Two and three?"),
            words.ToolCalled("c", "add", "{}"),
            words.ToolFinished("c", "add", "5", 0.1),
            words.ResponseText("r1", "i", "Fi"),
            words.ResponseFinished(outcome),
            words.Interrupted("i", 1, 2, "Fi"),
            words.ConnectionLost("broken"),
            words.ConnectionRestored(0.1, 3),
            words.ConnectionRecycled(3540.0),
            words.ServiceError("code", "message", "", "", fatal=False),
            words.EventsMissed(3),
        ]
    ):
        write_down(kept, event, now)
    assert [(m.at, m.lane, m.kind, m.until) for m in kept.marks] == [
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


def test_deaths_and_recoveries_are_written_down():
    """Of recorder and player; other children of the app are not ours to tell of."""
    kept = Chronicle(0.0)
    died = {"pid": 7, "exit_status": -9, "cause": "signalled", "uptime": 1.0}
    for now, event in enumerate(
        [
            events.ProcessExited(process="recorder", summary="killed", **died),
            events.ProcessRestarted(process="recorder", pid=8, downtime=0.02),
            events.ProcessExited(process="database", summary="killed", **died),
            events.ProbeFailed(process="player", probe="silence", reason="silent"),
            events.ProcessGivenUp(process="player", reason="too often"),
            events.ProcessStarted(process="player", pid=9),
            events.ProcessExited(
                process="player", summary="", **{**died, "cause": "stopped by us"}
            ),
        ]
    ):
        write_down_process(kept, event, now)
    assert [(m.lane, m.kind, m.text) for m in kept.marks] == [
        ("recorder", "died", "killed"),
        ("recorder", "revived", "after 20 ms"),
        ("player", "failed", "silent"),
        ("player", "given up", "too often"),
    ]


# --- Saving -----------------------------------------------------------------------

MARKS = st.builds(
    Mark,
    at=st.integers(0, 10**6).map(lambda n: n / 1000),
    lane=st.sampled_from(LANES),
    kind=st.text(max_size=8),
    text=st.text(max_size=20),
    until=st.none() | st.integers(0, 10**6).map(lambda n: n / 1000),
    amount=st.integers(0, 10**6).map(lambda n: n / 1000),
)


@given(st.lists(MARKS, max_size=20))
def test_what_is_saved_is_loaded_again(tmp_path_factory, marks):
    """Every mark, whatever it says."""
    path = tmp_path_factory.mktemp("timeline") / "marks.jsonl"
    svg.save(marks, path)
    loaded = svg.load(path)
    assert [mark.to_dict() for mark in loaded] == [mark.to_dict() for mark in marks]


@pytest.mark.parametrize(
    "line",
    ['{"at":1', "[]", "{}", '{"at":1,"lane":"x"}', '{"at":"1","lane":"user"}'],
)
def test_a_file_that_is_no_time_line_is_said_so(tmp_path, line):
    """With the line at fault."""
    path = tmp_path / "marks.jsonl"
    path.write_text('{"at":1,"lane":"user"}\n\n' + line)
    with pytest.raises(InvalidConfiguration, match="line 3"):
        svg.render(path)


# --- Drawing ----------------------------------------------------------------------


@given(st.lists(MARKS, max_size=30))
def test_every_picture_is_well_formed_and_nothing_is_left_out(marks):
    """Whatever was said, and whenever; all within the frame."""
    tree = draw(marks)
    told = {e.text for e in tree.iter(f"{SVG}title")}
    assert len(told) >= len({mark.at for mark in marks if mark.until is None})
    width = float(tree.attrib["width"])
    for rect in tree.iter(f"{SVG}rect"):
        assert 0 <= float(rect.attrib.get("x", 0)) <= width


def test_a_picture_says_what_happened():
    """Spans, moments, words."""
    marks = [
        Mark(0.5, "user", "speech", "", 2.5),
        Mark(2.6, "user", "transcript", "two <plus> three & \x00 more"),
        Mark(1.0, "recorder", "died", "killed by SIGKILL"),
        Mark(3.0, "service", "audio", "", 3.1, 2.0),
        Mark(3.1, "speaker", "heard", "", 5.1, 2.0),
    ]
    assert titles(marks) == [
        "user, speech, 0.500 s to 2.500 s",
        "service, audio, 3.000 s to 3.100 s, 2.00 s of sound",
        "speaker, heard, 3.100 s to 5.100 s, 2.00 s of sound",
        "user, transcript, 2.600 s: two <plus> three &  more",
        "recorder, died, 1.000 s: killed by SIGKILL",
    ]
    shown = {element.text for element in draw(marks).iter(f"{SVG}text")}
    assert "two <plus> three &  more" in shown
    assert {"user", "recorder", "service", "speaker"} <= shown
    assert "tools" not in shown


def test_a_long_session_has_rows_of_half_a_minute():
    """And never more than forty."""
    height = {
        seconds: float(draw([Mark(seconds, "user", "transcript")]).attrib["height"])
        for seconds in (10, 25, 95, 3600, 7200)
    }
    assert height[10] == height[25] < height[95] < height[3600] == height[7200]
    assert len(titles([Mark(1.0, "user", "speech", "", 95.0)])) == 4


def test_a_picture_of_nothing_is_a_picture():
    """Of a session that has just begun."""
    assert draw([]).tag == f"{SVG}svg"
