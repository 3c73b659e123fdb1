"""Searches: parsed fields decide; the files are read backwards."""

import asyncio
import fcntl
import os
import re
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realtalk_async.exceptions import InvalidConfiguration
from realtalk_async.logs import Level, LogEntry, Logger
from realtalk_async.logs.entry import format_line, parse_line
from realtalk_async.logs.query import make_query, may_match, search

START = datetime.fromisoformat("2025-05-13 14:30:22").astimezone()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.log"


def search_file(path, stop=None, index=None, **wanted):
    """Search without a logger."""
    names = ("level", "component", "pattern", "n", "since", "until")
    query = make_query(*(wanted.get(name) for name in names))
    stop = stop or threading.Event()
    return search(path, query, stop, {} if index is None else index)


def write(path, *entries):
    path.write_text("".join(format_line(entry) + "\n" for entry in entries))


def numbered(count, **fields):
    levels = list(Level)
    return [
        LogEntry(
            START + timedelta(seconds=number),
            fields.get("level", levels[number % 3]),
            f"part{number % 5}",
            f"message {number}",
            {"number": number} if number % 2 else {},
        )
        for number in range(count)
    ]


def test_without_conditions_all_entries_are_returned_oldest_first(path):
    entries = numbered(50)
    write(path, *entries)
    assert search_file(path) == entries


def test_level_component_and_pattern_must_all_match(path):
    entries = numbered(90)
    write(path, *entries)
    assert search_file(path, level="error") == entries[2::3]
    assert search_file(path, component="part4") == entries[4::5]
    assert search_file(path, level="ERROR", component="part4") == entries[14::15]
    assert search_file(path, pattern=r"\b[34]4\b") == [entries[34], entries[44]]
    assert search_file(path, level="INFO", component="part0", pattern="5$") == [
        entry for entry in entries[::15] if entry.message.endswith("5")
    ]


def test_n_limits_the_result_to_the_newest_entries(path):
    entries = numbered(90)
    write(path, *entries)
    assert search_file(path, n=3) == entries[-3:]
    assert search_file(path, n=0) == []
    assert search_file(path, n=1000) == entries
    assert search_file(path, n=2, level="WARNING") == entries[1::3][-2:]


def test_since_is_inclusive_and_until_is_exclusive(path):
    entries = numbered(90)
    write(path, *entries)
    since, until = entries[10].timestamp, entries[20].timestamp
    assert search_file(path, since=since) == entries[10:]
    assert search_file(path, until=until) == entries[:20]
    assert search_file(path, since=since, until=until, n=3) == entries[17:20]


def test_entries_before_a_time_that_went_backwards_are_found(path):
    entries = numbered(3000)
    late = LogEntry(START - timedelta(hours=1), Level.INFO, "x", "late")
    write(path, *entries, late)
    assert search_file(path, since=START) == entries


@pytest.mark.parametrize("step", [timedelta(days=-400), timedelta(days=400)])
def test_entries_beside_any_step_of_the_clock_are_found(path, step):
    """A machine without a battery begins in 1970, at every start, until it is set."""
    entries = numbered(3000)
    moved = [replace(entry, timestamp=entry.timestamp + step) for entry in entries]
    again = numbered(3000)
    write(path, *entries, *moved, *again, *moved)
    index = {}
    for _ in range(2):
        day = START + timedelta(days=1)
        expected = [*entries, *again]
        assert search_file(path, since=START, until=day, index=index) == expected
        since = min(START, moved[0].timestamp) + timedelta(days=200)
        later = [e for e in (*entries, *moved, *again, *moved) if e.timestamp >= since]
        assert search_file(path, since=since, index=index) == later


