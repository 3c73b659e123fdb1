"""One entry as one line, there and back, whatever it holds."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.logs.entry import LAYOUTS, Level, LogEntry, format_line, parse_line
from realtalk_async.logs.serialize import CONTROLS

CONTROL = re.compile(f"[{CONTROLS}]")
AT = datetime.fromisoformat("2025-05-13 14:30:22").astimezone()

TEXT = st.text(st.characters())
"""Any text, controls and lone surrogates included."""

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


def test_the_format_is_the_one_of_the_note():
    """Time, level, component, message, context; no spaces in the JSON."""
    line = format_line(
        entry("Process died unexpectedly", {"exit_status": 1, "uptime": "00:03:22"})
    )
    assert line == (
        "[2025-05-13 14:30:22] [ERROR] [sox_bg] Process died unexpectedly "
        '{"exit_status":1,"uptime":"00:03:22"}'
    )


def test_an_empty_context_is_omitted():
    """Nothing follows the message then."""
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
def test_any_entry_comes_back_as_it_was(original):
    """Formatting and parsing are each other's inverse."""
    line = format_line(original)
    assert parse_line(line) == original
    assert parse_line(line.encode() + b"\n") == original


@given(ENTRIES)
def test_one_entry_is_one_harmless_line(original):
    """No line separator of any kind, no control, no escape sequence gets through."""
    line = format_line(original)
    assert len(line.splitlines()) == 1
    assert not CONTROL.search(line)


@given(ENTRIES)
def test_the_line_of_a_parsed_line_is_the_same_line(original):
    """`str` of what was read is what stands in the file."""
    line = format_line(original)
    parsed = parse_line(line)
    assert str(parsed) == line


@given(
    TEXT | st.binary() | HOSTILE | st.from_regex(r"\[.*\] \[(INFO|ERROR)\] \[.*\] .*")
)
def test_no_line_whatsoever_makes_the_parser_raise(line):
    """Fuzz: a line is an entry or it is not."""
    parsed = parse_line(line)
    assert parsed is None or isinstance(parsed, LogEntry)


@given(ENTRIES, st.sampled_from(sorted(LAYOUTS)))
def test_every_format_is_read_back_as_it_was(original, name):
    """One harmless line, the same entry."""
    line = format_line(original, LAYOUTS[name])
    assert len(line.splitlines()) == 1
    assert not CONTROL.search(line)
    assert parse_line(line) == original


def test_the_other_formats_have_milliseconds_and_the_offset():
    """ISO 8601, in brackets or in a JSON object."""
    at = datetime(2025, 5, 13, 12, 30, 22, 123_000, UTC)
    original = LogEntry(at, Level.ERROR, "sox_bg", "died", {"exit_status": 1})
    stamp = at.astimezone().isoformat(timespec="milliseconds")
    iso = format_line(original, LAYOUTS["iso"])
    assert iso == f'[{stamp}] [ERROR] [sox_bg] died {{"exit_status":1}}'
    line = format_line(original, LAYOUTS["json"])
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
def test_json_that_is_no_entry_is_none(change):
    """Each field must be what it is."""
    fields = entry("gone", {"a": 1}).to_dict()
    assert parse_line(json.dumps(fields)) is not None
    assert parse_line(json.dumps(fields | change)) is None


def test_a_message_cannot_forge_an_entry():
    """Scenario 28: newline, ANSI and a forged header stay within their entry."""
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
def test_what_is_escaped_in_a_message(message, stands):
    """As little as possible, so that people can read and grep it."""
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
def test_lines_that_others_wrote_are_read_too(body, message, context):
    """JSON with spaces; what is no JSON object belongs to the message."""
    parsed = parse_line(f"[2025-05-13 14:30:22] [ERROR] [sox_bg] {body}")
    assert parsed is not None
    assert (parsed.message, parsed.context) == (message, context)


def test_a_line_without_the_last_space_is_an_entry():
    """An editor that strips spaces at the end leaves an empty message so."""
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
def test_what_is_no_entry_is_none(line):
    """Another level, no time, no brackets."""
    assert parse_line(line) is None


def test_a_time_with_its_offset_is_that_moment():
    """ISO 8601 is read; without an offset it is local time."""
    parsed = parse_line("[2025-05-13T14:30:22.250+02:00] [INFO] [x] y")
    assert parsed is not None
    assert parsed.timestamp == datetime.fromisoformat("2025-05-13T14:30:22.250+02:00")
    assert parsed.timestamp.tzinfo is not None
    local = parse_line("[2025-05-13 14:30:22] [INFO] [x] y")
    assert local is not None
    assert local.timestamp == AT


def test_bytes_that_are_not_utf8_are_replaced():
    """A reader shows what it can."""
    parsed = parse_line(b"[2025-05-13 14:30:22] [INFO] [x] a\xffb")
    assert parsed is not None
    assert parsed.message == "a\ufffdb"


def test_levels_are_found_by_name_in_any_case():
    """Three levels; another name is an error that lists them."""
    assert Level.of("error") is Level.ERROR
    with pytest.raises(ValueError, match="INFO, WARNING, ERROR"):
        Level.of("DEBUG")
    with pytest.raises(InvalidConfiguration, match="no log level 3"):
        Level.of(3)


def test_an_entry_is_ready_for_json():
    """`to_dict` has the time in ISO 8601 with its offset."""
    told = entry("gone", {"a": [1]}).to_dict()
    assert told == {
        "timestamp": AT.isoformat(),
        "level": "ERROR",
        "component": "sox_bg",
        "message": "gone",
        "context": {"a": [1]},
    }
    assert datetime.fromisoformat(AT.isoformat()) - AT == timedelta(0)
