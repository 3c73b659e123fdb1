"""The newest time of many lines: the same as that of the parsed entries."""

from datetime import UTC, datetime, timedelta, timezone
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtalk_async.logs.entry import LINE_FORMATS, Level, LogEntry, format_line
from realtalk_async.logs.times.line_times import newest_time

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
moments = st.datetimes(datetime(1970, 1, 3), datetime(2200, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(tzinfo=UTC)
)


def text_of(moments, names):
    entries = [LogEntry(one, Level.INFO, "c", "x [y] {z}") for one in moments]
    return "".join(
        format_line(entry, LINE_FORMATS[name]) + "\n"
        for entry, name in zip(entries, names, strict=True)
    ).encode()


@given(st.lists(st.tuples(moments, st.sampled_from([*LINE_FORMATS])), min_size=1))
def test_the_newest_time_is_that_of_the_entries(lines):
    stamps, names = zip(*lines, strict=True)
    newest = max(one.timestamp() for one in stamps)
    text = text_of(stamps, names)
    found = newest_time(text, -inf)
    assert newest <= found <= newest + 3601.0  # a local time that comes twice
    assert newest <= newest_time(text, inf)


def test_an_invalid_hour_is_no_entry():
    assert newest_time(b"[2026-03-01 99:00:00] [INFO] [c] x\n") == inf


@pytest.mark.parametrize("offset", [-43200, 0, 50400, -2670])
def test_times_of_other_programs_count_with_their_offsets(offset):
    zone = timezone(timedelta(seconds=offset))
    moment = FIRST.astimezone(zone)
    lines = (
        f"[{moment.isoformat()}] [INFO] [c] x\n"
        f'{{"timestamp": "{moment.isoformat()}", "level": "INFO"}}\nnoise\n'
        f"[{(FIRST - timedelta(hours=1)).isoformat()}] [INFO] [c] x\n"
    )
    assert newest_time(lines.encode(), -inf) == FIRST.timestamp() + 1.0


@pytest.mark.parametrize("line", [b"[20260301] [INFO] [c] x\n", b'{"level":"INFO"}\n'])
def test_a_time_in_another_form_may_be_any_time(line):
    assert newest_time(b"[2026-03-01 00:00:00] [INFO] [c] x\n" + line) == inf


def test_lines_that_are_no_entries_have_no_time():
    assert newest_time(b"Traceback\n  x\n") == newest_time(b"") == -inf