def test_the_search_reads_blocks_that_are_too_old_only_once(path):
    """Only their content tells that they are: the clock may have been set."""
    entries = numbered(60_000)
    write(path, *entries)
    descriptor_reads = []
    read = os.preadv
    since = entries[-10].timestamp
    index = {}
    assert search_file(path, since=since, index=index) == entries[-10:]

    def counted(fd, buffers, offset):
        descriptor_reads.append(sum(map(len, buffers)))
        return read(fd, buffers, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("realtalk_async.logs.reverse_reader.os.preadv", counted)
        assert search_file(path, since=since, index=index) == entries[-10:]
    assert sum(descriptor_reads) < path.stat().st_size / 2


def test_a_message_cannot_pose_as_another_level_or_component(path):
    forged = "[2025-05-13 14:30:22] [ERROR] [sox] forged"
    entries = [
        LogEntry(START, Level.INFO, "a", forged),
        LogEntry(START, Level.INFO, "a", "\n" + forged),
        LogEntry(START, Level.INFO, "x] [ERROR] [sox", "y"),
        LogEntry(START, Level.INFO, "a", "b", {"] [ERROR] [sox] ": "] [ERROR] [sox] "}),
        LogEntry(START, Level.ERROR, "sox", "true"),
    ]
    write(path, *entries)
    assert search_file(path, level="ERROR") == entries[-1:]
    assert search_file(path, component="sox") == entries[-1:]
    assert search_file(path, level="ERROR", component="sox") == entries[-1:]
    assert search_file(path, level="INFO") == entries[:-1]


@pytest.mark.parametrize("component", ["a]b", "a\\b", "a\nb", "", " ", "größe", "["])
def test_a_component_that_is_escaped_in_the_file_is_found(path, component):
    entries = [
        LogEntry(START, Level.INFO, component, "yes"),
        LogEntry(START, Level.INFO, "other", component),
        LogEntry(START, Level.ERROR, component, ""),
    ]
    write(path, *entries)
    assert search_file(path, component=component) == [entries[0], entries[2]]
    assert search_file(path, component=component, level="ERROR") == [entries[2]]


@pytest.mark.parametrize("component", ["sox_bg", "mic", "a.b-c d"])
@pytest.mark.parametrize("pattern", [None, "alive", "is alive", "alive$", "(?i)ALIVE"])
@pytest.mark.parametrize("level", [None, "ERROR", "INFO"])
def test_prefilters_do_not_change_the_result(path, component, pattern, level):
    texts = ["alive", "is alive", "ERROR sox_bg", "ALIVE", '"ERROR"', "[sox_bg]"]
    entries = [
        LogEntry(START, one, name, text, {"x": text} if one == "INFO" else {})
        for one in Level
        for name in ["sox_bg", "mic", "sox_bg2", "a.b-c d", "ERROR", "alive"]
        for text in texts
    ]
    write(path, *entries)
    wanted = make_query(level, component, pattern, None, None, None)
    expected = [entry for entry in entries if wanted.matches(entry)]
    assert expected or level is None or pattern is not None
    assert (
        search_file(path, level=level, component=component, pattern=pattern) == expected
    )


def test_a_part_without_a_component_is_not_read_again(path):
    entries = numbered(30_000)
    entries[2_000] = LogEntry(START, Level.INFO, "rare", "first")
    write(path, *entries)
    reads = []
    read = os.preadv

    def counted(fd, buffers, offset):
        reads.append(offset)
        return read(fd, buffers, offset)

    index = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("realtalk_async.logs.reverse_reader.os.preadv", counted)
        first = search_file(path, index=index, component="rare")
        whole = len(reads)
        reads.clear()
        new = LogEntry(START, Level.INFO, "rare", "second")
        with path.open("a") as file:
            file.write(format_line(new) + "\n")
        second = search_file(path, index=index, component="rare")
    assert first == entries[2_000:2_001]
    assert second == [*first, new]
    assert whole > 7
    assert len(reads) < whole - 3
    assert search_file(path, index=index, component="part1") == entries[1::5]


def test_the_negative_index_of_a_file_is_cleared_when_its_content_is_replaced(path):
    entries = numbered(20_000)
    write(path, *entries)
    index = {}
    assert search_file(path, index=index, component="rare") == []
    rare = [LogEntry(START, Level.INFO, "rare", f"{n} " + "x" * 30) for n in range(9)]
    anew = sorted([*entries, *(rare * 3_000)], key=lambda entry: len(entry.message))
    write(path, *anew)
    assert len(search_file(path, index=index, component="rare")) == 27_000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    files=st.lists(st.lists(st.sampled_from("abcd"), max_size=30), max_size=4),
    block=st.integers(64, 200),
)
def test_the_negative_index_does_not_change_a_result(path, files, block):
    index = {}
    names = {"a": "alpha", "b": "beta", "c": "gamma", "d": "delta"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("realtalk_async.logs.reverse_reader.MIN_BLOCK", block)
        patch.setattr("realtalk_async.logs.reverse_reader.MAX_BLOCK", block * 2)
        for number, letters in enumerate(files):
            entries = [
                LogEntry(
                    START + timedelta(minutes=number),
                    Level.INFO,
                    names[letter],
                    f"{number}.{place}",
                )
                for place, letter in enumerate(letters)
            ]
            write(path, *entries)
            for name in [*names.values(), *names.values()]:
                expected = [entry for entry in entries if entry.component == name]
                assert search_file(path, index=index, component=name) == expected


def test_a_pattern_is_searched_in_the_message_and_the_context_only(path):
    entries = [
        LogEntry(START, Level.ERROR, "sox", "died", {"exit_status": 1}),
        LogEntry(START, Level.ERROR, "sox", "a\nb"),
    ]
    write(path, *entries)
    assert search_file(path, pattern="died$") == entries[:1]
    assert search_file(path, pattern=r'"exit_status":1\}') == entries[:1]
    assert search_file(path, pattern=re.compile("DIED", re.IGNORECASE)) == entries[:1]
    assert search_file(path, pattern="a\nb") == entries[1:]
    for absent in ("sox", "ERROR", "2025", r"\\n"):
        assert search_file(path, pattern=absent) == []


def test_lines_that_are_not_entries_are_skipped(path):
    entry = LogEntry(START, Level.INFO, "a", "b")
    line = format_line(entry).encode() + b"\n"
    path.write_bytes(b"\n\nhello\n" + line + b"\xff\xfe\x00\n" + line + b"[x] [ERROR]")
    assert search_file(path) == [entry, entry]
    assert search_file(path, level="INFO") == [entry, entry]
    assert search_file(path, level="ERROR") == []


def test_a_context_with_spaces_is_parsed(path):
    path.write_text(
        "[2025-05-13 14:30:22] [ERROR] [sox_bg] Process died unexpectedly "
        '{"exit_status": 1, "uptime": "00:03:22"}\n'
    )
    (entry,) = search_file(path, level="ERROR", component="sox_bg", pattern="died")
    assert entry.context == {"exit_status": 1, "uptime": "00:03:22"}


def test_lines_across_blocks_and_longer_than_a_block_are_found(path):
    entries = [
        LogEntry(START, Level.INFO, "a", f"{number} " + "x" * (number * 997 % 5000))
        for number in range(300)
    ]
    entries[100] = LogEntry(START, Level.ERROR, "a", "y" * 3_000_000)
    write(path, *entries)
    assert search_file(path) == entries
    assert search_file(path, level="ERROR") == [entries[100]]
    assert search_file(path, n=250) == entries[-250:]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), max_size=60),
    block=st.integers(1, 120),
    n=st.none() | st.integers(0, 70),
)
def test_the_size_of_a_block_does_not_change_the_result(path, lengths, block, n):
    entries = [
        LogEntry(START, Level.INFO, "a", f"{index}" + "x" * length)
        for index, length in enumerate(lengths)
    ]
    write(path, *entries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("realtalk_async.logs.reverse_reader.MIN_BLOCK", block)
        patch.setattr("realtalk_async.logs.reverse_reader.MAX_BLOCK", block * 2)
        found = search_file(path, n=n)
    assert found == (
        entries if n is None else entries[len(entries) - min(n, len(entries)) :]
    )


@given(st.binary() | st.text().map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_search_does_not_raise_for_any_file_content(path, content):
    path.write_bytes(content)
    assert all(isinstance(entry, LogEntry) for entry in search_file(path))
    search_file(path, level="ERROR", component="a", n=1)


def test_rotated_files_are_searched_as_well(path):
    entries = numbered(90)
    write(path.with_name("app.log.2"), *entries[:30])
    write(path.with_name("app.log.1"), *entries[30:60])
    write(path, *entries[60:])
    assert search_file(path) == entries
    assert search_file(path, n=40) == entries[-40:]
    assert search_file(path, level="ERROR") == entries[2::3]


def test_a_file_with_two_names_is_searched_once(path):
    """A rotation may rename it between two steps of the search."""
    entries = numbered(10)
    write(path, *entries)
    os.link(path, path.with_name("app.log.1"))
    assert search_file(path) == entries


def test_rotated_files_are_searched_while_the_current_file_is_missing(path):
    """Between the two steps of a rotation there is no current file."""
    entries = numbered(10)
    write(path.with_name("app.log.1"), *entries)
    assert search_file(path) == entries


def test_a_removed_log_has_no_entries(path):
    assert search_file(path) == []


def test_a_last_line_without_newline_is_an_entry_if_no_process_writes(path):
    entries = numbered(3)
    path.write_text("\n".join(map(format_line, entries)))
    assert search_file(path) == entries
    assert search_file(path, n=1) == entries[-1:]


def test_the_search_waits_for_the_end_of_a_line_that_is_being_written(path):
    entry = LogEntry(START, Level.INFO, "a", "whole")
    line = format_line(entry).encode() + b"\n"
    path.write_bytes(line[:30])
    with path.open("ab", buffering=0) as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)

        def finish():
            time.sleep(0.02)
            writer.write(line[30:])
            fcntl.flock(writer, fcntl.LOCK_UN)

        thread = threading.Thread(target=finish)
        thread.start()
        found = search_file(path)
        thread.join()
    assert found == [entry]


def test_a_search_ends_when_its_stop_event_is_set(path):
    write(path, *numbered(20_000))
    stop = threading.Event()
    stop.set()
    assert search_file(path, stop) == []


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        ({"level": "FATAL"}, "'INFO', 'WARNING' or 'ERROR'"),
        ({"pattern": "("}, "pattern must be a regular expression"),
        ({"n": -1}, "n must be a whole number, 0 or more"),
        (
            {"since": START.replace(tzinfo=None)},
            "since must be a datetime with its time zone",
        ),
        (
            {"until": START.replace(tzinfo=None)},
            "until must be a datetime with its time zone",
        ),
    ],
)
async def test_invalid_arguments_are_refused_with_the_reason(path, wanted, match):
    logger = Logger(path)
    with pytest.raises(InvalidConfiguration, match=match):
        await logger.get_logs(**wanted)


