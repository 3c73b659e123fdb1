"""The format of a line: formatting and parsing are inverse for every entry."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.logs.entry import (
    LINE_FORMATS,
    Level,
    LogEntry,
    format_line,
    parse_line,
)
from realtalk_async.logs.serialize import CONTROLS

CONTROL = re.compile(f"[{CONTROLS}]")
AT = datetime.fromisoformat("2025-05-13 14:30:22").astimezone()

TEXT = st.text(st.characters())
"""Any text, with control characters and lone surrogates."""

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)
TIMES = st.integers(631_152_000, 4_102_444_800).map(
    lambda second: datetime.fromtimestamp(second, UTC).astimezone()
)
"""Whole seconds of local time, from 1990 to 2100."""

PIECES = [
    *("\\", "{", "}", '"', '{"', ' {"', "]", "[", " ", "\n", "\r\n", "\x1b[31m", ":1"),
    *("\\n", "\\x", "\\u", "a", '{"a":1}', "[2025-05-13 14:30:22] [ERROR] [x] "),
]
HOSTILE = st.lists(st.sampled_from(PIECES)).map("".join)
ANY_TEXT = TEXT | HOSTILE

ENTRIES = st.builds(
    LogEntry,
    timestamp=TIMES,
    level=st.sampled_from(Level),
    component=ANY_TEXT,
    message=ANY_TEXT,
    context=st.dictionaries(ANY_TEXT, JSON | HOSTILE),
)


def entry(message, context=None, component="sox_bg", level=Level.ERROR):
    return LogEntry(AT, level, component, message, context or {})


def test_a_line_has_time_level_component_message_and_context():
    line = format_line(
        entry("Process died unexpectedly", {"exit_status": 1, "uptime": "00:03:22"})
    )
    assert line == (
        "[2025-05-13 14:30:22] [ERROR] [sox_bg] Process died unexpectedly "
        '{"exit_status":1,"uptime":"00:03:22"}'
    )


def test_an_empty_context_is_omitted():
    assert str(entry("gone")) == "[2025-05-13 14:30:22] [ERROR] [sox_bg] gone"


@given(ENTRIES)
@example(entry("", {"a": 1}))
@example(entry(' {"a":1}'))
@example(entry('{"a":1}'))
@example(entry('{"a":1}', {"a": 1}))
@example(entry("{}"))
@example(entry("x {}"))
@example(entry("\\", {"": ""}))
@example(entry("x", component="] [INFO] [y] z"))
def test_parsing_is_the_inverse_of_formatting(original):
    line = format_line(original)
    assert parse_line(line) == original
    assert parse_line(line.encode() + b"\n") == original


@given(ENTRIES)
def test_the_line_of_any_entry_has_no_line_separator_or_control_character(original):
    line = format_line(original)
    assert len(line.splitlines()) == 1
    assert not CONTROL.search(line)


@given(ENTRIES)
def test_str_of_a_parsed_entry_is_its_line(original):
    line = format_line(original)
    parsed = parse_line(line)
    assert str(parsed) == line


@given(
    TEXT | st.binary() | HOSTILE | st.from_regex(r"\[.*\] \[(INFO|ERROR)\] \[.*\] .*")
)
def test_the_parser_never_raises(line):
    parsed = parse_line(line)
    assert parsed is None or isinstance(parsed, LogEntry)


@given(ENTRIES, st.sampled_from(sorted(LINE_FORMATS)))
def test_parsing_is_the_inverse_of_formatting_in_every_format(original, name):
    line = format_line(original, LINE_FORMATS[name])
    assert len(line.splitlines()) == 1
    assert not CONTROL.search(line)
    assert parse_line(line) == original


def test_iso_and_json_formats_have_milliseconds_and_the_offset():
    at = datetime(2025, 5, 13, 12, 30, 22, 123_000, UTC)
    original = LogEntry(at, Level.ERROR, "sox_bg", "died", {"exit_status": 1})
    stamp = at.astimezone().isoformat(timespec="milliseconds")
    iso = format_line(original, LINE_FORMATS["iso"])
    assert iso == f'[{stamp}] [ERROR] [sox_bg] died {{"exit_status":1}}'
    line = format_line(original, LINE_FORMATS["json"])
    assert line == (
        f'{{"timestamp":"{stamp}","level":"ERROR","component":"sox_bg",'
        '"message":"died","context":{"exit_status":1}}'
    )
    assert parse_line(iso) == parse_line(line) == original


@pytest.mark.parametrize(
    "change",
    [
        {"level": "DEBUG"},
        {"timestamp": "now"},
        {"timestamp": 3},
        {"message": None},
        {"component": []},
        {"context": []},
        {"level": []},
    ],
)
def test_json_with_missing_or_wrong_fields_is_not_an_entry(change):
    fields = entry("gone", {"a": 1}).to_dict()
    assert parse_line(json.dumps(fields)) is not None
    assert parse_line(json.dumps(fields | change)) is None


def test_a_message_cannot_forge_an_entry():
    """Scenario 28: newline, ANSI and a forged prefix stay within their entry."""
    message = "\n[2025-05-13 14:30:22] [ERROR] [x] \x1b[31mforged\x1b[0m"
    line = format_line(entry(message, level=Level.INFO, component="mic"))
    assert line == (
        r"[2025-05-13 14:30:22] [INFO] [mic] "
        r"\n[2025-05-13 14:30:22] [ERROR] [x] \x1b[31mforged\x1b[0m"
    )
    parsed = parse_line(line)
    assert parsed is not None
    assert (parsed.level, parsed.component) == (Level.INFO, "mic")
    assert parsed.message == message


@pytest.mark.parametrize(
    ("message", "stands"),
    [
        ("plain", "plain"),
        ("größer, 日本, 👩‍🔬", "größer, 日本, 👩‍🔬"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        (r"C:\new", r"C:\\new"),
        ('got {"a":1}', r'got \{"a":1}'),
        ('{"a":1}', r'\{"a":1}'),
        ('x{"a":1} {b} { "c" }', 'x{"a":1} {b} { "c" }'),
        ("\x00\x7f\x9b", r"\x00\x7f\x9b"),
        ("\u202ereversed\u2028", r"\u202ereversed\u2028"),
        ("\ud800", r"\ud800"),
    ],
)
def test_only_ambiguous_characters_of_a_message_are_escaped(message, stands):
    """People read and grep the file."""
    line = format_line(entry(message))
    assert line.removeprefix("[2025-05-13 14:30:22] [ERROR] [sox_bg] ") == stands


@pytest.mark.parametrize(
    ("body", "message", "context"),
    [
        ('died {"exit_status": 1}', "died", {"exit_status": 1}),
        ('died { "exit_status" : 1 }', 'died { "exit_status" : 1 }', {}),
        ('{"exit_status": 1}', "", {"exit_status": 1}),
        ("died []", "died []", {}),
        ('died {"broken": }', 'died {"broken": }', {}),
        ('died {"a": 1} really', 'died {"a": 1} really', {}),
        ('died {"a": NaN}', "died", {"a": pytest.approx(float("nan"), nan_ok=True)}),
        (r"regex \d+ \q", r"regex \d+ \q", {}),
        ("", "", {}),
    ],
)
def test_lines_of_other_programs_are_parsed(body, message, context):
    parsed = parse_line(f"[2025-05-13 14:30:22] [ERROR] [sox_bg] {body}")
    assert parsed is not None
    assert (parsed.message, parsed.context) == (message, context)


def test_a_line_without_the_last_space_is_an_entry():
    """An editor that strips spaces at line ends leaves an empty message like this."""
    parsed = parse_line("[2025-05-13 14:30:22] [INFO] [x]")
    assert parsed is not None
    assert parsed.message == ""


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello",
        "[2025-05-13 14:30:22] [DEBUG] [x] y",
        "[2025-05-13 14:30:22] [error] [x] y",
        "[2025-13-45 14:30:22] [ERROR] [x] y",
        "[] [ERROR] [x] y",
        "[2025-05-13 14:30:22] [ERROR] x y",
        " [2025-05-13 14:30:22] [ERROR] [x] y",
        "[2025-05-13 14:30:22] [ERROR] [x]y",
    ],
)
def test_a_line_without_time_level_or_brackets_is_not_an_entry(line):
    assert parse_line(line) is None


def test_a_time_with_an_offset_is_parsed_exactly():
    parsed = parse_line("[2025-05-13T14:30:22.250+02:00] [INFO] [x] y")
    assert parsed is not None
    assert parsed.timestamp == datetime.fromisoformat("2025-05-13T14:30:22.250+02:00")
    assert parsed.timestamp.tzinfo is not None
    local = parse_line("[2025-05-13 14:30:22] [INFO] [x] y")
    assert local is not None
    assert local.timestamp == AT


def test_invalid_utf8_is_replaced():
    parsed = parse_line(b"[2025-05-13 14:30:22] [INFO] [x] a\xffb")
    assert parsed is not None
    assert parsed.message == "a\ufffdb"


def test_level_names_ignore_case_and_unknown_names_are_refused():
    assert Level.of("error") is Level.ERROR
    with pytest.raises(ValueError, match="'INFO', 'WARNING' or 'ERROR'"):
        Level.of("DEBUG")
    with pytest.raises(InvalidConfiguration, match=r"level must be .*, not 3"):
        Level.of(3)


def test_to_dict_is_ready_for_json():
    fields = entry("gone", {"a": [1]}).to_dict()
    assert fields == {
        "timestamp": AT.isoformat(),
        "level": "ERROR",
        "component": "sox_bg",
        "message": "gone",
        "context": {"a": [1]},
    }
    assert datetime.fromisoformat(AT.isoformat()) - AT == timedelta(0)
