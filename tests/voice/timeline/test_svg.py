import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.voice.timeline import svg
from realtalk_async.voice.timeline.marks import TRACKS, Mark

SVG = "{http://www.w3.org/2000/svg}"
SECONDS = st.integers(0, 10**6).map(lambda n: n / 1000)
MARKS = st.builds(
    Mark,
    at=SECONDS,
    track=st.sampled_from(TRACKS),
    kind=st.text(max_size=8),
    text=st.text(max_size=20),
    until=st.none() | SECONDS,
    amount=SECONDS,
)


def draw(marks):
    """Return the picture as a tree of XML elements."""
    return ET.fromstring(svg.render(marks))


def titles(marks):
    """Return all tooltips."""
    return [element.text for element in draw(marks).iter(f"{SVG}title")]


@given(st.lists(MARKS, max_size=30))
def test_picture_is_well_formed_and_shows_all_marks_within_its_frame(marks):
    tree = draw(marks)
    shown = {e.text for e in tree.iter(f"{SVG}title")}
    assert len(shown) >= len({mark.at for mark in marks if mark.until is None})
    width = float(tree.attrib["width"])
    for rect in tree.iter(f"{SVG}rect"):
        assert 0 <= float(rect.attrib.get("x", 0)) <= width


def test_picture_has_tooltips_labels_and_the_names_of_used_tracks():
    marks = [
        Mark(0.5, "user", "speech", "", 2.5),
        Mark(2.6, "user", "transcript", "two <plus> three & \x00 more"),
        Mark(1.0, "recorder", "died", "killed by SIGKILL"),
        Mark(3.0, "service", "audio", "", 3.1, 2.0),
        Mark(3.1, "speaker", "heard", "", 5.1, 2.0),
    ]
    assert titles(marks) == [
        "user, speech, 0.500 s to 2.500 s",
        "service, audio, 3.000 s to 3.100 s, 2.00 s of audio",
        "speaker, heard, 3.100 s to 5.100 s, 2.00 s of audio",
        "user, transcript, 2.600 s: two <plus> three &  more",
        "recorder, died, 1.000 s: killed by SIGKILL",
    ]
    shown = {element.text for element in draw(marks).iter(f"{SVG}text")}
    assert "two <plus> three &  more" in shown
    assert {"user", "recorder", "service", "speaker"} <= shown
    assert "tools" not in shown


def test_long_session_has_rows_of_half_a_minute_at_most_forty():
    height = {
        seconds: float(draw([Mark(seconds, "user", "transcript")]).attrib["height"])
        for seconds in (10, 25, 95, 3600, 7200)
    }
    assert height[10] == height[25] < height[95] < height[3600] == height[7200]
    assert len(titles([Mark(1.0, "user", "speech", "", 95.0)])) == 4


def test_picture_without_marks_is_valid():
    assert draw([]).tag == f"{SVG}svg"