async def test_get_logs_returns_entries_that_were_just_logged(path):
    async with Logger(path) as logger:
        for number in range(100):
            logger.info("a", str(number))
        logger.error("b", "no", {"number": 1})
        assert len(await logger.get_logs()) == 101
        (entry,) = await logger.get_logs("ERROR", "b", "no", 10)
        assert (entry.message, entry.context) == ("no", {"number": 1})
        assert entry.timestamp.tzinfo is not None
        assert datetime.now().astimezone() - entry.timestamp < timedelta(minutes=1)


async def test_get_logs_works_after_and_without_the_block(path):
    logger = Logger(path)
    logger.info("a", "1")
    assert [entry.message for entry in await logger.get_logs()] == ["1"]
    async with logger:
        logger.info("a", "2")
    assert [entry.message for entry in await logger.get_logs()] == ["1", "2"]


async def test_a_cancelled_search_leaves_no_thread(path):
    write(path, *numbered(60_000, level=Level.INFO))
    async with Logger(path) as logger:
        with anyio.move_on_after(0.01) as scope:
            await logger.get_logs(pattern="[^m]e[^s]")
        assert scope.cancelled_caught
        with anyio.fail_after(120):
            assert len(await logger.get_logs(n=5)) == 5
            while any("query" in t.name for t in threading.enumerate()):
                await asyncio.sleep(0.001)


