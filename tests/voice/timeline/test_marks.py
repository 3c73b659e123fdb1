import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.voice.timeline import marks, svg

SECONDS = st.integers(0, 10**6).map(lambda n: n / 1000)
MARKS = st.builds(
    marks.Mark,
    at=SECONDS,
    track=st.sampled_from(marks.TRACKS),
    kind=st.text(max_size=8),
    text=st.text(max_size=20),
    until=st.none() | SECONDS,
    amount=SECONDS,
)


@given(st.lists(MARKS, max_size=20))
def test_saved_marks_are_loaded_unchanged(tmp_path_factory, saved):
    path = tmp_path_factory.mktemp("timeline") / "marks.jsonl"
    marks.save(saved, path)
    loaded = marks.load(path)
    assert [mark.to_dict() for mark in loaded] == [mark.to_dict() for mark in saved]


@pytest.mark.parametrize(
    "line",
    ['{"at":1', "[]", "{}", '{"at":1,"track":"x"}', '{"at":"1","track":"user"}'],
)
def test_error_of_an_invalid_file_has_the_line_number(tmp_path, line):
    path = tmp_path / "marks.jsonl"
    path.write_text('{"at":1,"track":"user"}\n\n' + line)
    with pytest.raises(InvalidConfiguration, match="line 3"):
        svg.render(path)