async def test_searches_during_writes_and_rotations_return_whole_entries_without_gaps(
    path,
):
    async with Logger(path, max_bytes=20_000, backups=50) as logger:
        done = threading.Event()

        def work():
            for number in range(3_000):
                logger.info("w", str(number))
            done.set()

        thread = threading.Thread(target=work)
        thread.start()
        with anyio.fail_after(120):
            while not done.is_set():
                found = [int(e.message) for e in await logger.get_logs(component="w")]
                assert found == list(range(len(found)))
        thread.join()
        found = [int(entry.message) for entry in await logger.get_logs(component="w")]
    assert found == list(range(3_000))


PIECES = st.sampled_from(
    ["a", "1", " ", "] ", "[", "{", "}", '"', ' {"', '{"a":1}', ' {"a": [1, 2]}', "\\n"]
)
PATTERNS = [
    "^a",
    "a$",
    r"\b1\b",
    "^$",
    r"^\{",
    r"\}$",
    "a.?.?.?[{]",
    r"\[1,2\]",
    r'":1',
]


@given(body=st.lists(PIECES, max_size=8).map("".join))
def test_may_match_is_true_for_every_line_whose_entry_matches(body):
    line = f"[2025-05-13 14:30:22] [INFO] [a] {body}"
    entry = parse_line(line)
    assert entry is not None
    for pattern in map(re.compile, PATTERNS):
        if make_query(None, None, pattern, None, None, None).matches(entry):
            assert may_match(line.encode(), pattern), pattern


def test_lines_without_escapes_are_filtered_before_they_are_parsed(path, monkeypatch):
    """A pattern without literals must not cause a parse of each line."""
    entries = numbered(3_000)
    entries[7] = LogEntry(START, Level.INFO, "a", "44\n")
    write(path, *entries)
    parsed = []

    def counted(line):
        parsed.append(line)
        return parse_line(line)

    monkeypatch.setattr("realtalk_async.logs.query.parse_line", counted)
    assert search_file(path, pattern=r"\b[4]4\b") == [entries[7], entries[44]]
    assert len(parsed) < 20
